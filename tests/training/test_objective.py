from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stablemd import units
from stablemd.estimators import boltzmann_gradient
from stablemd.training.label_loss import anchor_loss, cycling_batches, label_loss
from stablemd.training.observable_target import ObservableTarget

UNLIMITED = {"force_mae_budget": None, "energy_mae_budget": None, "max_n_eff_loss": 1.0}
"""Switches off every limit on a step."""


def parameters(model) -> Tensor:
    return model.scaled.detach().clone()


def test_without_limits_a_step_follows_the_weighted_sum_of_the_gradients(toy) -> None:
    model = toy.model(depth=0.5)
    settings = {
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "gradient_clip": 1e6,
        "label_weight": 3.0,
        "anchor_weight": 2.0,
        "max_backward_frames": None,
        "label_batch_size": 8,
    }
    run = toy.objective(model, **settings, **UNLIMITED)
    epoch = run.epoch_frames(toy.sampled(model))
    anchors = 1.05 * toy.reference.positions[:5]
    run.set_anchor(anchors)
    _, anchor_forces = model.for_sampling(toy.system)(anchors)
    with torch.no_grad():
        model.scaled[0] += 1.0  # away from the start, so that the anchor pulls
    before = parameters(model)

    probe = toy.model()
    probe.load_state_dict(model.state_dict())
    target = ObservableTarget(toy.system, toy.reference.positions, toy.settings().observables)
    boltzmann_gradient(
        probe, toy.system, epoch.frames, target.loss, beta=units.beta(500.0),
        energies=epoch.energies,
    )  # fmt: skip
    batch = toy.train.select(cycling_batches(32, 8, seed=0, step=0))
    (
        3.0 * label_loss(probe, toy.system, batch, toy.settings().label_loss, free_offset=True)
    ).backward()
    (2.0 * anchor_loss(probe, toy.system, anchors, anchor_forces)).backward()

    record = run.step(epoch)
    assert record is not None and record.step_share == 1.0 and record.anchor_loss > 0.0
    torch.testing.assert_close(
        parameters(model) - before, -1e-3 * probe.scaled.grad, rtol=1e-9, atol=1e-15
    )


def test_the_clip_bounds_a_step(toy) -> None:
    model = toy.model(depth=0.5)
    run = toy.objective(model, optimizer="sgd", learning_rate=0.01, gradient_clip=1e-3, **UNLIMITED)
    epoch = run.epoch_frames(toy.sampled(model))
    before = parameters(model)
    record = run.step(epoch)
    assert record is not None and record.observable_gradient_norm > 1e-3
    length = float((parameters(model) - before).norm())
    assert 0.0 < length <= 0.01 * 1e-3 * (1.0 + 1e-9)


def test_the_observable_loss_falls_on_fixed_frames(toy) -> None:
    model = toy.model(depth=0.5)
    off = {"label_weight": 0.0, "anchor_weight": 0.0, "min_n_eff": 0.0}
    run = toy.objective(model, learning_rate=0.01, **off, **UNLIMITED)
    epoch = run.epoch_frames(toy.sampled(model))
    records = [run.step(epoch) for _ in range(5)]
    losses = [record.observable_loss for record in records if record is not None]
    assert len(losses) == 5
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert losses[-1] < 0.8 * losses[0]


def test_frames_that_are_not_finite_are_left_out(toy) -> None:
    model = toy.model(depth=0.5)
    run = toy.objective(model)
    frames = toy.sampled(model)
    positions = frames.positions.clone()
    positions[7] = float("nan")
    epoch = run.epoch_frames(replace(frames, positions=positions))
    assert len(epoch.energies) == len(frames) - 1
    assert epoch.n_eff_share(epoch.energies, units.beta(500.0)) == pytest.approx(1.0)


def test_energies_are_centred_on_the_training_frames(toy) -> None:
    def mean_error(model) -> float:
        energies, _ = model.for_sampling(toy.system)(toy.train.positions)
        return float((energies - toy.train.energies).mean())

    model = toy.model(depth=0.5)
    model.shift_energies(0.7)
    run = toy.objective(model, min_n_eff=0.0)
    assert mean_error(model) == pytest.approx(0.0, abs=1e-12)
    epoch = run.epoch_frames(toy.sampled(model))
    before = parameters(model)
    for _ in range(4):
        record = run.step(epoch)
        assert record is not None
        assert mean_error(model) == pytest.approx(0.0, abs=1e-12)
    assert not torch.equal(parameters(model), before)


def test_a_constant_in_the_labels_changes_nothing_but_the_shift(toy) -> None:
    def trained(constant: float):
        def moved(frames):
            return replace(frames, energies=frames.energies + constant)

        other = replace(toy, train=moved(toy.train), validation=moved(toy.validation))
        model = toy.model(depth=0.5)
        run = other.objective(model, min_n_eff=0.0, energy_mae_budget=1.5)
        epoch = run.epoch_frames(toy.sampled(model))
        for _ in range(4):
            run.step(epoch)
        return model

    plain, moved = trained(0.0), trained(-150.0)
    torch.testing.assert_close(moved.scaled, plain.scaled, rtol=1e-8, atol=1e-10)
    assert float(2.0 * (moved.shift - plain.shift)) == pytest.approx(-150.0, rel=1e-9)


def test_the_anchor_pulls_forces_back_to_those_of_the_start(toy) -> None:
    anchors = toy.reference.positions
    silent = tuple(o.model_copy(update={"weight": 0.0}) for o in toy.settings().observables)

    def changes(anchor_weight: float) -> list[float]:
        """Mean squared change of forces before and after eight steps of a model that has moved."""
        model = toy.model(depth=0.5)
        start = model.for_sampling(toy.system)(anchors)[1]
        run = toy.objective(
            model, observables=silent, learning_rate=0.1, label_weight=0.0, min_n_eff=0.0,
            anchor_weight=anchor_weight, **UNLIMITED,
        )  # fmt: skip
        with torch.no_grad():
            model.scaled[0] += 2.0
        run.set_anchor(anchors)
        found = []
        epoch = run.epoch_frames(toy.sampled(model))
        for _ in range(8):
            found.append(
                float((model.for_sampling(toy.system)(anchors)[1] - start).square().mean())
            )
            assert run.step(epoch) is not None
        return found

    assert changes(0.0)[-1] == pytest.approx(changes(0.0)[0])
    pulled = changes(100.0)
    assert all(later < earlier for earlier, later in pairwise(pulled))
    assert pulled[-1] < 0.3 * pulled[0]
