from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import stablemd.training.point_dynamics
from stablemd.data import Frames
from stablemd.errors import DataError
from stablemd.evaluation.evaluate import evaluate
from stablemd.evaluation.settings import EvaluationSettings
from stablemd.md import SimulationResult, State, simulate
from stablemd.system import System
from stablemd.training.candidates import Candidate
from stablemd.training.label_errors import energy_and_force_mae
from stablemd.training.point_objective import PointObjective
from stablemd.training.stable import StableResult, train_stable


def train(toy, model, settings, **options: Any) -> tuple[StableResult, list[dict[str, Any]]]:
    records: list[dict[str, Any]] = []
    result = train_stable(
        model, toy.system, toy.train, toy.validation, toy.reference, settings,
        on_record=records.append, **options,
    )  # fmt: skip
    return result, records


def n_failed(toy, model, settings) -> int:
    """Failures among 48 fresh replicas in 0.6 ps."""
    how = EvaluationSettings(
        dynamics=settings.dynamics, n_replicas=48, length_ps=0.6, record_every_fs=50.0,
        discard_fs=0.0, observables=settings.observables, seed=1234,
    )  # fmt: skip
    evaluation = evaluate(model, toy.system, toy.frames(48, 9), toy.reference, how)
    return evaluation.stable_time.n_failed


@pytest.fixture(scope="module")
def repaired(toy):
    """Two trainings of the same model by different seeds: (model, result, records) each."""
    runs = []
    for seed in (1, 2):
        model = toy.model()
        runs.append((model, *train(toy, model, toy.settings(seed=seed))))
    return runs


def test_the_hole_is_found_by_dynamics_and_closed_within_the_budget(toy, repaired) -> None:
    settings = toy.settings()
    before = n_failed(toy, toy.model(), settings)
    truth = n_failed(toy, toy.model(depth=0.0, stiffness=4.0), settings)
    assert before > 15 and truth == 0
    allowed = energy_and_force_mae(toy.model(), toy.system, toy.validation)[1] * 1.1
    for model, result, records in repaired:
        assert result.candidates[0].n_failed >= 5
        assert n_failed(toy, model, settings) <= before / 5
        assert energy_and_force_mae(model, toy.system, toy.validation)[1] <= allowed * (1 + 1e-9)
        assert all(record["budget_used"] <= 1.0 for record in records)


def test_the_result_tells_what_the_log_tells(toy, repaired) -> None:
    for _, result, records in repaired:
        phases = [r for r in records if r["phase"] == "simulate"]
        assert [p["cycle"] for p in phases] == list(range(len(phases)))
        assert [c.cycle for c in result.candidates] == list(range(len(phases)))
        for phase, candidate in zip(phases, result.candidates, strict=True):
            assert phase["failed_fraction"] == candidate.n_failed / 24
            assert phase["replica_time_ps"] == candidate.time_ps
            # each replica runs for two windows of 150 steps of 2 fs at most
            assert 0.0 < candidate.time_ps <= 24 * 0.6 + 1e-9
            assert (candidate.time_ps == pytest.approx(24 * 0.6)) == (candidate.n_failed == 0)
        taken = sum(len(r["steps"]) for r in records if r["phase"] == "learn")
        assert result.optimizer_steps == taken > 0
        assert result.chosen_steps == result.candidates[result.chosen_cycle].steps
        assert set(result.wall_s) == {"simulate", "sample", "learn"}
        first = phases[0]["failures"][0]
        assert "bond H0-H1" in first and "limit 0.50 Å" in first


def test_a_phase_measures_every_replica_up_to_its_failure(
    toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time at risk is the sum of first passages; only stable replicas give frames to the anchor."""
    windows: list[tuple[State, SimulationResult]] = []
    anchors: list[Tensor] = []

    def watched(form, state, *args: Any, **options: Any) -> SimulationResult:
        windows.append((state, simulate(form, state, *args, **options)))
        return windows[-1][1]

    monkeypatch.setattr(stablemd.training.point_dynamics, "simulate", watched)
    monkeypatch.setattr(
        PointObjective, "set_anchor", lambda self, positions, cells: anchors.append(positions)
    )
    settings = toy.settings(max_cycles=1, max_learning_epochs=1, max_windows=3, max_failed=1.0)
    result, _ = train(toy, toy.model(), settings)
    phase = windows[:3]
    assert 0 < result.candidates[0].n_failed < 24
    time_fs, stable_frames = 0.0, []
    for state, window in phase:
        for replica in torch.nonzero(state.alive).flatten().tolist():
            step = int(window.failed_step[replica])
            time_fs += 2.0 * (step if step >= 0 else 150)
        kept = window.failed_step[window.frames.replica] < 0
        stable_frames.append(window.frames.positions[kept])
    assert result.candidates[0].time_ps == pytest.approx(1e-3 * time_fs)
    assert torch.equal(anchors[0], torch.cat(stable_frames))
    assert sum(len(w.frames) for _, w in phase) > len(anchors[0]) > 0
    # a learning phase takes each failed replica up where its own window rewound it to
    learning = windows[3][0]
    for _, window in phase:
        assert window.rewind_state is not None
        for name in ("positions", "momenta"):
            ours, theirs = getattr(learning, name), getattr(window.rewind_state, name)
            assert torch.equal(ours[window.failed], theirs[window.failed])
    # a failed replica stays out of the later windows, at its last valid state
    for (_, before), (state, _) in pairwise(phase):
        assert not bool(state.alive[before.failed].any())
        assert torch.equal(state.positions, before.state.positions)


def test_the_same_seed_gives_the_same_run_and_another_one_another(
    toy, repaired, without_wall_time
) -> None:
    model, result, records = repaired[0]
    again = toy.model()
    result_again, records_again = train(toy, again, toy.settings(seed=1))
    assert torch.equal(again.scaled, model.scaled) and torch.equal(again.shift, model.shift)
    assert without_wall_time(records_again) == without_wall_time(records)
    assert result_again.candidates == result.candidates
    assert repaired[1][1].candidates != result.candidates


@pytest.mark.parametrize("integrator", ["langevin", "nose_hoover"])
def test_a_run_resumed_after_any_unit_equals_the_uninterrupted_one(
    toy, tmp_path: Path, without_wall_time, integrator: str
) -> None:
    dynamics = toy.settings().dynamics.model_copy(update={"integrator": integrator})
    settings = toy.settings(
        dynamics=dynamics, n_replicas=12, max_cycles=2, max_learning_epochs=2, simulation_steps=100,
        label_weight=1.0, force_mae_budget=3.0, remembered_failures=5,
    )  # fmt: skip
    file = tmp_path / "run.pt"
    copies: list[Path] = []
    records: list[dict[str, Any]] = []

    def keep(record: dict[str, Any]) -> None:
        records.append(record)
        copies.append(Path(shutil.copy(file, tmp_path / f"after_{len(copies) + 1}.pt")))

    whole = toy.model()
    result = train_stable(
        whole, toy.system, toy.train, toy.validation, toy.reference, settings, checkpoint=file,
        on_record=keep,
    )  # fmt: skip
    assert len(records) >= 4 and result.optimizer_steps > 0
    assert any(record["budget_used"] > 0.0 for record in records)
    for done, copy in enumerate(copies, start=1):
        resumed = toy.model(depth=3.0, stiffness=9.0)  # what it starts from must not matter
        outcome, rest = train(toy, resumed, settings, checkpoint=copy, resume=True)
        assert without_wall_time(rest) == without_wall_time(records[done:])
        assert torch.equal(resumed.scaled, whole.scaled) and torch.equal(resumed.shift, whole.shift)
        assert outcome.candidates == result.candidates
        assert (outcome.stop_reason, outcome.optimizer_steps, outcome.chosen_cycle) == (
            result.stop_reason, result.optimizer_steps, result.chosen_cycle,
        )  # fmt: skip


def test_the_chosen_model_is_the_most_stable_one_that_was_measured(toy) -> None:
    """Trained towards too long bonds, the model gets worse: the start is given back."""
    stretched = replace(
        toy, reference=replace(toy.reference, positions=1.4 * toy.reference.positions)
    )
    settings = toy.settings(
        force_mae_budget=None, label_weight=0.0, anchor_weight=0.0, learning_rate=0.05,
        max_cycles=2, max_learning_epochs=3, n_replicas=16,
    )  # fmt: skip
    model = toy.model(depth=0.6, stiffness=4.0)
    measured = []

    def snapshot(record: dict[str, Any]) -> None:
        if record["phase"] == "simulate":
            measured.append({k: v.clone() for k, v in model.state_dict().items()})

    result = train_stable(
        model, toy.system, toy.train, toy.validation, stretched.reference, settings,
        on_record=snapshot,
    )  # fmt: skip
    assert len(result.candidates) == 3
    assert result.candidates[-1].failure_rate > 1.5 * result.candidates[0].failure_rate
    assert result.chosen_cycle == Candidate.best(result.candidates).cycle < 2
    assert torch.equal(model.scaled, measured[result.chosen_cycle]["scaled"])
    assert torch.equal(model.shift, measured[result.chosen_cycle]["shift"])
    assert not torch.equal(model.scaled, measured[-1]["scaled"])


def test_a_stable_model_is_left_as_it_is(toy) -> None:
    model = toy.model(depth=0.0, stiffness=4.0)
    before = model.scaled.detach().clone()
    result, records = train(toy, model, toy.settings())
    assert result.stop_reason.startswith("stable: 0 of 24 replicas failed in 14.4 ps")
    assert [r["phase"] for r in records] == ["simulate"]
    assert result.optimizer_steps == 0 and result.chosen_cycle == 0
    assert torch.equal(model.scaled, before)


def test_a_learning_phase_ends_at_the_target(toy, repaired) -> None:
    for _, _, records in repaired:
        for record, after in pairwise(records):
            if record["phase"] == "learn" and record["failed_fraction"] == 0.0:
                assert record["end_of_phase"] == "failed fraction 0.00 reached target_failed"
                assert bool(record["steps"]) == (record["epoch"] == 1)
                assert after["phase"] == "simulate"
    settings = toy.settings(target_failed=0.9)
    result, records = train(toy, toy.model(), settings)
    assert len(records) == 1 and result.stop_reason.startswith("stable")


def test_failures_that_no_copy_repeats_are_learnt_from(toy) -> None:
    """An epoch too short for a failure, of the replicas whose failures began the phase."""
    _, records = train(toy, toy.model(), toy.settings(learning_steps=2, record_every=1))
    first = next(record for record in records if record["phase"] == "learn")
    assert first["failed_fraction"] == 0.0 and len(first["steps"]) > 0
    assert first["end_of_phase"] == "failed fraction 0.00 reached target_failed"
    assert first["optimizer_steps"] > 0


def test_frames_of_other_molecules_are_refused(toy) -> None:
    for name in ("train", "validation", "reference"):
        frames = getattr(toy, name)
        other = replace(frames, numbers=torch.tensor([1, 8]))
        with pytest.raises(DataError, match=f"{name} frames .*other atoms than the system H2"):
            train(replace(toy, **{name: other}), toy.model(), toy.settings())


def test_labels_are_needed_to_train_and_validate(toy) -> None:
    for name in ("train", "validation"):
        bare = Frames(toy.system.numbers, getattr(toy, name).positions, source="bare")
        with pytest.raises(DataError, match="bare: energies and forces missing"):
            train(replace(toy, **{name: bare}), toy.model(), toy.settings())


def test_progress_is_a_share(toy) -> None:
    seen: list[tuple[str, float]] = []
    for max_windows in (1, 3):
        seen.clear()
        settings = toy.settings(
            n_replicas=8, max_windows=max_windows, simulation_steps=90, learning_steps=30,
            max_cycles=1, max_learning_epochs=1, max_failed=1.0,
        )  # fmt: skip
        train(toy, toy.model(), settings, on_progress=lambda *args: seen.append(args))
        assert all(0.0 < share <= 1.0 + 1e-12 for _, share in seen)
        for part in ("cycle 0: simulating", "cycle 1, epoch 1: sampling"):
            shares = [share for text, share in seen if text.startswith(part)]
            assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0)


def test_a_system_without_bonds_can_be_trained(toy) -> None:
    """Failures are then seen by temperature and non-finite values only."""
    system = System.create(["H", "H"])
    only_distances = (toy.settings().observables[0],)
    settings = toy.settings(observables=only_distances, max_cycles=1, max_learning_epochs=1)
    result, _ = train(replace(toy, system=system), toy.model(depth=0.0), settings)
    assert result.candidates[0].n_failed == 0
