"""Volume and kinetic energy of stochastic cell rescaling and CSVR against exact distributions.

The ideal gas is the sharpest test there is: its volume is gamma distributed,
``V**N exp(-P V / kT)``, and so is its kinetic energy, whatever the coupling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from stablemd import units
from stablemd.errors import ConfigError, SimulationError
from stablemd.geometry.lattice import volumes
from stablemd.md.initial import initial_state
from stablemd.md.integrators import INTEGRATORS, Integrator, make_integrator
from stablemd.md.random_streams import NormalBlocks
from stablemd.md.state import State
from stablemd.potentials.base import SamplingForm
from stablemd.system import System

T = 300.0
KT = units.KB * T
N = 6
PRESSURE = 2000.0
"""bar; the mean volume is then about 21 Å³ per atom."""


@dataclass
class IdealGas(SamplingForm):
    """No interaction at all."""

    replica_independent: bool = True

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return positions.new_zeros(len(positions)), torch.zeros_like(positions)

    def with_stress(self, positions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (*self(positions), torch.zeros_like(cells))


def gas(n_replicas: int, seed: int = 3) -> tuple[System, State]:
    system = System.create(["Ar"] * N, cell=5.0 * np.eye(3), pbc=True)
    generator = torch.Generator().manual_seed(seed)
    positions = 5.0 * torch.rand(n_replicas, N, 3, generator=generator, dtype=torch.float64)
    return system, initial_state(system, positions, IdealGas(), temperature_k=T, seed=seed)


def run(integrator: Integrator, system: System, state: State, n_steps: int, keep: int) -> list:
    state = integrator.init(state, system, seed=5)
    noise = NormalBlocks(5, state.replica_ids, (system.n_atoms, 3), 0, n_steps)
    kept = []
    with torch.no_grad():
        for step in range(n_steps):
            state = integrator.step(state, IdealGas(), noise.at(step))
            if (step + 1) % keep == 0:
                kept.append(state)
    return kept


def assert_distributed(samples: Tensor, distribution: stats.rv_continuous, *args: float) -> None:
    """Mean and variance within four standard errors, and no other shape (Kolmogorov–Smirnov).

    Samples (frames, replicas): replicas are independent, frames of one are not.
    """
    mean, variance = (float(x) for x in distribution.stats(*args, moments="mv"))
    for values, expected in ((samples, mean), ((samples - mean).square(), variance)):
        per_replica = values.mean(dim=0)
        error = float(per_replica.std()) / len(per_replica) ** 0.5
        assert error < 0.05 * expected
        assert abs(float(per_replica.mean()) - expected) < 4.0 * error
    assert stats.kstest(samples[-1].numpy(), distribution.cdf, args=args).pvalue > 1e-3


@pytest.mark.parametrize(
    ("coupling", "com_fixed"), [("isotropic", True), ("isotropic", False), ("anisotropic", True)]
)
def test_an_ideal_gas_has_its_exact_volume_distribution(coupling: str, com_fixed: bool) -> None:
    system, state = gas(200)
    integrator = make_integrator(
        "cell_rescaling", dt_fs=2.0, temperature_k=T, tau_fs=20.0, pressure_bar=PRESSURE,
        barostat_tau_fs=200.0, compressibility_per_bar=1.0 / PRESSURE, coupling=coupling,
        barostat_every=2, com_fixed=com_fixed,
    )  # fmt: skip
    if not com_fixed:  # with momenta of its own for the centre of mass
        state = initial_state(
            system, state.positions, IdealGas(), temperature_k=T, seed=3, remove_com=False
        )
    kept = run(integrator, system, state, 900, 20)[15:]
    volume = torch.stack([volumes(s.cells) for s in kept])
    scale = KT / (PRESSURE * units.BAR)
    assert_distributed(volume, stats.gamma, N + 1, 0.0, scale)
    kinetic = torch.stack([s.kinetic_energies(system.masses) for s in kept])
    n_dof = integrator.degrees_of_freedom(system)
    assert_distributed(kinetic, stats.gamma, n_dof / 2.0, 0.0, KT)
    if coupling == "isotropic":
        shapes = torch.stack([s.cells for s in kept[-1:]])[0]
        edges = shapes.diagonal(dim1=1, dim2=2)
        assert float((shapes - torch.diag_embed(edges)).abs().max()) < 1e-12
        torch.testing.assert_close(edges[:, 0], edges[:, 1])


def test_csvr_gives_the_kinetic_energy_its_exact_distribution() -> None:
    system, state = gas(300)
    for tau_fs in (3.0, 60.0):  # nearly redrawn in every step, and slowly followed
        integrator = make_integrator("csvr", dt_fs=2.0, temperature_k=T, tau_fs=tau_fs)
        kept = run(integrator, system, state, 900, 10)[15:]
        kinetic = torch.stack([s.kinetic_energies(system.masses) for s in kept])
        assert_distributed(kinetic, stats.gamma, (3 * N - 3) / 2.0, 0.0, KT)
        assert float(kept[-1].momenta.sum(dim=1).abs().max()) < 1e-11


def test_csvr_relaxes_with_its_time_constant() -> None:
    """<K(t)> decays to its mean exactly exponentially, whatever the step."""
    system, state = gas(2000)
    state = State(**{**state.to_dict(), "momenta": 3.0 * state.momenta})
    integrator = make_integrator("csvr", dt_fs=5.0, temperature_k=T, tau_fs=40.0)
    kept = run(integrator, system, state, 16, 1)
    start = state.kinetic_energies(system.masses).mean()
    target = (3 * N - 3) / 2.0 * KT
    for step in (1, 8, 16):
        mean = kept[step - 1].kinetic_energies(system.masses)
        expected = target + (start - target) * np.exp(-5.0 * step / 40.0)
        error = mean.std() / len(mean) ** 0.5
        assert abs(float(mean.mean() - expected)) < 4.0 * float(error) + 1e-12


@pytest.mark.parametrize("coupling", ["isotropic", "anisotropic"])
def test_the_effective_enthalpy_is_conserved_as_the_step_shrinks(coupling: str) -> None:
    """Energy that the baths bring is accounted for; what is left is the step's own error."""
    system, state = gas(100)
    spread = []
    for every in (8, 2):
        integrator = make_integrator(
            "cell_rescaling", dt_fs=1.0, temperature_k=T, tau_fs=20.0, pressure_bar=PRESSURE,
            barostat_tau_fs=400.0, compressibility_per_bar=1.0 / PRESSURE, coupling=coupling,
            barostat_every=every,
        )  # fmt: skip
        kept = run(integrator, system, state, 400, 8)
        conserved = torch.stack([integrator.conserved(s, system) for s in kept])
        enthalpy = conserved + torch.stack([s.thermostat["csvr_heat"] for s in kept])
        spread.append(float((conserved[-1] - conserved[0]).std()))
        assert float((enthalpy[-1] - enthalpy[0]).std()) > 2.0 * KT
    # A move's error is of order time**1.5 and random: over a fixed time, proportional to time.
    assert spread[0] < 0.06 * KT
    assert spread[0] / spread[1] == pytest.approx(4.0, rel=0.3)


def test_constant_pressure_needs_full_periodicity(atoms: System) -> None:
    slab = System.create(["Ar", "Ar"], cell=9.0 * np.eye(3), pbc=[True, True, False])
    integrator = make_integrator("cell_rescaling", dt_fs=1.0, temperature_k=T)
    for system in (atoms, slab):
        positions = torch.rand(2, system.n_atoms, 3, dtype=torch.float64)
        state = initial_state(system, positions, IdealGas(), temperature_k=T, seed=0)
        with pytest.raises(SimulationError, match="periodic in all three"):
            integrator.init(state, system, 0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"coupling": "semi"}, "coupling"),
        ({"barostat_every": 0}, "barostat_every"),
        ({"pressure_bar": float("inf")}, "pressure_bar"),
        ({"barostat_tau_fs": 0.0}, "barostat_tau_fs"),
        ({"compressibility_per_bar": -1.0}, "compressibility_per_bar"),
    ],
)
def test_impossible_barostats_are_refused(options: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make_integrator("cell_rescaling", dt_fs=1.0, temperature_k=T, **options)
    assert INTEGRATORS["cell_rescaling"].constant_volume is False
