"""The whole story on real structures with a network that is too small: smoke, not a claim."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from stablemd.data import Frames, system_from_frames
from stablemd.evaluation.evaluate import evaluate
from stablemd.evaluation.settings import EvaluationSettings
from stablemd.potentials import SchNet
from stablemd.training.control import train_control
from stablemd.training.pretrain import PretrainSettings, pretrain, set_energy_scale
from stablemd.training.stable import train_stable


@pytest.fixture(scope="module")
def story(toy, ethanol_frames: Frames) -> dict[str, Any]:
    train, validation, test, reference = (
        ethanol_frames.select(slice(a, b)) for a, b in ((0, 16), (16, 28), (28, 40), (40, 80))
    )
    system = system_from_frames(reference)
    torch.manual_seed(0)
    model = SchNet(n_features=8, n_filters=8, n_interactions=1, n_gaussians=10, cutoff=4.0)
    set_energy_scale(model, train)
    pretrained = pretrain(
        model, train, validation,
        PretrainSettings(learning_rate=0.02, batch_size=8, max_epochs=30, seed=0),
    )  # fmt: skip
    start = {k: v.clone() for k, v in model.state_dict().items()}

    dynamics = toy.settings().dynamics.model_copy(update={"dt_fs": 0.5, "check_every": 5})
    settings = toy.settings(
        dynamics=dynamics, n_replicas=8, simulation_steps=100, max_windows=2, rewind_steps=20,
        learning_steps=60, record_every=5, max_cycles=1, max_learning_epochs=3, label_weight=10.0,
        learning_rate=1e-3, max_n_eff_loss=0.2, max_backward_frames=32, anchor_every=20,
    )  # fmt: skip
    records: list[dict[str, Any]] = []
    trained = train_stable(
        model, system, train, validation, reference, settings, on_record=records.append
    )

    how = EvaluationSettings(
        dynamics=dynamics, n_replicas=8, length_ps=0.1, record_every_fs=5.0, discard_fs=10.0,
        observables=settings.observables, seed=3,
    )  # fmt: skip
    control = SchNet(**model.hyperparameters)
    control.load_state_dict(start)
    train_control(control, system, train, settings, trained.optimizer_steps)
    before = SchNet(**model.hyperparameters)
    before.load_state_dict(start)
    models = {"before": before, "after": model, "control": control}
    return {
        "validation": validation,
        "pretrained": pretrained,
        "start": start,
        "records": records,
        "trained": trained,
        "models": models,
        "evaluations": {k: evaluate(m, system, test, reference, how) for k, m in models.items()},
    }


def test_pretraining_learns_something(story) -> None:
    """More than nothing: a model without forces would be wrong by their mean size."""
    without = float(story["validation"].forces.abs().mean())
    assert story["pretrained"].errors.force_mae_ev_per_angstrom < 0.8 * without


def test_training_goes_through_its_phases_and_keeps_its_budget(story) -> None:
    phases = [record["phase"] for record in story["records"]]
    assert phases[0] == phases[-1] == "simulate" and "learn" in phases
    assert story["trained"].optimizer_steps > 0
    assert all(record["budget_used"] <= 1.0 for record in story["records"])
    json.dumps(story["records"])
    for record in story["records"]:
        for k, step in enumerate(record.get("steps", [])):
            numbers = [v for v in step.values() if isinstance(v, int | float)]
            assert len(numbers) > 9 and all(math.isfinite(v) for v in numbers)
            looked_into = k == 0 and record["epoch"] % 10 == 1
            assert (step["observable_loss_stderr"] is not None) == looked_into
            assert (step["trust"] is not None) == looked_into


def test_after_and_control_are_other_models_than_before(story) -> None:
    def moved(name: str) -> bool:
        state = story["models"][name].state_dict()
        return any(not torch.equal(v, story["start"][k]) for k, v in state.items())

    assert not moved("before") and moved("control")
    for model in story["models"].values():
        assert all(bool(v.isfinite().all()) for v in model.state_dict().values())


def test_all_three_can_be_evaluated_side_by_side(story) -> None:
    for evaluation in story["evaluations"].values():
        metrics = evaluation.metrics.to_json()
        json.dumps(metrics, allow_nan=False)
        assert metrics["stable_time_ps"]["n_replicas"] == 8
        assert 0.0 < metrics["force_mae_ev_per_angstrom"] < 5.0
        total = metrics["stable_time_ps"]["total_time_ps"]
        assert 0.0 < total <= 8 * 0.1 + 1e-9
