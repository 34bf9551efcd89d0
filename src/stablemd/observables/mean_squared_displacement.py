"""Mean squared displacement."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.geometry.pairs import element_numbers
from stablemd.observables.trajectory import (
    Trajectory,
    TrajectoryObservable,
    autocorrelation,
    n_lags,
)
from stablemd.system import System


class MeanSquaredDisplacement(TrajectoryObservable):
    """⟨|x(t + τ) - x(t)|²⟩ in Å² over all atoms of an element and all time origins.

    The motion of the centre of mass of all atoms is removed by default, since
    some thermostats let it drift.  The sum over time origins is done by FFT.

    Args:
        system: the atoms.
        element: symbol of the atoms that count; None for all.
        max_lag_fs: longest lag in fs.
        interval_fs: time between frames, which sets the axis.
        remove_com: whether to remove the motion of the centre of mass.

    Raises:
        SystemDefinitionError: there is no such atom.
        ConfigError: a time is out of range.

    Reference: Calandrini et al., Collection SFN 12, 201 (2011), section 4.2, for
    the algorithm.
    """

    name = "mean_squared_displacement"
    axis_label = "lag (fs)"
    value_label = "mean squared displacement (Å²)"

    def __init__(
        self,
        system: System,
        *,
        max_lag_fs: float,
        interval_fs: float,
        element: str | None = None,
        remove_com: bool = True,
    ) -> None:
        if not 0.0 < interval_fs <= max_lag_fs < float("inf"):
            raise ConfigError(
                "a mean squared displacement needs 0 < interval_fs <= max_lag_fs, got "
                f"{interval_fs} and {max_lag_fs}"
            )
        self.atoms = atoms_of(system, element)
        self.max_lag_fs, self.remove_com = float(max_lag_fs), remove_com
        self._weights = (system.masses / system.masses.sum())[:, None]
        lags = round(max_lag_fs / interval_fs) + 1
        self.axis = torch.arange(lags, dtype=torch.float64, device=system.device) * interval_fs

    def values(self, trajectory: Trajectory) -> Tensor:
        """Mean squared displacements (R, D) in Å² of every path."""
        lags = n_lags(self.max_lag_fs, trajectory, self.name)
        x = trajectory.positions.to(torch.float64)
        if self.remove_com:
            x = x - (self._weights * x).sum(dim=2, keepdim=True)
        x = x.index_select(2, self.atoms)
        x = x - x.mean(dim=0)  # smaller numbers lose fewer digits
        n = len(x)
        squares = x.square().sum(dim=(2, 3))
        before = torch.cat([torch.zeros_like(squares[:1]), squares.cumsum(dim=0)])
        lag = torch.arange(lags, device=x.device)
        # Σ_t |x(t)|² + |x(t + τ)|² over the n - τ origins
        both = before[n - lag] + before[n] - before[lag]
        cross = autocorrelation(x, lags).sum(dim=(2, 3))
        msd = both / (n - lag)[:, None] - 2.0 * cross
        return msd.T / len(self.atoms)


def atoms_of(system: System, element: str | None) -> Tensor:
    """Indices of the atoms of an element, or of all.

    Raises:
        SystemDefinitionError: there is none.
    """
    if element is None:
        return torch.arange(system.n_atoms, device=system.device)
    (number,) = element_numbers([element], 1)
    atoms = torch.nonzero(system.numbers == number).flatten()
    if not len(atoms):
        raise SystemDefinitionError(f"{system.formula} has no atom {element}; choose another one")
    return atoms
