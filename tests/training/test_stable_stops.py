"""Every rule that ends a training, on a model that never becomes stable."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import stablemd.training.point_dynamics
import stablemd.training.stable_run
import stablemd.training.stopwatch
from stablemd.md import SimulationResult, simulate
from stablemd.training.plateau import Plateau
from stablemd.training.stable import StableResult, train_stable
from stablemd.training.stable_settings import StableSettings


def train(
    toy, settings: StableSettings, model: Any = None, **options: Any
) -> tuple[StableResult, list[dict[str, Any]]]:
    records: list[dict[str, Any]] = []
    result = train_stable(
        model or toy.model(), toy.system, toy.train, toy.validation, toy.reference, settings,
        on_record=records.append, **options,
    )  # fmt: skip
    return result, records


def hopeless(toy, **changes: Any) -> StableSettings:
    """Thermal motion counts as a failure."""
    dynamics = toy.settings().dynamics.model_copy(update={"bond_threshold": 0.12})
    base: dict[str, Any] = {
        "dynamics": dynamics, "n_replicas": 8, "simulation_steps": 60, "max_windows": 1,
        "learning_steps": 40, "rewind_steps": 10, "failing_share": 1.0, "force_mae_budget": 1.0,
    }  # fmt: skip
    return toy.settings(**{**base, **changes})


def test_cycles_and_learning_epochs_end_at_their_maximum(toy) -> None:
    settings = hopeless(toy, max_cycles=2, max_learning_epochs=3, plateau_patience=50)
    result, records = train(toy, settings)
    assert result.stop_reason == "max_cycles = 2 used up"
    assert [r["phase"] for r in records] == ["simulate", *["learn"] * 3] * 2 + ["simulate"]
    learning = [r for r in records if r["phase"] == "learn"]
    assert [r["epoch"] for r in learning] == [1, 2, 3, 1, 2, 3]
    ends = [r["end_of_phase"] for r in learning]
    assert ends == [None, None, "max_learning_epochs = 3 used up"] * 2


@pytest.mark.parametrize("confirmations", [0, 1, 2])
def test_a_stable_model_is_confirmed_with_other_replicas(toy, confirmations: int) -> None:
    settings = toy.settings(confirmations=confirmations)
    result, records = train(toy, settings, toy.model(depth=0.0))
    n_phases = 1 + confirmations
    assert [r["phase"] for r in records] == ["simulate"] * n_phases
    assert result.stop_reason.startswith(f"stable: 0 of {24 * n_phases} replicas failed")
    (measured,) = result.candidates
    assert measured.n_phases == n_phases
    assert measured.time_ps == pytest.approx(sum(r["replica_time_ps"] for r in records))


def test_the_learning_rate_is_reduced_on_a_plateau_until_the_phase_ends(toy) -> None:
    settings = hopeless(
        toy, max_cycles=2, max_learning_epochs=50, plateau_patience=2, plateau_factor=0.5,
        max_reductions=2,
    )  # fmt: skip
    _, records = train(toy, settings)
    for cycle in (1, 2):
        learning = [r for r in records if r["phase"] == "learn" and r["cycle"] == cycle]
        plateau, rate = Plateau(0.5, 2), settings.learning_rate
        for record in learning:
            if plateau.step(record["failed_fraction"]) and plateau.n_reductions <= 2:
                rate *= 0.5
            assert record["learning_rate"] == pytest.approx(rate)
        assert plateau.n_reductions == 3
        assert learning[-1]["end_of_phase"] == (
            "the learning rate was reduced 2 times without progress"
        )
        assert all(r["end_of_phase"] is None for r in learning[:-1])
        assert learning[-1]["steps"] == []


@pytest.mark.parametrize("limit_s", [0.5, 1.5, 4.5])
def test_the_clock_ends_it_once_the_present_model_is_measured(
    toy, monkeypatch: pytest.MonkeyPatch, limit_s: float
) -> None:
    """By a clock that goes on by a second for every simulation."""
    now = 0.0

    def slow_simulate(*args: Any, **options: Any) -> SimulationResult:
        nonlocal now
        now += 1.0
        return simulate(*args, **options)

    monkeypatch.setattr(stablemd.training.point_dynamics, "simulate", slow_simulate)
    clock = SimpleNamespace(perf_counter=lambda: now, process_time=lambda: now)
    for module in (stablemd.training.stable_run, stablemd.training.stopwatch):
        monkeypatch.setattr(module, "time", clock)
    settings = hopeless(toy, max_minutes=limit_s / 60.0, max_cycles=9, force_mae_budget=None)
    result, records = train(toy, settings)
    assert result.stop_reason.startswith("max_minutes = ")
    spent = 0.0
    within = 0
    for record in records:
        # the estimator's time is a part of "learn"
        spent += sum(v for k, v in record["wall_s"].items() if k != "estimator")
        within += spent <= limit_s
    rest = [r["phase"] for r in records[within:]]
    assert rest in (["simulate"], ["learn", "simulate"])
    assert within == int(limit_s)
    assert result.candidates[-1].steps == result.optimizer_steps


def test_a_simulation_phase_ends_once_enough_have_failed(toy) -> None:
    settings = hopeless(toy, max_cycles=1, max_learning_epochs=1, max_windows=5, max_failed=0.5)
    result, records = train(toy, settings)
    window_ps = 60 * 0.002
    assert result.candidates[0].n_failed >= 4
    assert result.candidates[0].time_ps < 8 * 2 * window_ps
    assert records[0]["n_force_evaluations"] <= 8 * 60 * 2


def test_a_finished_run_goes_on_when_its_limit_is_raised(
    toy, tmp_path: Path, without_wall_time
) -> None:
    def settings(**limits: Any) -> StableSettings:
        return hopeless(toy, max_learning_epochs=2, plateau_patience=50, **limits)

    whole, file = toy.model(), tmp_path / "run.pt"
    _, records = train(toy, settings(max_cycles=2), whole)
    _, first = train(toy, settings(max_cycles=1), checkpoint=file)
    resumed = toy.model()
    result, none = train(toy, settings(max_cycles=1), resumed, checkpoint=file, resume=True)
    assert none == [] and result.stop_reason == "max_cycles = 1 used up"
    _, rest = train(toy, settings(max_cycles=2), resumed, checkpoint=file, resume=True)
    assert without_wall_time(first + rest) == without_wall_time(records)
    assert torch.equal(resumed.scaled, whole.scaled) and torch.equal(resumed.shift, whole.shift)


def test_a_run_out_of_time_goes_on_when_it_gets_more(toy, tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    limits = {"max_cycles": 1, "max_learning_epochs": 1, "plateau_patience": 50}
    settings = hopeless(toy, max_minutes=1e-9, **limits)
    result, first = train(toy, settings, checkpoint=file)
    assert [r["phase"] for r in first] == ["simulate"]
    assert result.stop_reason.startswith("max_minutes")
    result, rest = train(toy, hopeless(toy, **limits), checkpoint=file, resume=True)
    assert [r["phase"] for r in rest] == ["learn", "simulate"]
    assert result.stop_reason == "max_cycles = 1 used up"
