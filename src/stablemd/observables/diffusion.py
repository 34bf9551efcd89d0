"""Diffusion coefficient."""

from __future__ import annotations

import math

import torch
from ase import units as ase_units
from torch import Tensor

from stablemd import units
from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.observables.mean_squared_displacement import MeanSquaredDisplacement
from stablemd.observables.trajectory import Trajectory, TrajectoryObservable
from stablemd.system import System

A2_PER_PS_IN_M2_PER_S = 1e-8
"""One Å²/ps in m²/s."""

CUBIC_LATTICE_SUM = 2.837297
"""ξ of the periodic images of a cubic cell."""


class DiffusionCoefficient(TrajectoryObservable):
    """D = slope / 6 of the mean squared displacement over a window of lags, in Å²/ps.

    The slope is that of the straight line with free intercept that fits best
    (least squares) between the two ends of the window, which should lie after
    the ballistic and caged motion and well before the length of the paths.

    Args:
        system: the atoms.
        fit_fs: first and last lag of the fit in fs.
        interval_fs: time between frames in fs.
        element: symbol of the atoms that count; None for all.
        remove_com: whether to remove the motion of the centre of mass.

    Raises:
        ConfigError: the window is empty or holds fewer than two lags.
        SystemDefinitionError: there is no such atom.

    Reference: Einstein, Ann. Phys. 17, 549 (1905); Allen and Tildesley (2017),
    section 2.7.
    """

    name = "diffusion_coefficient"
    axis_label = "diffusion"
    value_label = "D (Å²/ps)"

    def __init__(
        self,
        system: System,
        *,
        fit_fs: tuple[float, float],
        interval_fs: float,
        element: str | None = None,
        remove_com: bool = True,
    ) -> None:
        start, end = fit_fs
        if not 0.0 <= start < end or round((end - start) / interval_fs) < 1:
            raise ConfigError(
                f"the fit of D needs two lags or more between fit_fs = {list(fit_fs)} with frames "
                f"every {interval_fs:g} fs"
            )
        self._msd = MeanSquaredDisplacement(
            system, max_lag_fs=end, interval_fs=interval_fs, element=element, remove_com=remove_com
        )
        first = round(start / interval_fs)
        lag = self._msd.axis[first:] * 1e-3
        weights = lag - lag.mean()
        self._first, self._weights = first, weights / (6.0 * weights.square().sum())
        self.axis = torch.zeros(1, dtype=torch.float64, device=system.device)

    def values(self, trajectory: Trajectory) -> Tensor:
        """Diffusion coefficients (R, 1) in Å²/ps of every path."""
        msd = self._msd.values(trajectory)[:, self._first :]
        return (msd * self._weights).sum(dim=1, keepdim=True)


def yeh_hummer_correction(system: System, *, temperature_k: float, viscosity_pa_s: float) -> float:
    """What to add to D in Å²/ps for the finite size of a cubic periodic cell.

    ``ΔD = ξ k_B T / (6 π η L)`` with ξ = 2.837297; the viscosity is that of the
    model, and does not depend on the size.

    Args:
        system: periodic, with a cubic cell.
        temperature_k: K.
        viscosity_pa_s: shear viscosity in Pa s (water: about 0.9e-3).

    Raises:
        SystemDefinitionError: the cell is not cubic and periodic.
        ConfigError: temperature or viscosity is not positive.

    Reference: Yeh and Hummer, J. Phys. Chem. B 108, 15873 (2004), eq. 12.
    """
    cell = system.cell.cpu()
    length = float(torch.linalg.vector_norm(cell[0]))
    gram = cell @ cell.T
    is_cubic = torch.allclose(gram, length**2 * torch.eye(3, dtype=cell.dtype), rtol=1e-6)
    if not bool(system.pbc.all()) or not is_cubic:
        raise SystemDefinitionError(
            "the finite-size correction of D holds for cubic cells with pbc in three directions; "
            f"got pbc = {system.pbc.tolist()} and cell = {cell.tolist()}"
        )
    if not temperature_k > 0.0 or not viscosity_pa_s > 0.0:
        raise ConfigError(
            "the finite-size correction of D needs temperature_k > 0 and viscosity_pa_s > 0, got "
            f"{temperature_k} and {viscosity_pa_s}"
        )
    joule = units.KB * temperature_k / float(ase_units.J)
    metres2_per_s = CUBIC_LATTICE_SUM * joule / (6.0 * math.pi * viscosity_pa_s * length * 1e-10)
    return metres2_per_s / A2_PER_PS_IN_M2_PER_S
