"""The contract of an integrator."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

import numpy as np
from torch import Tensor

from stablemd import units
from stablemd.errors import ConfigError, SimulationError
from stablemd.md.state import State
from stablemd.md.velocities import degrees_of_freedom
from stablemd.potentials.base import SamplingForm
from stablemd.potentials.split_step import SplitStep
from stablemd.system import System


class Integrator(ABC):
    """One time step of R replicas of one system, one force evaluation per step.

    An integrator holds its parameters and constants derived from the system's
    masses; everything that changes is in the :class:`State`.

    Args:
        dt_fs: time step in fs.
        com_fixed: whether the dynamics keeps the total momentum of a replica.

    Raises:
        ConfigError: the time step is not a positive number.
    """

    needs_noise: ClassVar[bool]
    """Whether ``step`` takes standard normals (R, N, 3)."""

    constant_volume: ClassVar[bool] = True
    """Whether ``step`` leaves the cells as they are; otherwise it needs stress and full pbc."""

    def __init__(self, dt_fs: float, *, com_fixed: bool) -> None:
        self.dt_fs = positive("dt_fs", dt_fs, "fs")
        self.com_fixed = com_fixed
        self._dt = self.dt_fs * units.FS
        self._masses: Tensor | None = None
        self._cached: tuple[Tensor, ...] = ()

    def init(self, state: State, system: System, seed: int) -> State:
        """Bind to a system, and add thermostat variables where the state has none yet.

        Args:
            state: positions, momenta and forces of R replicas.
            system: the atoms; their masses are taken over.
            seed: seed of the random streams for stochastic starting values.

        Returns:
            The state with this integrator's thermostat variables.  Variables
            that are there already are kept, so that a run can be continued.

        Raises:
            SimulationError: variables that are there already do not fit.
        """
        self._masses = system.masses.to(state.positions)
        self._cached = ()
        start = self._thermostat_start(state, system, seed)
        for name in start.keys() & state.thermostat.keys():
            if state.thermostat[name].shape != start[name].shape:
                raise SimulationError(
                    f"the state's thermostat variable {name!r} has shape "
                    f"{tuple(state.thermostat[name].shape)}, and {type(self).__name__} expects "
                    f"{tuple(start[name].shape)}; continue with the settings it was made with, "
                    "or start from a state without thermostat variables"
                )
        missing = {name: value for name, value in start.items() if name not in state.thermostat}
        return replace(state, thermostat={**state.thermostat, **missing}) if missing else state

    @abstractmethod
    def step(self, state: State, evaluate: SamplingForm, noise: Tensor | None) -> State:
        """Advance every replica by one time step; the given state is not changed.

        Args:
            state: a state from ``init`` or ``step``.
            evaluate: called as ``evaluate(positions, cells)`` with the state's
                cells; energies (R,) and forces (R, N, 3).
            noise: standard normals (R, N, 3) where ``needs_noise``, else None.
        """

    def split_step(self) -> SplitStep | None:
        """The same time step for a form that advances replicas itself; None where it is another.

        Its numbers differ from those of ``step`` by rounding.
        """
        return None

    @abstractmethod
    def conserved(self, state: State, system: System) -> Tensor:
        """Energy (R,) in eV that exact dynamics would keep constant.

        Raises:
            SimulationError: the dynamics is stochastic and has no such energy.
        """

    def degrees_of_freedom(self, system: System) -> int:
        """Number of momentum components that carry kT/2 under this dynamics."""
        return degrees_of_freedom(system.n_atoms, self.com_fixed)

    def _thermostat_start(self, state: State, system: System, seed: int) -> dict[str, Tensor]:
        """Starting values of the thermostat variables by name; none by default."""
        return {}

    @abstractmethod
    def _mass_constants(self, masses: Tensor) -> tuple[Tensor, ...]:
        """What ``step`` multiplies positions and momenta by, from masses (N, 1) in amu."""

    def _constants(self, momenta: Tensor) -> tuple[Tensor, ...]:
        """The mass constants in the full shape of ``momenta``: broadcasting would cost double."""
        if not self._cached or self._cached[0].shape[0] != momenta.shape[0]:
            if self._masses is None:
                raise SimulationError(
                    f"{type(self).__name__}.step was called before init; call "
                    "init(state, system, seed) first and step from the state it returns"
                )
            self._cached = tuple(
                constant.expand(momenta.shape).contiguous()
                for constant in self._mass_constants(self._masses[:, None])
            )
        return self._cached

    def _atom_constants(self) -> tuple[np.ndarray, ...]:
        """The mass constants per atom, each (N,)."""
        assert self._masses is not None, "split_step is asked for after init"
        return tuple(c.flatten().cpu().numpy() for c in self._mass_constants(self._masses[:, None]))


def positive(name: str, value: object, unit: str) -> float:
    """``value`` as a float, or a clear error if it is not a positive finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name} must be a positive number ({unit}), got {value!r}")
    if value <= 0:
        raise ConfigError(f"{name} must be greater than 0 ({unit}), got {value!r}")
    return float(value)


def real(name: str, value: object, unit: str) -> float:
    """``value`` as a float, or a clear error if it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number ({unit}), got {value!r}")
    return float(value)


def at_least_one(name: str, value: object) -> int:
    """``value`` as an int, or a clear error if it is not an integer of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be an integer of 1 or more, got {value!r}")
    return value
