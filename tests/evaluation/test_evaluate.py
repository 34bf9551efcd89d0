from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stablemd import units
from stablemd.data import Frames
from stablemd.errors import DataError
from stablemd.evaluation.curves import ComparedCurve
from stablemd.evaluation.evaluate import Evaluation, evaluate
from stablemd.evaluation.settings import EvaluationSettings
from stablemd.md import initial_state, simulate
from stablemd.md.settings import DynamicsSettings
from stablemd.observables import ReferenceAverage
from stablemd.observables.settings import BondExcessSettings, DistanceDistributionSettings
from stablemd.observables.trajectory_settings import DiffusionSettings
from stablemd.potentials.base import Potential
from stablemd.potentials.batch import Batch
from stablemd.stability.settings import DistanceWindowSettings
from stablemd.system import System
from stablemd.training.label_errors import energy_and_force_mae

LENGTH, STIFFNESS, TEMPERATURE_K = 1.0, 4.0, 500.0
DISTANCES = DistanceDistributionSettings(r_max=3.0, n_bins=60)
SYSTEM = System.create(["H", "H"], bonds=[[0, 1]], bond_lengths=[LENGTH])


class Spring(Potential):
    """U = stiffness/2 (r - length)²: stable if stiff, tearing at once if negative."""

    def __init__(self, stiffness: float = STIFFNESS, length: float = LENGTH) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(stiffness, dtype=torch.float64))
        self.length = length

    def local_energies(self, batch: Batch) -> Tensor:
        i, j = batch.pairs
        r = (batch.positions[i] - batch.positions[j]).norm(dim=1)
        half = 0.25 * self.stiffness * (r - self.length).square()
        local = half.new_zeros(len(batch.positions))
        return local.index_add(0, i, half).index_add(0, j, half)


STABLE, SOFT, TEARING = Spring(), Spring(stiffness=1.2), Spring(stiffness=-40.0)
"""A soft bond reaches the threshold of 0.5 Å now and then: 1.87 standard deviations."""


def exact_frames(n: int, seed: int) -> Frames:
    """Independent structures of the stable spring's ensemble, with its labels."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.linspace(0.5, 1.6, 4001, dtype=torch.float64)
    weight = grid.square() * torch.exp(
        -0.5 * units.beta(TEMPERATURE_K) * STIFFNESS * (grid - LENGTH).square()
    )
    r = grid[torch.multinomial(weight, n, replacement=True, generator=generator)]
    positions = torch.zeros(n, 2, 3, dtype=torch.float64)
    positions[:, 1, 2] = r
    energies, forces = STABLE.energy_and_forces(SYSTEM, positions)
    return Frames(SYSTEM.numbers, positions, energies, forces, source=f"toy {seed}")


TEST, REFERENCE = exact_frames(24, 1), exact_frames(400, 2)


def settings(**changes: Any) -> EvaluationSettings:
    base: dict[str, Any] = {
        "dynamics": DynamicsSettings(
            temperature_k=TEMPERATURE_K, dt_fs=2.0, integrator="langevin", friction_per_ps=20.0,
            tau_fs=20.0, check_every=3, bond_threshold=0.5, max_temperature_k=30_000.0,
        ),
        "n_replicas": 24, "length_ps": 0.4, "record_every_fs": 10.0, "discard_fs": 50.0,
        "observables": (DISTANCES,), "seed": 5,
    }  # fmt: skip
    return EvaluationSettings(**{**base, **changes})


def run(potential: Potential, **changes: Any) -> Evaluation:
    return evaluate(potential, SYSTEM, TEST, REFERENCE, settings(**changes))


def curve(evaluation: Evaluation, key: str = "distance_distribution") -> ComparedCurve:
    return evaluation.curves[key]


def plain(evaluation: Evaluation) -> dict[str, Any]:
    """Everything in metrics.json but the clock's numbers, as strict JSON reads it back."""
    text = json.dumps(evaluation.metrics.to_json(), allow_nan=False)
    result: dict[str, Any] = json.loads(text)
    del result["wall_s"]
    return result


@pytest.fixture(scope="module")
def stable() -> Evaluation:
    return run(STABLE)


@pytest.fixture(scope="module")
def soft() -> Evaluation:
    return run(SOFT)


@pytest.fixture(scope="module")
def tearing() -> Evaluation:
    return run(TEARING)


def test_metrics_have_the_keys_that_readers_rely_on(stable, soft, tearing) -> None:
    for evaluation in (stable, soft, tearing):
        metrics = plain(evaluation)
        assert {
            "median", "ci95", "mean_time_to_failure", "mean_time_to_failure_ci95",
            "n_failed", "n_replicas", "length_ps",
        } <= set(metrics["stable_time_ps"])  # fmt: skip
        assert metrics["stable_time_ps"]["n_replicas"] == 24
        assert metrics["stable_time_ps"]["length_ps"] == pytest.approx(0.4)
        for key in ("force_mae_ev_per_angstrom", "energy_mae_ev"):
            assert math.isfinite(metrics[key])
        assert set(metrics["observables"]) == {"distance_distribution"}
        for error in metrics["observables"].values():
            assert set(error) == {"mae", "stderr"}
            assert evaluation is tearing or error["mae"] >= 0.0
        assert set(evaluation.metrics.wall_s) == {"label_errors", "simulate", "observables"}


def test_the_seed_determines_the_numbers(soft: Evaluation) -> None:
    again, other = run(SOFT), run(SOFT, seed=6)
    assert plain(again) == plain(soft)
    assert torch.equal(again.frames.positions, soft.frames.positions)
    assert plain(other)["stable_time_ps"] != plain(soft)["stable_time_ps"]


def test_velocities_and_noise_are_those_of_the_seed(soft: Evaluation) -> None:
    """The same frames, to the bit, from the parts that a user would put together."""
    how = settings()
    form = SOFT.for_sampling(SYSTEM)
    start = initial_state(SYSTEM, TEST.positions, form, temperature_k=TEMPERATURE_K, seed=5)
    parts = (how.dynamics.make_integrator(), how.dynamics.make_detectors(SYSTEM), SYSTEM)
    result = simulate(form, start, *parts, n_steps=200, seed=5, check_every=3, record_every=5)
    assert torch.equal(result.frames.positions, soft.frames.positions)
    assert torch.equal(result.failed_step, soft.failed_step)


def test_a_stable_potential_is_censored_at_the_length(stable: Evaluation) -> None:
    survival = stable.stable_time
    assert survival.n_failed == 0 and survival.median is None
    assert survival.times_ps.tolist() == [pytest.approx(0.4)] * 24
    assert survival.mean_time_to_failure is None
    # rule of three: no failure in 24 × 0.4 ps
    lower, upper = survival.mean_time_to_failure_interval
    assert upper is None and lower == pytest.approx(24 * 0.4 / -math.log(0.05))
    assert stable.failed_step.tolist() == [-1] * 24 and stable.details == [None] * 24
    assert stable.frames.step.unique().tolist() == list(range(5, 201, 5))
    assert len(stable.frames) == 24 * 40


def test_a_potential_that_tears_at_once_is_reported_all_the_same(tearing: Evaluation) -> None:
    metrics = plain(tearing)
    assert metrics["stable_time_ps"]["n_failed"] == 24
    assert metrics["stable_time_ps"]["mean_time_to_failure"] < 0.05
    assert metrics["stable_time_ps"]["median"] < 0.05
    # Nothing stable is left to average: the key stays, the number is unknown.
    assert metrics["observables"] == {"distance_distribution": {"mae": None, "stderr": None}}
    drawn = curve(tearing)
    assert drawn.reference is not None and bool(drawn.reference.mean.isfinite().all())
    assert bool(drawn.sampled.mean.isnan().all())
    assert "bond H0-H1" in metrics["failures"][0] and all(tearing.details)


def test_structures_that_are_broken_from_the_start_fail_at_time_zero() -> None:
    """Replicas take the test structures in order, and again from the first one."""
    positions = TEST.positions[:3].clone()
    positions[1, 1, 2] = 2.0
    energies, forces = STABLE.energy_and_forces(SYSTEM, positions)
    test = Frames(SYSTEM.numbers, positions, energies, forces)
    result = evaluate(STABLE, SYSTEM, test, REFERENCE, settings(n_replicas=7))
    assert result.failed_step.tolist() == [-1, 0, -1, -1, 0, -1, -1]
    assert result.stable_time.times_ps[[1, 4]].tolist() == [0.0, 0.0]
    # copies of one structure get momenta of their own
    first = result.frames.select(result.frames.step == 5)
    assert first.replica.tolist() == [0, 2, 3, 5, 6]
    assert len(first.positions.flatten(1).unique(dim=0)) == 5


def test_times_are_first_passages(soft: Evaluation) -> None:
    failed = soft.failed_step >= 0
    assert 3 <= int(failed.sum()) <= 21
    expected = torch.where(failed, soft.failed_step, 200).double() * 0.002
    assert soft.stable_time.times_ps.tolist() == pytest.approx(expected.tolist())
    assert soft.stable_time.failed.tolist() == failed.tolist()


def test_no_frame_after_a_failure_or_in_the_discarded_time_is_averaged(soft: Evaluation) -> None:
    frames = soft.frames
    end = torch.where(soft.failed_step >= 0, soft.failed_step, 10**9)
    assert bool((frames.step < end[frames.replica]).all())
    stretch = (frames.positions[:, 0] - frames.positions[:, 1]).norm(dim=1) - LENGTH
    assert float(stretch.abs().max()) < 0.5
    observable = DISTANCES.build(SYSTEM, REFERENCE.positions)
    late = frames.step * 2.0 > 50.0
    assert bool(late.any()) and not bool(late.all())
    mean = observable.values(frames.positions[late]).mean(dim=0)
    drawn = curve(soft)
    assert drawn.reference is not None
    torch.testing.assert_close(drawn.sampled.mean, mean, rtol=1e-12, atol=1e-12)
    target = observable.values(REFERENCE.positions).mean(dim=0)
    torch.testing.assert_close(drawn.reference.mean, target, rtol=1e-12, atol=1e-12)
    error = soft.metrics.observables["distance_distribution"]
    assert error.mae == pytest.approx(float(observable.mean_absolute_error(mean, target)))


def test_the_right_potential_is_wrong_by_its_noise_only(stable: Evaluation) -> None:
    wrong = run(Spring(length=1.1)).metrics.observables["distance_distribution"]
    right = stable.metrics.observables["distance_distribution"]
    assert wrong.mae > 3.0 * right.mae
    assert wrong.mae > 10.0 * wrong.stderr > 0.0


def test_every_observable_is_reported_and_has_its_curves() -> None:
    excess = BondExcessSettings(margin=1.0)
    result = run(SOFT, observables=(excess, DISTANCES))
    assert set(result.metrics.observables) == {"bond_excess", "distance_distribution"}
    assert list(result.curves) == ["bond_excess", "distance_distribution"]
    assert len(curve(result, "bond_excess").sampled.axis) == 1
    assert len(curve(result).sampled.axis) == 60


def test_label_errors_are_those_of_the_test_structures_unless_others_are_given() -> None:
    expected = energy_and_force_mae(SOFT, SYSTEM, TEST)
    metrics = run(SOFT, length_ps=0.01).metrics
    assert metrics.energy_mae_ev == expected.energy_mae_ev
    assert metrics.force_mae_ev_per_angstrom == expected.force_mae_ev_per_angstrom
    others = exact_frames(7, 3)
    bare = Frames(SYSTEM.numbers, TEST.positions, source="bare")
    how = settings(length_ps=0.01)
    given = evaluate(SOFT, SYSTEM, bare, REFERENCE, how, label_frames=others).metrics
    assert given.energy_mae_ev == energy_and_force_mae(SOFT, SYSTEM, others).energy_mae_ev
    with pytest.raises(DataError, match="bare: energies and forces missing"):
        evaluate(SOFT, SYSTEM, bare, REFERENCE, how)


def test_frames_of_other_molecules_are_refused() -> None:
    def renamed(frames: Frames) -> Frames:
        return replace(frames, numbers=torch.tensor([1, 8]), source="elsewhere")

    for test, reference, labels in (
        (renamed(TEST), REFERENCE, None),
        (TEST, renamed(REFERENCE), None),
        (TEST, REFERENCE, renamed(TEST)),
    ):
        with pytest.raises(DataError, match="elsewhere hold other atoms than the system H2"):
            evaluate(STABLE, SYSTEM, test, reference, settings(), label_frames=labels)


def test_progress_grows_to_the_whole() -> None:
    seen: list[tuple[str, float]] = []
    evaluate(
        STABLE, SYSTEM, TEST, REFERENCE, settings(length_ps=0.1),
        on_progress=lambda text, share: seen.append((text, share)),
    )  # fmt: skip
    shares = [share for _, share in seen]
    assert shares == sorted(shares) and shares[0] > 0.0 and shares[-1] == 1.0
    assert seen[-1][0] == "evaluating, 24 running"


DIFFUSION = DiffusionSettings(fit_ps=(0.05, 0.1), path_ps=0.15)


def test_diffusion_has_an_error_bar_or_a_reason(stable, tearing) -> None:
    """Two bonded atoms do not leave their centre of mass: D is zero within its error."""
    assert plain(stable)["dynamical"] == {}
    measured = plain(run(STABLE, dynamical=(DIFFUSION,)))["dynamical"]["diffusion_coefficient"]
    assert measured["n_paths"] == 48  # 24 replicas of 0.35 ps after the part left out
    assert abs(measured["value"]) < 4.0 * measured["stderr"]
    assert measured["unit"] == "Å²/ps" and measured["finite_size_correction"] == 0.0
    torn = plain(run(TEARING, dynamical=(DIFFUSION,)))["dynamical"]["diffusion_coefficient"]
    assert torn["value"] is None and torn["why"]


def test_the_lags_of_a_fit_lie_within_a_path() -> None:
    for fit in ((0.1, 0.05), (0.05, 0.15)):
        with pytest.raises(ValueError, match="must increase and end before path_ps"):
            DiffusionSettings(fit_ps=fit, path_ps=0.15)


def test_detectors_that_learn_take_the_reference_and_say_so() -> None:
    dynamics = settings().dynamics.model_copy(update={"detectors": (DistanceWindowSettings(),)})
    found = plain(run(TEARING, dynamics=dynamics))
    assert found["stable_time_ps"]["n_failed"] == 24
    assert all("nearest H of atom H" in text for text in found["failures"])
    assert len(found["detectors"]) == 2  # the shortest and the longest distance
    assert all("400 structures of toy 2" in text for text in found["detectors"])


def test_a_reference_from_a_file_stands_in_for_the_structures() -> None:
    """The same observable twice has two keys; one of them against a curve with errors."""
    given = ReferenceAverage(
        -torch.ones(60, dtype=torch.float64), torch.full((60,), 0.1, dtype=torch.float64), "file"
    )

    class FromFile(DistanceDistributionSettings):
        def build(self, system, reference, cells=None):
            made = super().build(system, reference, cells)
            made.reference = given
            return made

    found = plain(run(STABLE, observables=(DISTANCES, FromFile(r_max=3.0, n_bins=60))))
    own, other = (
        found["observables"][key] for key in ("distance_distribution", "distance_distribution_2")
    )
    assert other["mae"] == pytest.approx(1.0 + 3.0, abs=1e-6)  # h(r) integrates to one
    assert other["stderr"] == pytest.approx(0.1 * 3.0, rel=0.01) and own["mae"] < 0.5
