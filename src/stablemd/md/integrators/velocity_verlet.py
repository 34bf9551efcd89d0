"""Velocity Verlet: constant energy."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from stablemd.md.integrators.base import Integrator
from stablemd.md.state import State
from stablemd.potentials.base import SamplingForm
from stablemd.potentials.split_step import SplitStep
from stablemd.system import System


class VelocityVerlet(Integrator):
    """Constant-energy dynamics (NVE), time-reversible and symplectic.

    Source: Swope, Andersen, Berens & Wilson, J. Chem. Phys. 76, 637 (1982).

    Args:
        dt_fs: time step in fs.
        temperature_k: not used by the dynamics; accepted so that all
            integrators are made alike.
        com_fixed: False where an external field acts on the atoms, so that
            their total momentum is not kept.
    """

    needs_noise: ClassVar[bool] = False

    def __init__(
        self, dt_fs: float, temperature_k: float | None = None, *, com_fixed: bool = True
    ) -> None:
        super().__init__(dt_fs, com_fixed=com_fixed)

    def step(self, state: State, evaluate: SamplingForm, noise: Tensor | None) -> State:
        half = 0.5 * self._dt
        (dt_over_mass,) = self._constants(state.momenta)
        momenta = torch.add(state.momenta, state.forces, alpha=half)
        positions = torch.addcmul(state.positions, momenta, dt_over_mass)
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
        (dt_over_mass,) = self._atom_constants()
        return SplitStep(0.5 * self._dt, dt_over_mass)

    def conserved(self, state: State, system: System) -> Tensor:
        """Kinetic plus potential energy, (R,) eV."""
        return state.energies + state.kinetic_energies(system.masses.to(state.momenta))

    def _mass_constants(self, masses: Tensor) -> tuple[Tensor, ...]:
        return (self._dt / masses,)
