"""How far a step may go before the frames no longer say anything about the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stablemd.errors import ConfigError
from stablemd.estimators.weights import boltzmann_weights, n_eff_kish

_FINER = 0.95
"""Ratio of the shares of a step that are tried on paper."""

_SHORTEST = 1e-6
"""Share below which a step is not worth taking."""


@dataclass(frozen=True)
class Weighing:
    """What gives frames of one state point their weights.

    Attributes:
        reference_energies: U_θ0 in eV, (n,).
        energies: U at the parameters before the step in eV, (n,).
        beta: inverse temperature of the sampling in 1/eV.
    """

    reference_energies: Tensor
    energies: Tensor
    beta: float

    def n_eff_share(self, energies: Tensor) -> float:
        """Kish's effective share of the frames at these energies; 0 if one is not finite."""
        if not bool(torch.isfinite(energies).all()):
            return 0.0
        weights = boltzmann_weights(energies, self.reference_energies, self.beta)
        return n_eff_kish(weights) / len(weights)


@dataclass(frozen=True)
class LimitedStep:
    """A step that was taken as far as the weights allow.

    Attributes:
        share: of the proposed step; 0 if it was rejected.
        n_eff_share: effective share of the frames afterwards, the smallest of
            all state points.
        energies: U of every state point's frames afterwards in eV.
        n_passes: passes over the energies that it took.
    """

    share: float
    n_eff_share: float
    energies: list[Tensor]
    n_passes: int


@torch.no_grad()
def limit_step(
    parameters: Sequence[nn.Parameter],
    step: Sequence[Tensor],
    points: Sequence[Weighing],
    evaluate: Callable[[], Sequence[Tensor]],
    *,
    max_n_eff_loss: float = 0.2,
    max_trials: int = 4,
) -> LimitedStep:
    """Move the parameters along a step as far as N_eff allows: energies only, no dynamics.

    The full step is tried first.  If it costs too much of N_eff, the change of
    the energies that it has made says what a part of it would cost, since
    energies change linearly along a short step: the largest part within the
    limit is found on these numbers alone, and checked with one further pass.

    Args:
        parameters: at θ; they end at θ + share · step.
        step: proposed change of each parameter.
        points: the frames' energies at θ0 and θ, one for each state point.
        evaluate: energies of every state point's frames at the parameters'
            present values in eV, from the model or its sampling form.
        max_n_eff_loss: how much of N_eff/N the step may cost, between 0 and 1.
        max_trials: passes over the energies at most.

    Raises:
        ConfigError: an argument is out of range.
    """
    if not 0.0 < max_n_eff_loss <= 1.0 or max_trials < 1:
        raise ConfigError(
            "a step limit needs 0 < max_n_eff_loss <= 1 and max_trials >= 1, got "
            f"{max_n_eff_loss} and {max_trials}"
        )
    start = [p.detach().clone() for p in parameters]
    present = [p.energies for p in points]
    floors = [p.n_eff_share(p.energies) - max_n_eff_loss for p in points]

    def put(share: float) -> None:
        for parameter, origin, change in zip(parameters, start, step, strict=True):
            parameter.copy_(origin + share * change.to(origin))

    def margin(energies: Sequence[Tensor]) -> float:
        return min(
            p.n_eff_share(e) - floor for p, e, floor in zip(points, energies, floors, strict=True)
        )

    share = 1.0
    for trial in range(1, max_trials + 1):
        put(share)
        energies = [e.detach().to(u) for e, u in zip(evaluate(), present, strict=True)]
        if margin(energies) >= 0.0:
            smallest = min(p.n_eff_share(e) for p, e in zip(points, energies, strict=True))
            return LimitedStep(share, smallest, energies, trial)
        changes = [(e - u) / share for e, u in zip(energies, present, strict=True)]
        if all(bool(c.isfinite().all()) for c in changes):
            share = largest_share(_shorter(share), present, changes, margin)
        else:
            share *= 0.25  # a step this long says nothing about shorter ones
    put(0.0)
    smallest = min(p.n_eff_share(e) for p, e in zip(points, present, strict=True))
    return LimitedStep(0.0, smallest, present, max_trials)


def largest_share(
    shares: Iterable[float],
    present: Sequence[Tensor],
    changes: Sequence[Tensor],
    margin: Callable[[Sequence[Tensor]], float],
) -> float:
    """The first of ``shares``, the largest first, that keeps the limit on paper; 0 if none does.

    Energies change linearly along a short step: no pass over the model is needed.

    Args:
        shares: of the whole step.
        present: energies of every state point's frames before it in eV.
        changes: of these energies by the whole step.
        margin: of energies, what is left to the limit; below zero it is broken.
    """
    for share in shares:
        if margin([u + share * c for u, c in zip(present, changes, strict=True)]) >= 0.0:
            return share
    return 0.0


def _shorter(failed: float) -> Iterator[float]:
    share = _FINER * failed
    while share > _SHORTEST:
        yield share
        share *= _FINER
