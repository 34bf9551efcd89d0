"""Nosé-Hoover chain: deterministic dynamics at constant temperature."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from stablemd import units
from stablemd.errors import ConfigError
from stablemd.md.integrators.base import Integrator, at_least_one, positive
from stablemd.md.integrators.nose_hoover_chain import Chain, advance_chain
from stablemd.md.random_streams import Stream, normals
from stablemd.md.state import State
from stablemd.potentials.base import SamplingForm
from stablemd.system import System

VELOCITIES = "nose_hoover_velocities"
POSITIONS = "nose_hoover_positions"


class NoseHooverChain(Integrator):
    """Canonical sampling by a chain of thermostats, one chain per replica.

    With thermostat velocities v_1..v_M (1/time) and masses Q_1 = g kT tau**2,
    Q_j = kT tau**2, the momenta decay at rate v_1 and each link at the rate of
    the next one.  A step is kick, drift, thermostat, drift, kick: symmetric,
    with the thermostat applied once, in the middle.  The thermostat's own
    Liouville operator is split into the odd links and the even links (with the
    momenta); each part is linear and keeps the invariant measure.

    Sources: Martyna, Klein & Tuckerman, J. Chem. Phys. 97, 2635 (1992); Martyna,
    Tuckerman, Tobias & Klein, Mol. Phys. 87, 1117 (1996) for the Liouville form;
    Zhang, Liu, Chen, Zheng, Yan & Liu, J. Chem. Phys. 147, 034109 (2017) for the
    thermostat in the middle.

    Args:
        dt_fs: time step in fs.
        temperature_k: temperature in K.
        tau_fs: time scale of the thermostats in fs, at least 4 time steps.
        chain_length: number of links M.
        com_fixed: True (3N - 3 degrees of freedom) where the total momentum is
            zero and no external field acts; False (3N) otherwise.

    Raises:
        ConfigError: an argument is out of its range.
    """

    needs_noise: ClassVar[bool] = False

    def __init__(
        self,
        dt_fs: float,
        temperature_k: float,
        *,
        tau_fs: float = 50.0,
        chain_length: int = 3,
        com_fixed: bool = True,
    ) -> None:
        super().__init__(dt_fs, com_fixed=com_fixed)
        self.temperature_k = positive("temperature_k", temperature_k, "K")
        self.tau_fs = positive("tau_fs", tau_fs, "fs")
        if self.tau_fs < 4.0 * self.dt_fs:
            raise ConfigError(
                f"tau_fs must be at least 4 time steps ({4.0 * self.dt_fs:g} fs), got "
                f"{self.tau_fs:g}; a faster thermostat is not resolved by this time step"
            )
        self.chain_length = at_least_one("chain_length", chain_length)
        self._chain = self._chain_of(0)

    def init(self, state: State, system: System, seed: int) -> State:
        self._chain = self._chain_of(self.degrees_of_freedom(system))
        if self._chain.n_dof < 1:
            raise ConfigError(
                "a single atom at fixed centre of mass has no degree of freedom to thermostat; "
                "give com_fixed=False"
            )
        return super().init(state, system, seed)

    def step(self, state: State, evaluate: SamplingForm, noise: Tensor | None) -> State:
        half = 0.5 * self._dt
        half_dt_over_mass, inverse_masses = self._constants(state.momenta)
        momenta = torch.add(state.momenta, state.forces, alpha=half)
        positions = torch.addcmul(state.positions, momenta, half_dt_over_mass)
        velocities, links = advance_chain(
            momenta,
            inverse_masses,
            state.thermostat[VELOCITIES],
            state.thermostat[POSITIONS],
            self._dt,
            self._chain,
        )
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
            thermostat={**state.thermostat, VELOCITIES: velocities, POSITIONS: links},
        )

    def conserved(self, state: State, system: System) -> Tensor:
        """Energy of atoms and thermostats, (R,) eV."""
        chain = self._chain_of(self.degrees_of_freedom(system))
        weight = torch.ones_like(state.thermostat[VELOCITIES])
        weight[:, 0] = chain.n_dof
        kinetic = 0.5 * chain.tau**2 * weight * state.thermostat[VELOCITIES].square()
        potential = weight * state.thermostat[POSITIONS]
        atoms = state.energies + state.kinetic_energies(system.masses.to(state.momenta))
        return atoms + chain.kt * (kinetic + potential).sum(dim=1)

    def _thermostat_start(self, state: State, system: System, seed: int) -> dict[str, Tensor]:
        """Velocities from their stationary distribution, positions at zero."""
        velocities = (
            normals(seed, state.replica_ids, state.step, 1, self.chain_length, Stream.THERMOSTAT)[0]
            / self._chain.tau
        )
        velocities[:, 0] /= self._chain.n_dof**0.5
        return {VELOCITIES: velocities, POSITIONS: torch.zeros_like(velocities)}

    def _mass_constants(self, masses: Tensor) -> tuple[Tensor, ...]:
        return 0.5 * self._dt / masses, 1.0 / masses

    def _chain_of(self, n_dof: int) -> Chain:
        return Chain(units.KB * self.temperature_k, n_dof, self.tau_fs * units.FS)
