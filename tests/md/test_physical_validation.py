"""Thermostats and barostat against ``physical_validation``, on a fluid of soft spheres.

Kinetic energies are compared with their exact distribution; potential energies
at two temperatures, and volumes at two pressures, with the ratio of Boltzmann
factors that must lie between them, whatever the density of states.  Frames are
taken from many replicas at long intervals, so that they are independent.

Source: Merz & Shirts, PLoS ONE 13, e0202764 (2018); Shirts, J. Chem. Theory
Comput. 9, 909 (2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stablemd import units
from stablemd.geometry.lattice import minimum_image, volumes
from stablemd.md.initial import initial_state
from stablemd.md.integrators import make_integrator
from stablemd.md.random_streams import NormalBlocks
from stablemd.potentials.base import SamplingForm
from stablemd.system import System

pv = pytest.importorskip(
    "physical_validation", reason="the ensemble checks need physical_validation (extra 'dev')"
)

N, R = 16, 64
EDGE, STIFFNESS = 3.0, 0.5
"""Range (Å) and force constant (eV/Å²) of the repulsion."""

N_STEPS, FIRST_FRAME, FRAME_EVERY = 700, 300, 100

SIGMAS = 3.0
"""Deviation from theory that is accepted, in standard errors; the seeds are fixed."""

PBC = torch.tensor([True, True, True])
CALM = {"langevin": {"friction_per_ps": 5.0}}


@dataclass
class SoftSpheres(SamplingForm):
    """U = sum over pairs of k (d - r)^2 / 2 where r < d, in a cubic cell."""

    replica_independent: bool = True

    def __post_init__(self) -> None:
        self.first, self.second = torch.triu_indices(N, N, offset=1)

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert cells is not None
        energies, forces, _ = self.with_stress(positions, cells)
        return energies, forces

    def with_stress(self, positions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        apart = positions[:, self.second] - positions[:, self.first]
        vectors = minimum_image(apart, cells, PBC)
        distances = torch.linalg.vector_norm(vectors, dim=-1)
        overlap = (EDGE - distances).clamp_min(0.0)
        pushes = (STIFFNESS * overlap / distances)[..., None] * vectors
        forces = torch.zeros_like(positions).index_add_(1, self.second, pushes)
        forces.index_add_(1, self.first, -pushes)
        stress = -torch.einsum("rpi,rpj->rij", vectors, pushes) / volumes(cells)[:, None, None]
        return 0.5 * STIFFNESS * overlap.square().sum(dim=1), forces, stress


@cache
def sampled(name: str, temperature_k: float, pressure_bar: float | None) -> dict[str, np.ndarray]:
    """Kinetic and potential energies (eV) and volumes (Å³) of independent frames."""
    system = System.create(["Ar"] * N, cell=8.6 * np.eye(3), pbc=True)
    grid = torch.cartesian_prod(*[torch.arange(3.0).double()] * 3)[:N] * 8.6 / 3.0
    form, dt_fs = SoftSpheres(), 4.0
    options: dict[str, Any] = {} if name == "langevin" else {"tau_fs": 60.0}
    if pressure_bar is not None:
        options |= {
            "pressure_bar": pressure_bar, "barostat_tau_fs": 200.0,
            "compressibility_per_bar": 5e-4, "barostat_every": 3,
        }  # fmt: skip
    options |= CALM.get(name, {})
    integrator = make_integrator(name, dt_fs=dt_fs, temperature_k=temperature_k, **options)
    state = initial_state(
        system, grid.repeat(R, 1, 1), form, temperature_k=temperature_k, seed=8,
        remove_com=integrator.com_fixed,
    )  # fmt: skip
    state = integrator.init(state, system, seed=8)
    noise = NormalBlocks(8, state.replica_ids, (N, 3), 0, N_STEPS)
    frames = []
    with torch.no_grad():
        for step in range(N_STEPS):
            draws = noise.at(step) if integrator.needs_noise else None
            state = integrator.step(state, form, draws)
            if step + 1 >= FIRST_FRAME and (step + 1) % FRAME_EVERY == 0:
                frames.append(state)
    assert all(s.cells is not None for s in frames)
    return {
        "kinetic": torch.cat([s.kinetic_energies(system.masses) for s in frames]).numpy(),
        "potential": torch.cat([s.energies for s in frames]).numpy(),
        "volume": torch.cat([volumes(s.cells) for s in frames if s.cells is not None]).numpy(),
    }


def validated(
    name: str, temperature_k: float, pressure_bar: float | None = None, *, claim: Any = None
) -> Any:
    """The frames as ``physical_validation`` wants them, claimed to be of other settings or not."""
    values = sampled(name, temperature_k, pressure_bar)
    claimed = temperature_k if claim is None else claim
    ensemble = (
        pv.data.EnsembleData("NVT", natoms=N, volume=8.6**3, temperature=claimed)
        if pressure_bar is None
        else pv.data.EnsembleData("NPT", natoms=N, pressure=pressure_bar, temperature=claimed)
    )
    fixed = make_integrator(name, dt_fs=1.0, temperature_k=300.0).com_fixed
    return pv.data.SimulationData(
        units=pv.data.UnitData(
            kb=units.KB, energy_conversion=96.48533, length_conversion=0.1,
            volume_conversion=1e-3, temperature_conversion=1.0, pressure_conversion=1.0,
            time_conversion=1e-3,
        ),
        system=pv.data.SystemData(
            natoms=N, nconstraints=0, ndof_reduction_tra=3 if fixed else 0, ndof_reduction_rot=0
        ),
        ensemble=ensemble,
        observables=pv.data.ObservableData(
            kinetic_energy=values["kinetic"], potential_energy=values["potential"],
            total_energy=values["kinetic"] + values["potential"], volume=values["volume"],
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "pressure_bar"), [("langevin", None), ("csvr", None), ("cell_rescaling", 800.0)]
)
def test_kinetic_energies_have_their_distribution(name: str, pressure_bar: float | None) -> None:
    def deviations(claim: float | None) -> tuple[float, float]:
        data = validated(name, 300.0, pressure_bar, claim=claim)
        return pv.kinetic_energy.distribution(
            data, strict=False, verbosity=0, bootstrap_seed=1, data_is_uncorrelated=True
        )

    assert max(deviations(None)) < SIGMAS
    assert max(deviations(315.0)) > SIGMAS, "five percent off must be seen"


@pytest.mark.parametrize("name", ["langevin", "csvr"])
def test_two_temperatures_differ_by_their_boltzmann_factors(name: str) -> None:
    def deviation(claim: float | None) -> float:
        pair = (validated(name, 300.0), validated(name, 345.0, claim=claim))
        (value,) = pv.ensemble.check(
            *pair, total_energy=True, verbosity=0, data_is_uncorrelated=True
        )
        return float(value)

    assert deviation(None) < SIGMAS
    assert deviation(390.0) > SIGMAS, "twice the difference must be seen"


def test_two_pressures_differ_by_their_boltzmann_factors() -> None:
    def deviation(claim: float) -> float:
        pair = [
            validated("cell_rescaling", 300.0, 800.0),
            validated("cell_rescaling", 300.0, 1100.0),
        ]
        pair[1].ensemble = pv.data.EnsembleData("NPT", natoms=N, pressure=claim, temperature=300.0)
        (value,) = pv.ensemble.check(*pair, verbosity=0, data_is_uncorrelated=True)
        return float(value)

    assert deviation(1100.0) < SIGMAS
    assert deviation(1400.0) > SIGMAS, "twice the difference must be seen"


def test_forces_and_stress_of_the_test_fluid_are_its_derivatives() -> None:
    generator = torch.Generator().manual_seed(2)
    cells = (7.0 * torch.eye(3, dtype=torch.float64)).repeat(2, 1, 1)
    x = 7.0 * torch.rand(2, N, 3, generator=generator, dtype=torch.float64)
    form, step = SoftSpheres(), 1e-5
    _, forces, stress = form.with_stress(x, cells)
    move = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    above, below = (form(x + s * step * move, cells)[0] for s in (1.0, -1.0))
    slope = -(forces * move).sum((1, 2))
    torch.testing.assert_close((above - below) / (2 * step), slope, rtol=1e-5, atol=1e-6)
    above, below = (form(x * (1 + s * step), cells * (1 + s * step))[0] for s in (1.0, -1.0))
    trace = stress.diagonal(dim1=1, dim2=2).sum(1) * 7.0**3
    torch.testing.assert_close((above - below) / (2 * step), trace, rtol=1e-5, atol=1e-6)
