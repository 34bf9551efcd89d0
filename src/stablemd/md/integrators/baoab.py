"""BAOAB: Langevin dynamics at constant temperature."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from stablemd import units
from stablemd.errors import SimulationError
from stablemd.md.integrators.base import Integrator, positive
from stablemd.md.state import State
from stablemd.potentials.base import SamplingForm
from stablemd.potentials.split_step import SplitStep
from stablemd.system import System


class BAOAB(Integrator):
    """Langevin dynamics by the splitting kick, drift, Ornstein-Uhlenbeck, drift, kick.

    In a harmonic well the sampled position variance is exact at every stable
    step, and the momentum variance is ``m k_B T (1 - (dt omega)**2 / 4)``.
    Friction and noise act on all 3N momentum components: the centre of mass
    diffuses, and 3N degrees of freedom carry kT/2.

    Source: Leimkuhler & Matthews, Appl. Math. Res. Express 2013, 34 (2013).

    Args:
        dt_fs: time step in fs.
        temperature_k: temperature in K.
        friction_per_ps: friction rate in 1/ps.

    Raises:
        ConfigError: an argument is not a positive number.
    """

    needs_noise: ClassVar[bool] = True

    def __init__(self, dt_fs: float, temperature_k: float, *, friction_per_ps: float = 1.0) -> None:
        super().__init__(dt_fs, com_fixed=False)
        self.temperature_k = positive("temperature_k", temperature_k, "K")
        self.friction_per_ps = positive("friction_per_ps", friction_per_ps, "1/ps")
        self._decay = math.exp(-self.friction_per_ps / units.PS * self._dt)

    def step(self, state: State, evaluate: SamplingForm, noise: Tensor | None) -> State:
        assert noise is not None, "Langevin dynamics needs normals (R, N, 3)"
        half = 0.5 * self._dt
        half_dt_over_mass, noise_scale = self._constants(state.momenta)
        momenta = torch.add(state.momenta, state.forces, alpha=half)
        positions = torch.addcmul(state.positions, momenta, half_dt_over_mass)
        momenta.mul_(self._decay).addcmul_(noise, noise_scale)
        positions.addcmul_(momenta, half_dt_over_mass)
        energies, forces = evaluate(positions, state.cells)
        momenta.add_(forces, alpha=half)
        return State(
            positions=positions,
            momenta=momenta,
            forces=forces,
            energies=energies,
            replica_ids=state.replica_ids,
            step=state.step + 1,
            alive=state.alive,
            cells=state.cells,
            thermostat=state.thermostat,
        )

    def split_step(self) -> SplitStep:
        half_dt_over_mass, noise_scale = self._atom_constants()
        return SplitStep(0.5 * self._dt, half_dt_over_mass, self._decay, noise_scale)

    def conserved(self, state: State, system: System) -> Tensor:
        raise SimulationError(
            "Langevin dynamics exchanges energy with its bath and conserves none; check it "
            "with its kinetic temperature, or use 'nve' or 'nose_hoover' for energy drift"
        )

    def _mass_constants(self, masses: Tensor) -> tuple[Tensor, ...]:
        kt = units.KB * self.temperature_k
        return 0.5 * self._dt / masses, torch.sqrt((1.0 - self._decay**2) * kt * masses)
