"""One gradient from any loss on the averages of several state points and systems."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.estimators.ensemble import Ensemble
from stablemd.estimators.frames import SampledFrames
from stablemd.estimators.gradient_sum import (
    GradientSum,
    frames_gradient,
    merged_groups,
    trained_parameters,
    weighted_sum_gradient,
)
from stablemd.estimators.reweighting import reweighted_mean
from stablemd.estimators.surrogate import potential_energies
from stablemd.estimators.trust import Trust, independent_share
from stablemd.estimators.weighted_energies import WeightedEnergies
from stablemd.potentials.base import Potential
from stablemd.system import System

EnsembleLoss = Callable[[Mapping[str, Ensemble]], Tensor]
"""From the ensembles by name to a differentiable scalar."""


@dataclass(frozen=True)
class StatePoint:
    """One system at one temperature (and box), with its own frames and weights.

    Attributes:
        system: the atoms.
        frames: sampled there at θ0, with the observables' values.
        beta: inverse temperature of the sampling in 1/eV.
        energies: U_θ of the frames in eV (n,), if known.
        reference_positions: structures of the reference ensemble in Å, (m, N, 3),
            for the relative entropy.
        reference_cells: their cells in Å, (m, 3, 3); the system's by default.
    """

    system: System
    frames: SampledFrames
    beta: float
    energies: Tensor | None = None
    reference_positions: Tensor | None = None
    reference_cells: Tensor | None = None


@dataclass(frozen=True)
class EnsembleResult:
    """What was seen while a gradient over several state points was added.

    Attributes:
        loss: at the present parameters.
        loss_stderr: its standard error from the jackknife over groups of
            replicas; NaN with fewer than two groups at any state point.
        gradient_norm: norm of the gradient that was added.
        trust: of each state point's part of the gradient.
    """

    loss: float
    loss_stderr: float
    gradient_norm: float
    trust: dict[str, Trust]

    @property
    def gradient_noise(self) -> float:
        """Root of the summed variances of the whole gradient's components."""
        return math.sqrt(sum(t.noise**2 for t in self.trust.values()))


def ensemble_gradient(
    potential: Potential,
    points: Mapping[str, StatePoint],
    loss: EnsembleLoss,
    *,
    chunk_size: int = 64,
    noise_groups: int = 8,
    unbiased: bool = True,
) -> EnsembleResult:
    """Add the gradient of a loss on averages of several state points to ``.grad``.

    The loss is ordinary code on :class:`Ensemble` objects: averages, variances,
    heat capacities, relative entropies, at several temperatures and of several
    systems.  Its slopes ``c_i = ∂L/∂U_θ(x_i)`` are found by autograd on the
    numbers U alone; then one chunked backward pass of ``Σ c_i U_θ(x_i)`` over all
    frames gives the gradient.

    Args:
        potential: at the parameters θ.
        points: by name.
        loss: from the ensembles by name to a scalar.
        chunk_size: frames per forward and backward pass.
        noise_groups: groups of replicas that are compared for the noise; 0 for none.
        unbiased: N/(N-1) on gradients through the weights, as ``boltzmann_gradient``
            has it; without, the gradient is the exact one of the weighted loss.

    Raises:
        ConfigError: ``beta`` or ``chunk_size`` is not positive.
        DataError: fewer than two frames of a state point are finite, or the
            loss is not finite.
        PotentialError: no parameter requires a gradient.

    Example:
        >>> def loss(at):  # doctest: +SKIP
        ...     h = mse(h_ref, spacing)(at["300 K"].mean())
        ...     return h + 0.1 * at["300 K"].relative_entropy() + (
        ...         (at["500 K"].heat_capacity() - c_ref) / sigma
        ...     ).square()
    """
    parameters = trained_parameters(potential)
    ensembles: dict[str, Ensemble] = {}
    dropped: dict[str, int] = {}
    for name, point in points.items():
        ensembles[name], dropped[name] = _ensemble(potential, name, point, chunk_size, unbiased)
    value, slopes = _slopes(loss, ensembles)
    total = [torch.zeros_like(p, dtype=torch.float64) for p in parameters]
    trust: dict[str, Trust] = {}
    loss_variance = 0.0
    for name, point in points.items():
        ensemble, (on_frames, on_reference) = ensembles[name], slopes[name]
        frames, weights = ensemble.frames, ensemble.weights.detach()
        part = frames_gradient(
            parameters,
            WeightedEnergies.of_frames(potential, point.system, frames, on_frames),
            frames,
            weights,
            frames,
            weights,
            chunk_size=chunk_size,
            noise_groups=noise_groups,
        )
        if on_reference is not None and point.reference_positions is not None:
            reference = WeightedEnergies(
                potential,
                point.system,
                point.reference_positions,
                on_reference,
                point.reference_cells,
            )
            extra = weighted_sum_gradient(parameters, reference, chunk_size=chunk_size)
            part = GradientSum(
                [a + b for a, b in zip(part.gradient, extra.gradient, strict=True)],
                part.variance,
                part.n_groups,
            )
        for out, gradient in zip(total, part.gradient, strict=True):
            out += gradient
        trust[name], variance = _trust(loss, ensembles, name, on_frames, part, dropped[name])
        loss_variance += variance
    whole = GradientSum(total, float("nan"), 0)
    whole.add_to(parameters)
    return EnsembleResult(value, math.sqrt(loss_variance), whole.norm, trust)


def _ensemble(
    potential: Potential, name: str, point: StatePoint, chunk_size: int, unbiased: bool
) -> tuple[Ensemble, int]:
    average = reweighted_mean(
        potential,
        point.system,
        point.frames,
        beta=point.beta,
        chunk_size=chunk_size,
        energies=point.energies,
    )
    if len(average.frames) < 2:
        raise DataError(
            f"state point {name!r} needs at least two finite frames, got {len(average.frames)} of "
            f"{len(point.frames)}; sample more frames"
        )
    reference = None
    if point.reference_positions is not None:
        reference = potential_energies(
            potential,
            point.system,
            point.reference_positions,
            cells=point.reference_cells,
            chunk_size=chunk_size,
        )
        if not bool(torch.isfinite(reference).all()):
            raise DataError(
                f"the model gives {int((~torch.isfinite(reference)).sum())} of {len(reference)} "
                f"reference structures of state point {name!r} an energy that is not finite; "
                "remove these structures"
            )
    ensemble = Ensemble(
        average.frames,
        average.energies,
        point.beta,
        reference_energies=reference,
        unbiased=unbiased,
    )
    return ensemble, average.n_dropped


def _slopes(
    loss: EnsembleLoss, ensembles: Mapping[str, Ensemble]
) -> tuple[float, dict[str, tuple[Tensor, Tensor | None]]]:
    """The loss, and its slopes on the energies of each point's frames and references."""
    leaves, places = [], []
    for name, ensemble in ensembles.items():
        leaves.append(ensemble.energies)
        places.append((name, 0))
        if ensemble.reference_energies is not None:
            leaves.append(ensemble.reference_energies)
            places.append((name, 1))
    with torch.enable_grad():
        value = loss(ensembles)
        found = torch.autograd.grad(value, leaves, materialize_grads=True)
    slopes: dict[str, tuple[Tensor, Tensor | None]] = {}
    for (name, kind), slope in zip(places, found, strict=True):
        slopes[name] = (slope, None) if kind == 0 else (slopes[name][0], slope)
    scalar = float(value.detach())
    if not math.isfinite(scalar) or not all(
        bool(torch.isfinite(s[0]).all()) for s in slopes.values()
    ):
        raise DataError(
            f"the loss on the ensembles is {scalar} and must be finite with a finite slope; check "
            "the targets and the loss"
        )
    return scalar, slopes


def _trust(
    loss: EnsembleLoss,
    ensembles: Mapping[str, Ensemble],
    name: str,
    coefficients: Tensor,
    part: GradientSum,
    n_dropped: int,
) -> tuple[Trust, float]:
    """Trust in one point's part, and what the point adds to the variance of the loss."""
    ensemble = ensembles[name]
    weights = ensemble.weights.detach()
    projected = torch.where(weights > 0.0, coefficients / weights, 0.0)
    time, share = independent_share(projected, weights, ensemble.frames.replica)
    slope_noise, variance = float("nan"), float("nan")
    if part.n_groups >= 2:
        slope_noise, variance = _leave_groups_out(loss, ensembles, name, projected, part.n_groups)
    trust = Trust(
        n_frames=len(ensemble),
        n_dropped=n_dropped,
        n_eff=ensemble.n_eff,
        n_eff_entropy=ensemble.n_eff_entropy,
        autocorrelation_time=time,
        n_independent=share * ensemble.n_eff,
        n_groups=part.n_groups,
        gradient_norm=part.norm,
        gradient_noise=part.variance**0.5,
        slope_noise=slope_noise,
    )
    return trust, variance


def _leave_groups_out(
    loss: EnsembleLoss,
    ensembles: Mapping[str, Ensemble],
    name: str,
    projected: Tensor,
    max_groups: int,
) -> tuple[float, float]:
    """Relative noise of the slopes, and variance of the loss, from one state point."""
    ensemble = ensembles[name]
    weights = ensemble.weights.detach()
    group = merged_groups(ensemble.frames.independent, max_groups)
    n_groups = int(group.max()) + 1
    losses, changes = [], 0.0
    for k in range(n_groups):
        out = group == k
        rest = weights[~out] / weights[~out].sum().clamp_min(1e-300)
        value, slopes = _slopes(loss, {**ensembles, name: ensemble.without(out)})
        losses.append(value)
        other = torch.where(rest > 0.0, slopes[name][0] / rest, 0.0)
        change = other - projected[~out]
        change = change - rest @ change
        changes += float(rest @ change.square())
    size = float(weights @ (projected - weights @ projected).square())
    factor = (n_groups - 1) / n_groups
    spread = torch.tensor(losses, dtype=torch.float64)
    variance = factor * float((spread - spread.mean()).square().sum())
    return (math.sqrt(factor * changes / size) if size > 0.0 else 0.0), variance
