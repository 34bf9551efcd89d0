"""Sampling of reference structures: exact averages, and the same bits after interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stablemd.data.generate.langevin import Array, LangevinPlan, LangevinRun, sample_langevin
from stablemd.errors import CheckpointError, ConfigError, SimulationError
from stablemd.units import KB

PLAN = LangevinPlan(
    temperature_k=300.0,
    n_trajectories=2,
    frames_per_trajectory=6,
    stride=4,
    dt_fs=2.0,
    friction_per_ps=20.0,
    equilibration_steps=10,
    seed=1,
)
SPRING = 4.0  # eV/Å²


class Springs:
    """Independent oscillators about the origin, with a memory that must be forgotten."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.calls = 0
        self.memory = 0.0
        self.interrupt_after = interrupt_after

    def energy_and_forces(self, positions: Array) -> tuple[float, Array]:
        self.calls += 1
        if self.calls == self.interrupt_after:
            raise KeyboardInterrupt
        # A trace of the structure before, like a converged density.
        forces = -SPRING * positions + 1e-9 * self.memory
        self.memory = float(positions.sum())
        return 0.5 * SPRING * float((positions**2).sum()), forces

    def forget(self) -> None:
        self.memory = 0.0


def _new(plan: LangevinPlan = PLAN, n_atoms: int = 3) -> LangevinRun:
    return LangevinRun.new(plan, np.zeros((n_atoms, 3)), np.linspace(1.0, 16.0, n_atoms))


def test_configurations_have_the_boltzmann_variance() -> None:
    """BAOAB samples a harmonic oscillator's positions exactly at any stable step.

    The recorded positions have the centre of mass (of no consequence for a molecule) taken
    out, so the energies are tested: (3N/2) kT for N atoms on springs.
    """
    plan = replace(PLAN, frames_per_trajectory=300, dt_fs=3.0, stride=5, equilibration_steps=300)
    # The lightest atom's period is 32 fs: a tenth of that is a coarse step.
    run = sample_langevin(Springs(), _new(plan, n_atoms=40))
    kt = KB * plan.temperature_k
    mean = run.energies.mean() / (1.5 * kt * 40)
    # 600 frames × 120 degrees of freedom, correlated over some frames: error about 1 %.
    assert mean == pytest.approx(1.0, abs=0.04)


def test_recorded_structures_keep_the_centre_of_mass() -> None:
    start = np.arange(9.0).reshape(3, 3)
    run = LangevinRun.new(PLAN, start, np.array([1.0, 12.0, 16.0]))
    sample_langevin(Springs(), run)
    centre = (run.masses[:, None] * (run.positions - start)).sum(axis=1)
    assert float(np.abs(centre).max()) < 1e-10
    assert float(np.abs(run.positions - start).max()) > 0.1


def test_labels_belong_to_their_structures() -> None:
    """A translation-invariant method gives the recorded forces on the recorded positions."""

    class Pair(Springs):
        def energy_and_forces(self, positions: Array) -> tuple[float, Array]:
            bond = positions[1] - positions[0]
            stretch = np.linalg.norm(bond) - 1.0
            pull = SPRING * stretch * bond / np.linalg.norm(bond)
            return 0.5 * SPRING * stretch**2, np.stack([pull, -pull])

    run = LangevinRun.new(PLAN, np.array([[0.0, 0, 0], [1.0, 0, 0]]), np.array([1.0, 16.0]))
    sample_langevin(Pair(), run)
    for x, energy, forces in zip(run.positions, run.energies, run.forces, strict=True):
        expected_energy, expected_forces = Pair().energy_and_forces(x)
        assert energy == pytest.approx(expected_energy, rel=1e-9)
        np.testing.assert_allclose(forces, expected_forces, atol=1e-12)


@pytest.mark.parametrize("interrupt_after", [1, 17, 60])
def test_resumed_equals_uninterrupted(interrupt_after: int, tmp_path: Path) -> None:
    whole = sample_langevin(Springs(), _new())
    path = tmp_path / "partial.npz"
    with pytest.raises(KeyboardInterrupt):
        sample_langevin(Springs(interrupt_after), _new(), checkpoint=path)
    resumed = _new()
    resumed.load(path)
    assert 0 <= resumed.blocks_done < resumed.n_blocks
    sample_langevin(Springs(), resumed, checkpoint=path)
    for name in ("positions", "energies", "forces"):
        assert np.array_equal(getattr(resumed, name), getattr(whole, name))


def test_trajectories_differ_and_seeds_differ() -> None:
    run = sample_langevin(Springs(), _new())
    other = sample_langevin(Springs(), _new(replace(PLAN, seed=2)))
    first, second = run.energies.reshape(2, -1)
    assert len(np.unique(np.concatenate([first, second, other.energies]))) == 24


def test_progress_counts_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    sample_langevin(Springs(), _new(), progress=lambda done, total: seen.append((done, total)))
    # 10 steps of equilibration are 3 strides of 4; 2 trajectories of 3 + 6 strides.
    assert seen == [(k, 18) for k in range(1, 19)]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "partial.npz"
    _new().save(path)
    with pytest.raises(CheckpointError, match="temperature_k is .*300.* there and .*400"):
        _new(replace(PLAN, temperature_k=400.0)).load(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CheckpointError, match="can't be read"):
        _new().load(path)


def test_an_exploding_method_is_an_error() -> None:
    class Antispring(Springs):
        def energy_and_forces(self, positions: Array) -> tuple[float, Array]:
            return float("nan"), np.full_like(positions, np.nan)

    with pytest.raises(SimulationError, match="trajectory 0 is not finite"):
        sample_langevin(Antispring(), _new())


@pytest.mark.parametrize(
    ("name", "value"),
    [("dt_fs", 0.0), ("dt_fs", 10.0), ("stride", 0), ("temperature_k", -1.0), ("seed", -1)],
)
def test_impossible_plans(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        replace(PLAN, **{name: value})
