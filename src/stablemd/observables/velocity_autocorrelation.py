"""Velocity autocorrelation and its spectrum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stablemd.errors import ConfigError, DataError
from stablemd.observables.mean_squared_displacement import atoms_of
from stablemd.observables.trajectory import (
    Trajectory,
    TrajectoryObservable,
    autocorrelation,
    n_lags,
)
from stablemd.system import System

WAVENUMBER_PER_INVERSE_FS = 1e15 / 2.99792458e10
"""One oscillation per fs in 1/cm."""


class VelocityAutocorrelation(TrajectoryObservable):
    """C(τ) = ⟨v(t)·v(t + τ)⟩ over atoms and all time origins.

    Args:
        system: the atoms.
        max_lag_fs: longest lag in fs.
        interval_fs: time between frames in fs.
        element: symbol of the atoms that count; None for all.
        normalised: divide by C(0) (of each path), else Å²/fs².
        mass_weighted: weigh every atom with its mass (then 3 k_B T per atom at τ = 0).
        remove_com: whether to remove the velocity of the centre of mass.

    Raises:
        ConfigError: a time is out of range.
        SystemDefinitionError: there is no such atom.

    Reference: Allen and Tildesley (2017), section 2.7.
    """

    name = "velocity_autocorrelation"
    axis_label = "lag (fs)"

    def __init__(
        self,
        system: System,
        *,
        max_lag_fs: float,
        interval_fs: float,
        element: str | None = None,
        normalised: bool = True,
        mass_weighted: bool = False,
        remove_com: bool = True,
    ) -> None:
        if not 0.0 < interval_fs <= max_lag_fs < float("inf"):
            raise ConfigError(
                "a velocity autocorrelation needs 0 < interval_fs <= max_lag_fs, got "
                f"{interval_fs} and {max_lag_fs}"
            )
        self.atoms = atoms_of(system, element)
        self.max_lag_fs = float(max_lag_fs)
        self._normalised, self._remove_com = normalised, remove_com
        self.value_label = "C(τ)/C(0)" if normalised else "C(τ) (Å²/fs²)"
        masses = system.masses
        self._com_weights = (masses / masses.sum())[:, None]
        chosen = masses[self.atoms]
        self._scale = chosen.sqrt()[:, None] if mass_weighted else torch.ones_like(chosen)[:, None]
        lags = round(max_lag_fs / interval_fs) + 1
        self.axis = torch.arange(lags, dtype=torch.float64, device=system.device) * interval_fs

    def values(self, trajectory: Trajectory) -> Tensor:
        """C(τ) of every path, (R, D)."""
        if trajectory.velocities is None:
            raise DataError(
                f"{self.name} needs velocities; give Trajectory(velocities=...) in Å/fs"
            )
        lags = n_lags(self.max_lag_fs, trajectory, self.name)
        v = trajectory.velocities.to(torch.float64)
        if self._remove_com:
            v = v - (self._com_weights * v).sum(dim=2, keepdim=True)
        v = v.index_select(2, self.atoms) * self._scale
        c = autocorrelation(v, lags).sum(dim=(2, 3)).T / len(self.atoms)
        return c / c[:, :1] if self._normalised else c


class VibrationalSpectrum(TrajectoryObservable):
    """The power spectrum of the mass-weighted velocity autocorrelation, per 1/cm.

    C(τ) is tapered with a Hann window of the length ``max_lag_fs`` (which sets
    the resolution, about 33356 / max_lag_fs 1/cm) and Fourier transformed; the
    spectrum integrates to one from 0 to half the frame rate.

    Args:
        system: the atoms.
        max_lag_fs: longest lag in fs.
        interval_fs: time between frames in fs; the fastest oscillation that can
            be told has twice this period.
        element: symbol of the atoms that count; None for all.
        remove_com: whether to remove the velocity of the centre of mass.

    Raises:
        ConfigError: a time is out of range.
        SystemDefinitionError: there is no such atom.

    Reference: Dickey and Paskin, Phys. Rev. 188, 1407 (1969).
    """

    name = "vibrational_spectrum"
    axis_label = "wave number (1/cm)"
    value_label = "density of states (cm)"

    def __init__(
        self,
        system: System,
        *,
        max_lag_fs: float,
        interval_fs: float,
        element: str | None = None,
        remove_com: bool = True,
    ) -> None:
        self._correlation = VelocityAutocorrelation(
            system, max_lag_fs=max_lag_fs, interval_fs=interval_fs, element=element,
            mass_weighted=True, remove_com=remove_com,
        )  # fmt: skip
        n = len(self._correlation.axis)
        k = torch.arange(n, dtype=torch.float64, device=system.device)
        self.axis = k * (WAVENUMBER_PER_INVERSE_FS / (2.0 * (n - 1) * interval_fs))
        self._spacing = float(self.axis[1])
        self._window = 0.5 * (1.0 + torch.cos(math.pi * k / (n - 1)))

    def values(self, trajectory: Trajectory) -> Tensor:
        """Density of states of every path, (R, D) in cm."""
        tapered = self._correlation.values(trajectory) * self._window
        # The cosine transform of type I: the real Fourier transform of the mirrored series.
        mirrored = torch.cat([tapered, tapered[:, 1:-1].flip(1)], dim=1)
        spectrum = torch.fft.rfft(mirrored, dim=1).real
        ends = torch.ones_like(self.axis)
        ends[0] = ends[-1] = 0.5
        return spectrum / ((spectrum * ends).sum(dim=1, keepdim=True) * self._spacing)
