"""CSVR: constant temperature by stochastic rescaling of all velocities."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from stablemd import units
from stablemd.errors import ConfigError
from stablemd.md.integrators.base import Integrator, positive
from stablemd.md.state import State
from stablemd.potentials.base import SamplingForm
from stablemd.system import System

HEAT = "csvr_heat"
"""Energy that the bath has given so far, (R,) eV."""


class CSVR(Integrator):
    """Canonical sampling through velocity rescaling: one random factor for all momenta.

    A step is kick, drift, thermostat, drift, kick.  The thermostat moves the
    kinetic energy exactly as its stochastic differential equation does, whatever
    the step, and leaves directions, ratios of velocities and the total momentum
    as they are; dynamical properties are therefore close to those at constant
    energy.

    Source: Bussi, Donadio & Parrinello, J. Chem. Phys. 126, 014101 (2007),
    eq. A7 for the exact propagator, eq. 15 for the conserved energy; Bussi &
    Parrinello, Comput. Phys. Commun. 179, 26 (2008) for the sign of the factor.

    Args:
        dt_fs: time step in fs.
        temperature_k: temperature in K.
        tau_fs: relaxation time of the kinetic energy in fs.
        com_fixed: True (3N - 3 degrees of freedom) where the total momentum is
            zero and no external field acts; False (3N) otherwise.

    Raises:
        ConfigError: an argument is not a positive number.
    """

    needs_noise: ClassVar[bool] = True

    def __init__(
        self, dt_fs: float, temperature_k: float, *, tau_fs: float = 100.0, com_fixed: bool = True
    ) -> None:
        super().__init__(dt_fs, com_fixed=com_fixed)
        self.temperature_k = positive("temperature_k", temperature_k, "K")
        self.tau_fs = positive("tau_fs", tau_fs, "fs")
        self._kt = units.KB * self.temperature_k
        self._decay = math.exp(-self.dt_fs / self.tau_fs)
        self._n_dof = 0

    def init(self, state: State, system: System, seed: int) -> State:
        self._n_dof = self.degrees_of_freedom(system)
        if self._n_dof < 1:
            raise ConfigError(
                "a single atom at fixed centre of mass has no degree of freedom to thermostat; "
                "give com_fixed=False"
            )
        return super().init(state, system, seed)

    def step(self, state: State, evaluate: SamplingForm, noise: Tensor | None) -> State:
        assert noise is not None, "CSVR needs normals (R, N, 3)"
        half = 0.5 * self._dt
        half_dt_over_mass, inverse_masses = self._constants(state.momenta)
        momenta = torch.add(state.momenta, state.forces, alpha=half)
        positions = torch.addcmul(state.positions, momenta, half_dt_over_mass)
        kinetic = 0.5 * (momenta.square() * inverse_masses).flatten(1).sum(dim=1)
        factor = rescaling_factor(kinetic, noise.flatten(1), self._n_dof, self._kt, self._decay)
        momenta.mul_(factor[:, None, None])
        positions.addcmul_(momenta, half_dt_over_mass)
        energies, forces = evaluate(positions, state.cells)
        momenta.add_(forces, alpha=half)
        heat = state.thermostat[HEAT] + (factor.square() - 1.0) * kinetic
        return State(
            positions=positions,
            momenta=momenta,
            forces=forces,
            energies=energies,
            replica_ids=state.replica_ids,
            step=state.step + 1,
            alive=state.alive,
            cells=state.cells,
            thermostat={**state.thermostat, HEAT: heat},
        )

    def conserved(self, state: State, system: System) -> Tensor:
        """Energy of the atoms less what the bath has given them, (R,) eV."""
        atoms = state.energies + state.kinetic_energies(system.masses.to(state.momenta))
        return atoms - state.thermostat[HEAT]

    def _thermostat_start(self, state: State, system: System, seed: int) -> dict[str, Tensor]:
        return {HEAT: torch.zeros_like(state.energies)}

    def _mass_constants(self, masses: Tensor) -> tuple[Tensor, ...]:
        return 0.5 * self._dt / masses, 1.0 / masses


def rescaling_factor(kinetic: Tensor, noise: Tensor, n_dof: int, kt: float, decay: float) -> Tensor:
    """Factor on all momenta that moves the kinetic energy as CSVR's exact propagator.

    Args:
        kinetic: kinetic energy before, (R,) eV.
        noise: standard normals, (R, n_dof or more).
        n_dof: number of momentum components that carry kT/2.
        kt: eV.
        decay: exp(-dt / tau).

    Returns:
        (R,), negative where the first component has turned round.
    """
    spread = math.sqrt(0.5 * kt * (1.0 - decay))
    along = torch.sqrt(decay * kinetic) + spread * noise[:, 0]
    across = spread**2 * noise[:, 1:n_dof].square().sum(dim=1)
    factor = torch.sqrt((along.square() + across) / kinetic)
    return torch.where(along < 0.0, -factor, factor)
