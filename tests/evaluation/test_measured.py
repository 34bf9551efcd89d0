"""Dynamical and thermodynamic observables of an evaluation, against exact results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stablemd import units
from stablemd.data import Frames
from stablemd.errors import ConfigError, DataError, SystemDefinitionError
from stablemd.evaluation.evaluate import Evaluation, evaluate
from stablemd.evaluation.settings import EvaluationSettings
from stablemd.geometry.lattice import volumes
from stablemd.observables import THERMODYNAMIC_OBSERVABLES, TRAJECTORY_OBSERVABLES
from stablemd.observables.pressure import BAR
from stablemd.potentials.base import Potential
from stablemd.potentials.batch import Batch
from stablemd.system import System

N, STIFFNESS, TEMPERATURE_K, EDGE = 4, 3.0, 300.0, 9.0
ARGON = System.create(["Ar"] * N)
BOX = System.create(["Ar"] * N, cell=EDGE * np.eye(3), pbc=True)
SITES = 3.0 * torch.eye(4, 3, dtype=torch.float64)
OMEGA = math.sqrt(STIFFNESS / float(ARGON.masses[0])) * units.FS
"""Angular frequency of every atom in its trap, 1/fs."""


class Traps(Potential):
    """Every atom in a harmonic trap of its own, k |x - x0|² / 2."""

    cutoff = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(STIFFNESS, dtype=torch.float64))

    def local_energies(self, batch: Batch) -> Tensor:
        sites = SITES.repeat(batch.n_structures, 1)
        return 0.5 * self.stiffness * (batch.positions - sites).square().sum(dim=1)


class VolumeEnergy(Potential):
    """U = e V: no forces, and a stress of e in every direction."""

    cutoff = 1.0

    def __init__(self, density: float) -> None:
        super().__init__()
        self.density = nn.Parameter(torch.tensor(density, dtype=torch.float64))

    def local_energies(self, batch: Batch) -> Tensor:
        assert batch.cells is not None
        share = self.density * volumes(batch.cells) / N
        return share[batch.structure] + 0.0 * batch.positions.sum(dim=1)


def frames(system: System, potential: Potential, n: int = 40) -> Frames:
    """Structures of the traps' ensemble."""
    generator = torch.Generator().manual_seed(7)
    spread = math.sqrt(units.KB * TEMPERATURE_K / STIFFNESS)
    noise = torch.randn(n, N, 3, generator=generator, dtype=torch.float64)
    positions = SITES + spread * noise
    energies, forces = potential.energy_and_forces(system, positions)
    cell = system.cell.expand(n, 3, 3).clone() if system.is_periodic else None
    return Frames(
        system.numbers, positions, energies, forces, cell=cell, pbc=system.pbc, source="traps"
    )


def run(potential: Potential, system: System, integrator: str, **changes: Any) -> Evaluation:
    periodic: list[dict[str, Any]] = [{"name": "density"}]
    isolated: list[dict[str, Any]] = [{"name": "distance_distribution", "r_max": 6.0}]
    observables = periodic if system.is_periodic else isolated
    settings = EvaluationSettings.model_validate(
        {
            "dynamics": {
                "temperature_k": TEMPERATURE_K, "dt_fs": 4.0, "integrator": integrator,
                "friction_per_ps": 20.0, "max_temperature_k": 1e5,
            },
            "n_replicas": 40, "length_ps": 1.2, "record_every_fs": 8.0, "discard_fs": 100.0,
            "observables": observables,
            **changes,
        }
    )  # fmt: skip
    data = frames(system, potential)
    return evaluate(potential, system, data, data, settings)


@pytest.fixture(scope="module")
def oscillations() -> Evaluation:
    path = {"path_ps": 1.0}
    dynamical = [
        {"name": "velocity_autocorrelation", "max_lag_fs": 400.0, **path},
        {"name": "mean_squared_displacement", "max_lag_ps": 0.4, **path},
        {"name": "diffusion_coefficient", "fit_ps": [0.2, 0.4], **path},
        {"name": "vibrational_spectrum", "max_lag_fs": 900.0, "element": "Ar", **path},
    ]
    return run(Traps(), ARGON, "nve", dynamical=dynamical)


def test_velocities_in_a_trap_are_correlated_as_a_cosine(oscillations: Evaluation) -> None:
    found = oscillations.metrics.extra["dynamical"]["velocity_autocorrelation"]
    lag, c = np.array(found["axis"]), np.array(found["value"])
    assert len(lag) == 51 and lag[-1] == 400.0
    # finite paths of any phase: their sin-cos cross terms average out over 40 replicas
    np.testing.assert_allclose(c, np.cos(OMEGA * lag), atol=0.02)
    assert found["n_paths"] == 40 and max(found["stderr"][1:]) < 0.02


def test_a_spectrum_peaks_at_the_frequency_of_the_trap(oscillations: Evaluation) -> None:
    found = oscillations.metrics.extra["dynamical"]["vibrational_spectrum_Ar"]
    peak = found["axis"][int(np.argmax(found["value"]))]
    exact = OMEGA / (2.0 * math.pi) * 1e15 / 2.99792458e10
    assert peak == pytest.approx(exact, abs=found["axis"][1])


def test_diffusion_is_a_sixth_of_the_slope_of_the_displacement(oscillations: Evaluation) -> None:
    """The fit of the mean is the mean of the fits; velocity and position agree in time."""
    dynamical = oscillations.metrics.extra["dynamical"]
    msd = dynamical["mean_squared_displacement"]
    lag, value = np.array(msd["axis"]) * 1e-3, np.array(msd["value"])
    window = lag > 0.199
    slope = np.polyfit(lag[window], value[window], 1)[0]
    assert dynamical["diffusion_coefficient"]["value"] == pytest.approx(slope / 6.0, rel=1e-9)
    # <|x(t + τ) - x(t)|²> = 6 kT/k (1 - cos ωτ) per atom, less the centre of mass's share
    amplitude = 6.0 * units.KB * TEMPERATURE_K / STIFFNESS * (1.0 - 1.0 / N)
    exact = amplitude * (1.0 - np.cos(OMEGA * 1e3 * lag))
    # 40 paths of 18 harmonic squares each know their energy to 5 %
    assert np.abs(value - exact).max() < 4.0 * np.max(msd["stderr"]) < 0.3 * exact.max()


def test_velocities_are_kept_only_where_they_are_needed(oscillations: Evaluation) -> None:
    kept = oscillations.frames.momenta
    assert kept is not None and kept.shape == oscillations.frames.positions.shape
    kinetic = 0.5 * (kept.square() / ARGON.masses[:, None]).sum(dim=(1, 2))
    total = kinetic + oscillations.frames.energies
    last = oscillations.frames.step == oscillations.frames.step.max()
    first = oscillations.frames.step == oscillations.frames.step.min()
    torch.testing.assert_close(total[last], total[first], rtol=2e-2, atol=1e-3)
    assert run(Traps(), ARGON, "nve", length_ps=0.2).frames.momenta is None


def test_the_heat_capacity_of_traps_is_three(tmp_path: Path) -> None:
    measured = [{"name": "heat_capacity", "reference": 3.0}]
    found = run(Traps(), ARGON, "langevin", length_ps=3.0, thermodynamic=measured)
    heat = found.metrics.to_json()["thermodynamic"]["heat_capacity"]
    assert abs(heat["value"] - 3.0) < 4.0 * heat["stderr"] < 0.6
    assert heat["reference"] == 3.0 and heat["unit"] == "k_B per atom"


@pytest.mark.parametrize("density", [0.0, 2e-4])
def test_the_pressure_is_the_ideal_gas_less_the_stress(density: float) -> None:
    found = run(
        VolumeEnergy(density), BOX, "csvr", length_ps=0.4,
        thermodynamic=[{"name": "pressure", "max_frames": 100}],
    )  # fmt: skip
    pressure = found.metrics.to_json()["thermodynamic"]["pressure"]
    ideal = N * units.KB * TEMPERATURE_K / EDGE**3
    assert pressure["value"] == pytest.approx((ideal - density) / BAR, rel=1e-6)
    assert pressure["n_frames"] == 80, "two times of 40 replicas each"


def test_what_can_not_be_had_is_told_before_the_simulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulated(*args: object, **kwargs: object) -> None:
        raise AssertionError("the simulation has begun")

    monkeypatch.setattr("stablemd.md.long_run.simulate", simulated)
    (tmp_path / "short.txt").write_text("0 1\n100 0\n")
    reference = {"path": tmp_path / "short.txt"}
    correlation = {"name": "velocity_autocorrelation", "max_lag_fs": 400.0, "path_ps": 1.0}
    diffusion = {"name": "diffusion_coefficient", "fit_ps": [0.2, 0.4], "path_ps": 1.0}
    for changes, error, words in (
        ({"thermodynamic": [{"name": "pressure"}]}, ConfigError, "not periodic"),
        ({"dynamical": [{**correlation, "element": "O"}]}, SystemDefinitionError, "no atom O"),
        ({"dynamical": [{**correlation, "reference": reference}]}, DataError, "covers 0 to 100"),
        ({"dynamical": [{**diffusion, "viscosity_pa_s": 1e-3}]}, SystemDefinitionError, "cubic"),
    ):
        with pytest.raises(error, match=words):
            run(Traps(), ARGON, "nve", **changes)


def test_a_curve_from_a_file_in_ps_gives_an_error_with_its_error_bar(tmp_path: Path) -> None:
    """Against the exact cosine, raised by a constant: the error is that constant."""
    lag = np.linspace(0.0, 0.5, 501)
    table = np.column_stack([lag, np.cos(1e3 * OMEGA * lag) + 3.0])
    np.savetxt(tmp_path / "cosine.txt", table, header="t c")
    reference = {"path": tmp_path / "cosine.txt", "x": "t", "y": "c", "x_unit": "ps"}
    choice = {"name": "velocity_autocorrelation", "max_lag_fs": 400.0, "path_ps": 1.0}
    found = run(Traps(), ARGON, "nve", dynamical=[{**choice, "reference": reference}])
    content = found.metrics.to_json()["dynamical"]["velocity_autocorrelation"]
    assert content["mae"] == pytest.approx(3.0, abs=5.0 * content["mae_stderr"] + 2e-3)
    assert 0.0 < content["mae_stderr"] < 0.02
    drawn = found.curves["velocity_autocorrelation"].reference
    assert drawn is not None and float(drawn.mean[0]) == pytest.approx(4.0)


def test_every_one_of_the_registries_can_be_chosen() -> None:
    times = {"path_ps": 1.0}
    options: dict[str, dict[str, Any]] = {
        "diffusion_coefficient": {"fit_ps": (0.1, 0.2), **times},
        "mean_squared_displacement": {"max_lag_ps": 0.2, **times},
    }
    lag = {"max_lag_fs": 200.0, **times}
    chosen = EvaluationSettings.model_validate(
        {
            "dynamical": [{"name": n, **options.get(n, lag)} for n in TRAJECTORY_OBSERVABLES],
            "thermodynamic": [{"name": n} for n in THERMODYNAMIC_OBSERVABLES],
        }
    )
    for path in chosen.dynamical:
        built = path.build(ARGON, 10.0)
        assert type(built) is TRAJECTORY_OBSERVABLES[path.name]
    for state in chosen.thermodynamic:
        assert type(state.build()) is THERMODYNAMIC_OBSERVABLES[state.name]


@pytest.mark.parametrize(
    "given",
    [
        {"name": "mean_squared_displacement", "max_lag_ps": 1.0, "path_ps": 1.0},
        {"name": "velocity_autocorrelation", "max_lag_fs": 2000.0, "path_ps": 1.0},
        {"name": "velocity_autocorrelation", "max_lag_fs": 10.0},
        {"name": "vacf", "max_lag_fs": 10.0, "path_ps": 1.0},
    ],
)
def test_impossible_times_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"path_ps|does not match"):
        EvaluationSettings.model_validate({"dynamical": [given]})
