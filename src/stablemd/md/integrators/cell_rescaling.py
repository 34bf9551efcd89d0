"""Stochastic cell rescaling: constant pressure and temperature."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from torch import Tensor

from stablemd import units
from stablemd.errors import ConfigError, SimulationError
from stablemd.geometry.lattice import volumes
from stablemd.md.integrators.barostat import Barostat, exponential, rows_times
from stablemd.md.integrators.base import at_least_one, positive, real
from stablemd.md.integrators.csvr import CSVR, HEAT
from stablemd.md.random_streams import Stream, normals
from stablemd.md.state import State
from stablemd.potentials.base import SamplingForm
from stablemd.system import System

Coupling = Literal["isotropic", "anisotropic"]


class StochasticCellRescaling(CSVR):
    """Constant pressure by a first-order stochastic barostat, temperature by CSVR.

    Every ``barostat_every`` steps cell, positions and momenta are strained by
    :class:`~stablemd.md.integrators.barostat.Barostat`, which needs one more
    evaluation of the potential.  Volume and cell fluctuate as the
    isothermal-isobaric ensemble says, whatever the relaxation time, with no
    oscillation of a piston.

    Unwrapped positions follow the cell, so that a diffusion coefficient belongs
    to constant volume.

    Sources: Bernetti & Bussi, J. Chem. Phys. 153, 114107 (2020); Del Tatto,
    Raiteri, Bernetti & Bussi, Appl. Sci. 12, 1139 (2022) for the whole cell.

    Args:
        dt_fs: time step in fs.
        temperature_k: temperature in K.
        tau_fs: relaxation time of the kinetic energy in fs.
        pressure_bar: pressure in bar; may be negative.
        barostat_tau_fs: relaxation time of the volume in fs.
        compressibility_per_bar: isothermal compressibility in 1/bar; only its
            ratio to ``barostat_tau_fs`` enters, and no average depends on it.
        coupling: ``isotropic`` scales the cell, ``anisotropic`` lets all its
            lengths and angles go (for solids: a liquid's cell has no shape to
            return to, and becomes ever more skewed).
        barostat_every: steps between changes of the cell.
        com_fixed: True (3N - 3 degrees of freedom) where the total momentum is zero.

    Raises:
        ConfigError: an argument is out of its range.
    """

    constant_volume: ClassVar[bool] = False

    def __init__(
        self,
        dt_fs: float,
        temperature_k: float,
        *,
        tau_fs: float = 100.0,
        pressure_bar: float = 1.0,
        barostat_tau_fs: float = 1000.0,
        compressibility_per_bar: float = 4.5e-5,
        coupling: Coupling = "isotropic",
        barostat_every: int = 10,
        com_fixed: bool = True,
    ) -> None:
        super().__init__(dt_fs, temperature_k, tau_fs=tau_fs, com_fixed=com_fixed)
        if coupling not in ("isotropic", "anisotropic"):
            raise ConfigError(f"coupling must be 'isotropic' or 'anisotropic', got {coupling!r}")
        self.pressure_bar = real("pressure_bar", pressure_bar, "bar")
        self.barostat_every = at_least_one("barostat_every", barostat_every)
        self.barostat_tau_fs = positive("barostat_tau_fs", barostat_tau_fs, "fs")
        self.compressibility_per_bar = positive(
            "compressibility_per_bar", compressibility_per_bar, "1/bar"
        )
        self.coupling = coupling
        self._barostat = self._barostat_at(1.0)
        self._seed = 0

    def init(self, state: State, system: System, seed: int) -> State:
        if state.cells is None or not bool(system.pbc.all()):
            raise SimulationError(
                f"constant pressure needs a system that is periodic in all three directions, and "
                f"{system.formula} has pbc = {system.pbc.tolist()}; use 'csvr' or 'langevin'"
            )
        self._seed = seed
        self._barostat = self._barostat_at(float(volumes(system.cell)))
        return super().init(state, system, seed)

    def _barostat_at(self, volume: float) -> Barostat:
        return Barostat(
            kt=self._kt,
            pressure=self.pressure_bar * units.BAR,
            rate=self.compressibility_per_bar / units.BAR / self.barostat_tau_fs,
            volume=volume,
            time=self.dt_fs * self.barostat_every,
            isotropic=self.coupling == "isotropic",
            com_fixed=self.com_fixed,
        )

    def step(self, state: State, evaluate: SamplingForm, noise: Tensor | None) -> State:
        if (state.step + 1) % self.barostat_every:
            return super().step(state, evaluate, noise)
        with_stress = _StressCalls(evaluate)
        state = super().step(state, with_stress, noise)
        assert state.cells is not None and with_stress.stress is not None
        draws = normals(self._seed, state.replica_ids, state.step, 1, 6, Stream.BAROSTAT)[0]
        (_, inverse_masses) = self._constants(state.momenta)
        before = self._barostat.look(
            state.cells, state.momenta, inverse_masses, state.energies, with_stress.stress
        )
        strain = self._barostat.draw(before, draws)
        stretch, back = exponential(strain), exponential(-strain)
        positions = rows_times(state.positions, stretch)
        momenta = rows_times(state.momenta, back)
        cells = rows_times(state.cells, stretch)
        energies, forces, stress = evaluate.with_stress(positions, cells)
        after = self._barostat.look(cells, momenta, inverse_masses, energies, stress)
        heat = state.thermostat[HEAT] + self._barostat.heat(before, after, strain)
        return replace(
            state,
            positions=positions,
            momenta=momenta,
            cells=cells,
            energies=energies,
            forces=forces,
            thermostat={**state.thermostat, HEAT: heat},
        )

    def conserved(self, state: State, system: System) -> Tensor:
        """Enthalpy K + U + PV less what the baths have given, (R,) eV.

        Constant up to the errors of the time steps of dynamics and barostat:
        the effective energy of Bussi, Donadio & Parrinello (2007) and of
        Bernetti & Bussi (2020).
        """
        assert state.cells is not None
        return super().conserved(state, system) + self._barostat.work(state.cells)


class _StressCalls(SamplingForm):
    """Answers a call with energies and forces, and keeps the stress that came with them."""

    def __init__(self, form: SamplingForm) -> None:
        self._form = form
        self.stress: Tensor | None = None

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert cells is not None
        energies, forces, self.stress = self._form.with_stress(positions, cells)
        return energies, forces
