"""The gradient of a weighted sum of energies, and how much it scatters between replicas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from stablemd.errors import ConfigError, PotentialError
from stablemd.estimators.frames import SampledFrames
from stablemd.estimators.weighted_energies import WeightedEnergies
from stablemd.potentials.base import Potential

MIN_PROBE_FRAMES = 8
MIN_GROUP_FRAMES = 32
"""A group with fewer frames would make passes that are too small to be efficient."""

PROBE_SHARE = 16
"""One frame in this many serves to estimate the average ∂U/∂θ."""


class Surrogate(Protocol):
    """A sum over frames whose gradient is wanted, to be had in parts."""

    @property
    def coefficients(self) -> Tensor:
        """Of the energies of the frames, (n,) or (n, N) for atomic ones."""

    def __len__(self) -> int: ...

    def sum(self, index: Tensor) -> Tensor:
        """The part of the frames at ``index``: a scalar with graph."""


@dataclass(frozen=True)
class GradientSum:
    """A parameter gradient with the variance that its groups of frames show.

    Attributes:
        gradient: one float64 tensor per trained parameter.
        variance: trace of the covariance matrix of the gradient, at a fixed
            slope of the loss; NaN where there are fewer than two groups.
        n_groups: groups that were compared; 0 where none were asked for.
    """

    gradient: list[Tensor]
    variance: float
    n_groups: int

    @cached_property
    def norm(self) -> float:
        return _square(self.gradient) ** 0.5

    def add_to(self, parameters: list[nn.Parameter]) -> None:
        """Add the gradient to the parameters' ``.grad``."""
        for parameter, gradient in zip(parameters, self.gradient, strict=True):
            added = gradient.to(parameter.dtype)
            parameter.grad = added if parameter.grad is None else parameter.grad + added


def trained_parameters(potential: Potential) -> list[nn.Parameter]:
    """The parameters with ``requires_grad``.

    Raises:
        PotentialError: there are none.
    """
    parameters = [p for p in potential.parameters() if p.requires_grad]
    if not parameters:
        raise PotentialError(
            f"{type(potential).__name__} has no parameter with requires_grad, so there is "
            "nothing to train; unfreeze at least one parameter"
        )
    return parameters


def weighted_sum_gradient(
    parameters: list[nn.Parameter], energies: Surrogate, *, chunk_size: int
) -> GradientSum:
    """∇θ of a weighted sum of energies, chunk by chunk.

    The graph of one chunk is all that is ever held.  The chunks' gradients are
    summed in float64, since the coefficients sum to zero and most of each
    chunk's gradient cancels.

    Args:
        parameters: what to differentiate with respect to.
        energies: frames and coefficients.
        chunk_size: frames per forward and backward pass.

    Raises:
        ConfigError: ``chunk_size`` is not positive.
    """
    total = _zeros(parameters)
    everything = torch.arange(len(energies))
    for index in _chunks(everything, chunk_size):
        _accumulate(total, parameters, energies.sum(index))
    return GradientSum(total, float("nan"), 0)


def frames_gradient(
    parameters: list[nn.Parameter],
    energies: WeightedEnergies,
    used: SampledFrames,
    used_weights: Tensor,
    everything: SampledFrames,
    weights: Tensor,
    *,
    chunk_size: int,
    noise_groups: int,
) -> GradientSum:
    """The gradient of frames with coefficients, with its variance if groups are asked for.

    Args:
        parameters: what to differentiate with respect to.
        energies: frames and coefficients of the backward pass.
        used: the same frames, with their groups.
        used_weights: their weights in the average.
        everything: all frames of the average, from which <∂U/∂θ> is estimated.
        weights: of these, summing to one.
        chunk_size: frames per forward and backward pass.
        noise_groups: groups to compare at most; 0 for none.  Frames that fit into
            one chunk are compared by one contrast instead.
    """
    if not len(energies):  # no frame differs from the average, as where nothing begins to fail
        return GradientSum(_zeros(parameters), float("nan"), 0)
    if not noise_groups:
        return weighted_sum_gradient(parameters, energies, chunk_size=chunk_size)
    if len(energies) <= chunk_size:
        return contrasted_gradient(parameters, energies, used.independent, used_weights)
    noise_groups = max(2, min(noise_groups, len(energies) // min(chunk_size, MIN_GROUP_FRAMES)))
    index = probe_frames(len(everything), chunk_size).to(weights.device)
    shares = weights[index] / weights[index].sum().clamp_min(torch.finfo(weights.dtype).tiny)
    return grouped_gradient(
        parameters,
        energies,
        used.independent,
        used_weights,
        chunk_size=chunk_size,
        max_groups=noise_groups,
        probe=WeightedEnergies.of_frames(
            energies.potential, energies.system, everything.select(index), shares
        ),
    )


def contrasted_gradient(
    parameters: list[nn.Parameter], energies: WeightedEnergies, group: Tensor, weights: Tensor
) -> GradientSum:
    """Gradient and variance of frames that fit into one pass, at the cost of one more backward.

    Half of the groups count with the opposite sign: ``D = Σ_k s_k P_k`` loses
    the gradient, which all groups share, and keeps the noise, ``E|D|² = Σ_k Var P_k``.
    One graph serves both.  With ``P_k = Σ_{i in k} c_i (∂U_i - <∂U>)`` the average
    needs no pass of its own: it is part of the coefficients of D.

    Args:
        parameters: what to differentiate with respect to.
        energies: frames and coefficients, n of them.
        group: group of each frame, (n,) int64.
        weights: weight of each frame in the average, (n,).
    """
    held = energies.hold()
    everything = torch.arange(len(energies))
    shares = (weights / weights.sum()).to(energies.coefficients)
    signs, n_groups = _balanced_signs(group, shares)
    if n_groups < 2:
        return weighted_sum_gradient(parameters, held, chunk_size=len(energies))
    shape = (-1,) + (1,) * (energies.coefficients.ndim - 1)
    shares, signs = shares.reshape(shape), signs.reshape(shape)
    signed = signs * energies.coefficients
    contrast = held.with_(signed - shares * signed.sum(dim=0))
    total = _flat_gradient(held.sum(everything), parameters, retain_graph=True)
    difference = _flat_gradient(contrast.sum(everything), parameters)
    difference -= float((signs * shares).sum()) * total
    parts = total.split([p.numel() for p in parameters])
    gradient = [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]
    return GradientSum(gradient, float(difference @ difference), n_groups)


def _balanced_signs(group: Tensor, shares: Tensor) -> tuple[Tensor, int]:
    """A sign for every frame's group, (n,), with about equal weight on both sides."""
    _, index = torch.unique(group, return_inverse=True)
    n_groups = int(index.max()) + 1 if len(index) else 0
    weight = shares.new_zeros(n_groups).index_add(0, index.to(shares.device), shares)
    signs = torch.ones_like(weight)
    balance = 0.0
    # By chance among equals: numbers of groups may have a pattern, such as copies have.
    chance = torch.randperm(n_groups, generator=torch.Generator().manual_seed(0))
    order = chance[weight.cpu()[chance].argsort(descending=True, stable=True)]
    for k in order.tolist():
        signs[k] = -1.0 if balance > 0.0 else 1.0
        balance += float(signs[k] * weight[k])
    return signs[index], n_groups


def grouped_gradient(
    parameters: list[nn.Parameter],
    energies: Surrogate,
    group: Tensor,
    weights: Tensor,
    *,
    chunk_size: int,
    max_groups: int,
    probe: WeightedEnergies,
) -> GradientSum:
    """The same gradient with the variance that independent groups of frames reveal.

    The passes go group by group, so that the gradient of each group is at hand
    when its last chunk is done; only running sums over groups are kept, and no
    gradient of a single frame is formed.  The part of group k is
    ``P_k = Σ_{i in k} c_i (∂U_i - <∂U>)``; the variance of their sum is
    ``K/(K-1) Σ_k |P_k - W_k Σ P|²`` with W_k the weight of the group.  <∂U> is
    not known during the pass: it is estimated once from the few frames of
    ``probe``, which costs a small part of a pass and enters the variance in
    second order only.

    Args:
        parameters: what to differentiate with respect to.
        energies: frames and coefficients, n of them.
        group: group of each frame, (n,) int64.
        weights: weight of each frame in the average, (n,).
        chunk_size: frames per forward and backward pass.
        max_groups: more groups than this are merged, so that a pass keeps a
            sensible size.
        probe: frames for <∂U>, with their weights, which sum to one.

    Raises:
        ConfigError: ``chunk_size`` is not positive or ``max_groups`` under two.

    Reference: the jackknife with groups of unequal weight, Busing, Meijer and
    van der Leeden, Stat. Comput. 9, 3 (1999).
    """
    if max_groups < 2:
        raise ConfigError(f"max_groups must be at least 2 to compare groups, got {max_groups}")
    block = merged_groups(group.cpu(), max_groups)
    n_blocks = len(block.unique())
    if n_blocks < 2:
        return weighted_sum_gradient(parameters, energies, chunk_size=chunk_size)
    shares = torch.zeros(n_blocks, dtype=torch.float64)
    shares = shares.index_add(0, block, weights.detach().cpu().double())
    shares = shares / shares.sum()
    total, summed, leaning = (_zeros(parameters) for _ in range(3))
    squares = 0.0
    baseline = _Baseline(parameters, energies, probe, chunk_size)
    for k in range(n_blocks):
        members = torch.nonzero(block == k).flatten()
        part = _zeros(parameters)
        for index in _chunks(members, chunk_size):
            _accumulate(part, parameters, energies.sum(index))
        _add(total, part)
        baseline.subtract(part, members)
        squares += _square(part)
        _add(summed, part)
        _add(leaning, part, float(shares[k]))
    scatter = squares - 2.0 * _dot(summed, leaning)
    scatter += float(shares.square().sum()) * _square(summed)
    return GradientSum(total, max(scatter, 0.0) * n_blocks / (n_blocks - 1), n_blocks)


def probe_frames(n_frames: int, chunk_size: int) -> Tensor:
    """Index of evenly spaced frames, a small share of all, that estimate <∂U>."""
    size = min(n_frames, chunk_size, max(MIN_PROBE_FRAMES, n_frames // PROBE_SHARE))
    return torch.linspace(0, n_frames - 1, size).round().to(torch.int64).unique()


def merged_groups(group: Tensor, max_groups: int) -> Tensor:
    """Groups renumbered from 0, at most ``max_groups``, merged to similar numbers of frames."""
    _, index, counts = torch.unique(group, return_inverse=True, return_counts=True)
    if len(counts) <= max_groups:
        return index
    middle = counts.cumsum(0) - 0.5 * counts
    place = (middle * max_groups / counts.sum()).long().clamp_max(max_groups - 1)
    return torch.unique(place[index], return_inverse=True)[1]


class _Baseline:
    """What a group's coefficients give with average energies instead of its own."""

    def __init__(
        self,
        parameters: list[nn.Parameter],
        energies: Surrogate,
        probe: WeightedEnergies,
        chunk_size: int,
    ) -> None:
        self._parameters = parameters
        self._energies = energies
        self._probe = probe
        self._chunk_size = chunk_size
        self._mean: list[Tensor] | None = None

    def subtract(self, part: list[Tensor], members: Tensor) -> None:
        """Take it from the gradient of the group with these frames."""
        members = members.to(self._energies.coefficients.device)
        coefficients = self._energies.coefficients[members].sum(dim=0)
        if coefficients.ndim == 0:
            if self._mean is None:
                self._mean = self._gradient(self._probe)
            _add(part, self._mean, -float(coefficients))
            return
        local = self._probe.coefficients[:, None] * coefficients.to(self._probe.coefficients)
        _add(part, self._gradient(self._probe.with_(local)), -1.0)

    def _gradient(self, energies: WeightedEnergies) -> list[Tensor]:
        return weighted_sum_gradient(
            self._parameters, energies, chunk_size=self._chunk_size
        ).gradient


def _flat_gradient(
    value: Tensor, parameters: list[nn.Parameter], *, retain_graph: bool = False
) -> Tensor:
    """The gradient in a row, float64: few operations on long tensors."""
    gradients = torch.autograd.grad(
        value, parameters, retain_graph=retain_graph, materialize_grads=True
    )
    return torch.cat([gradient.flatten() for gradient in gradients]).double()


def _accumulate(total: list[Tensor], parameters: list[nn.Parameter], value: Tensor) -> None:
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    for accumulated, gradient in zip(total, gradients, strict=True):
        if gradient is not None:
            accumulated += gradient


def _chunks(index: Tensor, chunk_size: int) -> Iterator[Tensor]:
    if chunk_size < 1:
        raise ConfigError(f"chunk_size is the number of frames per pass, >= 1; got {chunk_size}")
    yield from index.split(chunk_size)


def _zeros(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [torch.zeros_like(p, dtype=torch.float64) for p in parameters]


def _add(total: list[Tensor], other: list[Tensor], factor: float = 1.0) -> None:
    for out, value in zip(total, other, strict=True):
        out.add_(value, alpha=factor)


def _dot(a: list[Tensor], b: list[Tensor]) -> float:
    return float(_flat(a) @ _flat(b))


def _square(a: list[Tensor]) -> float:
    return float(_flat(a).square().sum())


def _flat(a: list[Tensor]) -> Tensor:
    """All numbers in a row: one operation on many small tensors instead of one on each."""
    return torch.cat([x.flatten() for x in a])
