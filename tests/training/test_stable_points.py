"""Whole trainings at two state points, of which one alone shows what is wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from stablemd.errors import CheckpointError
from stablemd.training.checkpoint import load_checkpoint, save_checkpoint
from stablemd.training.label_errors import energy_and_force_mae
from stablemd.training.stable import CHECKPOINT_KIND, StableResult, train_stable
from stablemd.training.stable_settings import StableSettings
from stablemd.training.training_point import TrainingPoint

COLD_K, HOT_K = 120.0, 500.0
"""The hole of the model is too far away for thermal motion at the lower temperature."""


def settings_at(toy, temperature_k: float, **changes: Any) -> StableSettings:
    dynamics = toy.settings().dynamics.model_copy(update={"temperature_k": temperature_k})
    return toy.settings(dynamics=dynamics, **changes)


def hot_point(toy, **changes: Any) -> TrainingPoint:
    changes = {"seed": 7, **changes}
    return TrainingPoint(
        "hot", toy.system, toy.train, toy.validation, toy.reference,
        settings_at(toy, HOT_K, **changes),
    )  # fmt: skip


def train(
    toy, model, settings, further, **options: Any
) -> tuple[StableResult, list[dict[str, Any]]]:
    records: list[dict[str, Any]] = []
    cold = toy.at(COLD_K)
    options = {"on_record": records.append, **options}
    result = train_stable(
        model, cold.system, cold.train, cold.validation, cold.reference, settings,
        further=further, **options,
    )  # fmt: skip
    return result, records


def test_a_hole_that_one_temperature_shows_is_closed_within_both_budgets(toy) -> None:
    options: dict[str, Any] = {"target_failed": 0.05, "max_learning_epochs": 6}
    alone = toy.model()
    result, records = train(toy, alone, settings_at(toy, COLD_K, **options), [])
    assert result.optimizer_steps == 0 and result.stop_reason.startswith("stable: 0 of 24")
    assert "state_point" not in records[0]

    model = toy.model()
    settings = settings_at(toy, COLD_K, **options)
    result, records = train(toy, model, settings, [hot_point(toy, **options)])
    phases = [r for r in records if r["phase"] == "simulate"]
    assert [p["state_point"] for p in phases] == ["main", "hot"] * (len(phases) // 2)
    cold, hot = phases[::2], phases[1::2]
    assert hot[0]["failed_fraction"] > 0.2 and all(p["failed_fraction"] == 0.0 for p in cold)
    assert all(r["points"]["main"]["failed_fraction"] is None for r in records if "points" in r)
    assert result.stop_reason.startswith("stable: ")
    assert "of 48 replicas failed" in result.stop_reason
    assert hot[-1]["failed_fraction"] <= 0.05
    for candidate, here, there in zip(result.candidates, cold, hot, strict=True):
        both = here["failed_fraction"] + there["failed_fraction"]
        assert candidate.n_failed == round(24 * both)
        assert candidate.time_ps == here["replica_time_ps"] + there["replica_time_ps"]
    for frames in (toy.at(COLD_K).validation, toy.validation):
        start = energy_and_force_mae(toy.model(), toy.system, frames)
        end = energy_and_force_mae(model, toy.system, frames)
        allowed = 1.1 * start.force_mae_ev_per_angstrom * (1.0 + 1e-9)
        assert end.force_mae_ev_per_angstrom <= allowed
    for record in records:
        assert record["budget_used"] <= 1.0 + 1e-9
        used = [point["budget_used"] for point in record.get("points", {}).values()]
        assert not used or record["budget_used"] == max(used)


def test_a_model_is_stable_only_where_it_is_at_every_point(toy) -> None:
    """The main point has no failure, and training goes on until the last cycle."""
    limits: dict[str, Any] = {"max_cycles": 1, "max_learning_epochs": 1, "learning_rate": 1e-9}
    settings = settings_at(toy, COLD_K, **limits)
    result, _ = train(toy, toy.model(), settings, [hot_point(toy, **limits)])
    assert result.stop_reason == "max_cycles = 1 used up"
    assert all(c.n_failed > 0 for c in result.candidates)


SMALL: dict[str, Any] = {
    "n_replicas": 10,
    "learning_replicas": 10,
    "simulation_steps": 60,
    "learning_steps": 30,
    "max_cycles": 2,
    "max_learning_epochs": 2,
    "label_weight": 1.0,
    "force_mae_budget": 3.0,
    "remembered_failures": 5,
}


def failing(toy) -> tuple[StableSettings, list[TrainingPoint]]:
    """Both points fail: thermal motion counts as a failure at either."""
    points = []
    for kelvin, seed in ((COLD_K, 0), (HOT_K, 7)):
        settings = settings_at(toy, kelvin, **SMALL, seed=seed)
        dynamics = settings.dynamics.model_copy(
            update={"bond_threshold": 0.2 * (kelvin / 500) ** 0.5}
        )
        points.append(settings.model_copy(update={"dynamics": dynamics}))
    hot = TrainingPoint("hot", toy.system, toy.train, toy.validation, toy.reference, points[1])
    return points[0], [hot]


def test_a_run_resumed_after_any_unit_equals_the_uninterrupted_one(
    toy, tmp_path: Path, without_wall_time
) -> None:
    """Between the simulation phases of the two points too."""
    settings, further = failing(toy)
    file = tmp_path / "run.pt"
    copies: list[Path] = []
    records: list[dict[str, Any]] = []

    def keep(record: dict[str, Any]) -> None:
        records.append(record)
        copies.append(Path(shutil.copy(file, tmp_path / f"after_{len(copies) + 1}.pt")))

    whole = toy.model()
    result, _ = train(toy, whole, settings, further, checkpoint=file, on_record=keep)
    assert result.optimizer_steps > 0 and len(records) >= 6
    sampled = [
        [point["failed_fraction"] is not None for point in r["points"].values()]
        for r in records
        if r["phase"] == "learn"
    ]
    assert [True, True] in sampled and [True, False] in sampled
    for done, copy in enumerate(copies, start=1):
        resumed = toy.model(depth=3.0, stiffness=9.0)  # what it starts from must not matter
        outcome, rest = train(toy, resumed, settings, further, checkpoint=copy, resume=True)
        assert without_wall_time(rest) == without_wall_time(records[done:])
        assert torch.equal(resumed.scaled, whole.scaled) and torch.equal(resumed.shift, whole.shift)
        assert outcome.candidates == result.candidates
        assert outcome.stop_reason == result.stop_reason


def test_a_checkpoint_of_other_state_points_is_refused(toy, tmp_path: Path) -> None:
    settings, further = failing(toy)
    file = tmp_path / "run.pt"

    def stop(record: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(toy, toy.model(), settings, further, checkpoint=file, on_record=stop)
    with pytest.raises(CheckpointError, match="with 2 state points, and there are 1 now"):
        train(toy, toy.model(), settings, [], checkpoint=file, resume=True)


def test_a_checkpoint_of_before_there_were_state_points_goes_on(
    toy, tmp_path: Path, without_wall_time
) -> None:
    """The layout that a training with one system had: everything at the top or in the objective."""

    def earlier(payload: dict[str, Any]) -> dict[str, Any]:
        (dynamics,), counters = payload["dynamics"], dict(payload["counters"])
        objective = dict(payload["objective"])
        (point,) = objective.pop("points")
        counters = {k: v for k, v in counters.items() if k not in ("_next_point", "_time_ps")}
        return {
            "potential": payload["potential"],
            "objective": {**objective, **point},
            "plateau": payload["plateau"],
            "models": payload["models"],
            "wall_s": payload["wall_s"],
            "counters": {**counters, "_md_step": dynamics["md_step"]},
            **{k: dynamics[k] for k in ("learning_start", "origin", "memory")},
        }

    settings = hot_point(toy, **SMALL).settings
    file = tmp_path / "run.pt"
    whole = toy.model()
    copies: list[Path] = []
    records: list[dict[str, Any]] = []

    def keep(record: dict[str, Any]) -> None:
        records.append(record)
        copies.append(tmp_path / f"after_{len(copies) + 1}.pt")
        save_checkpoint(
            copies[-1], earlier(load_checkpoint(file, kind=CHECKPOINT_KIND)), kind=CHECKPOINT_KIND
        )

    train(toy, whole, settings, [], checkpoint=file, on_record=keep)
    assert {record["phase"] for record in records[:3]} == {"simulate", "learn"}
    for done, copy in enumerate(copies[:3], start=1):
        again = toy.model()
        _, rest = train(toy, again, settings, [], checkpoint=copy, resume=True)
        assert without_wall_time(rest) == without_wall_time(records[done:])
        assert torch.equal(again.scaled, whole.scaled)
