"""One time step as kicks and drifts around one force evaluation, for compiled step loops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np


@dataclass(frozen=True)
class SplitStep:
    """A time step in kick, drift, [momenta towards the bath, drift,] forces, kick.

    Attributes:
        half_kick: momentum per force in a kick, internal time units.
        drift: displacement per momentum in a drift, (N,) float64; half a step's
            where there is a bath.
        decay: factor of the momenta at the bath, None for no bath.
        noise_scale: what a standard normal adds to a momentum at the bath, (N,) float64.
    """

    half_kick: float
    drift: np.ndarray
    decay: float | None = None
    noise_scale: np.ndarray | None = None


@numba.njit
def kick_and_drift(
    x: Any, p: Any, f: Any, half_kick: float, drift: Any, decay: float, scale: Any, noise: Any
) -> None:
    """The part of a step of one replica before its forces; ``noise`` (N, 3) for a bath."""
    for a in range(x.shape[0]):
        for c in range(3):
            momentum = p[a, c] + half_kick * f[a, c]
            position = x[a, c] + momentum * drift[a]
            momentum = decay * momentum + noise[a, c] * scale[a]
            x[a, c] = position + momentum * drift[a]
            p[a, c] = momentum


@numba.njit
def kick_and_drift_freely(x: Any, p: Any, f: Any, half_kick: float, drift: Any) -> None:
    """``kick_and_drift`` without a bath, in one drift."""
    for a in range(x.shape[0]):
        for c in range(3):
            momentum = p[a, c] + half_kick * f[a, c]
            x[a, c] += momentum * drift[a]
            p[a, c] = momentum


@numba.njit
def kick(p: Any, f: Any, half_kick: float) -> None:
    """The part of a step of one replica after its forces."""
    for a in range(p.shape[0]):
        for c in range(3):
            p[a, c] += half_kick * f[a, c]
