"""Nosé-Hoover chain: deterministic dynamics at constant temperature."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from stablemd import units
from stablemd.errors import ConfigError
from stablemd.md.integrators.base import Integrator, at_least_one, positive
from stablemd.md.random_streams import Stream, normals
from stablemd.md.state import State
from stablemd.potentials.base import EnergyForceFunction
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
        self._kt = units.KB * self.temperature_k
        self._tau = self.tau_fs * units.FS
        self._n_dof = 0

    def init(self, state: State, system: System, seed: int) -> State:
        self._n_dof = self.degrees_of_freedom(system)
        if self._n_dof < 1:
            raise ConfigError(
                "a single atom at fixed centre of mass has no degree of freedom to thermostat; "
                "give com_fixed=False"
            )
        return super().init(state, system, seed)

    def step(self, state: State, evaluate: EnergyForceFunction, noise: Tensor | None) -> State:
        half = 0.5 * self._dt
        (half_dt_over_mass,) = self._constants(state.momenta)
        momenta = torch.add(state.momenta, state.forces, alpha=half)
        positions = torch.addcmul(state.positions, momenta, half_dt_over_mass)
        thermostat = self._thermostat(momenta, half_dt_over_mass, state.thermostat)
        positions.addcmul_(momenta, half_dt_over_mass)
        energies, forces = evaluate(positions)
        momenta.add_(forces, alpha=half)
        return State(
            positions=positions,
            momenta=momenta,
            forces=forces,
            energies=energies,
            replica_ids=state.replica_ids,
            step=state.step + 1,
            alive=state.alive,
            thermostat=thermostat,
        )

    def conserved(self, state: State, system: System) -> Tensor:
        """Energy of atoms and thermostats, (R,) eV."""
        n_dof = self.degrees_of_freedom(system)
        weight = torch.ones_like(state.thermostat[VELOCITIES])
        weight[:, 0] = n_dof
        kinetic = 0.5 * self._tau**2 * weight * state.thermostat[VELOCITIES].square()
        potential = weight * state.thermostat[POSITIONS]
        atoms = state.energies + state.kinetic_energies(system.masses.to(state.momenta))
        return atoms + self._kt * (kinetic + potential).sum(dim=1)

    def _thermostat_start(self, state: State, system: System, seed: int) -> dict[str, Tensor]:
        """Velocities from their stationary distribution, positions at zero."""
        velocities = (
            normals(seed, state.replica_ids, state.step, 1, self.chain_length, Stream.THERMOSTAT)[0]
            / self._tau
        )
        velocities[:, 0] /= self._n_dof**0.5
        return {VELOCITIES: velocities, POSITIONS: torch.zeros_like(velocities)}

    def _mass_constants(self, masses: Tensor) -> tuple[Tensor, ...]:
        return (0.5 * self._dt / masses,)

    def _thermostat(
        self, momenta: Tensor, half_dt_over_mass: Tensor, variables: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Advance the chain by a whole step, scaling ``momenta`` in place."""
        links = list(variables[VELOCITIES].unbind(1))
        twice_kinetic = (momenta * half_dt_over_mass).mul_(momenta).flatten(1).sum(dim=1)
        twice_kinetic.mul_(2.0 / self._dt)

        self._advance(links, range(0, len(links), 2), 0.5 * self._dt, twice_kinetic)
        middle = list(links)
        scale = torch.mul(links[0], -self._dt).exp_()
        momenta.mul_(scale[:, None, None])
        twice_kinetic.mul_(scale).mul_(scale)
        self._advance(links, range(1, len(links), 2), self._dt, twice_kinetic)
        for j in range(1, len(links), 2):
            middle[j] = torch.add(middle[j], links[j]).mul_(0.5)
        self._advance(links, range(0, len(links), 2), 0.5 * self._dt, twice_kinetic)
        return {
            **variables,
            VELOCITIES: torch.stack(links, dim=1),
            POSITIONS: torch.add(variables[POSITIONS], torch.stack(middle, dim=1), alpha=self._dt),
        }

    def _advance(
        self, links: list[Tensor], which: range, time: float, twice_kinetic: Tensor
    ) -> None:
        """Solve v_j' = G_j - v_{j+1} v_j over ``time``, the other links held constant."""
        rate = 1.0 / self._tau**2
        for j in which:
            decay = torch.mul(links[j + 1], -0.5 * time).exp_() if j + 1 < len(links) else None
            link = links[j] * decay if decay is not None else links[j].clone()
            if j == 0:
                link.add_(twice_kinetic, alpha=time * rate / (self._n_dof * self._kt))
            else:
                weight = self._n_dof if j == 1 else 1
                link.addcmul_(links[j - 1], links[j - 1], value=time * weight)
            link.sub_(time * rate)
            links[j] = link.mul_(decay) if decay is not None else link
