from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stablemd import units
from stablemd.estimators import boltzmann_gradient
from stablemd.md import RecordedFrames
from stablemd.training.label_errors import energy_and_force_mae
from stablemd.training.label_loss import anchor_loss, cycling_batches, label_loss
from stablemd.training.objective import EpochFrames, StableObjective
from stablemd.training.observable_target import ObservableTarget

UNLIMITED = {"force_mae_budget": None, "energy_mae_budget": None, "max_n_eff_loss": 1.0}
"""Switches off every limit on a step."""


def objective(toy, model, **changes) -> StableObjective:
    settings = toy.settings(**changes)
    target = ObservableTarget(toy.system, toy.reference.positions, settings.observables)
    return StableObjective(model, toy.system, toy.train, toy.validation, target, settings)


def sampled(toy, model, n: int = 240) -> RecordedFrames:
    """Independent frames of the model's ensemble with 0.7 < r < 1.45 Å, 24 replicas."""
    generator = torch.Generator().manual_seed(5)
    grid = torch.linspace(0.7, 1.45, 2001, dtype=torch.float64)
    line = torch.zeros(2001, 2, 3, dtype=torch.float64)
    line[:, 1, 0] = grid
    energies, _ = model.for_sampling(toy.system)(line)
    density = grid.square() * torch.exp(-units.beta(500.0) * (energies - energies.min()))
    positions = line[torch.multinomial(density, n, replacement=True, generator=generator)]
    replica = torch.arange(n) % 24
    return RecordedFrames(positions, torch.zeros(n, dtype=torch.float64), replica, 5 * replica)


def parameters(model) -> Tensor:
    return model.scaled.detach().clone()


def force_mae(toy, model) -> float:
    return energy_and_force_mae(model, toy.system, toy.validation).force_mae_ev_per_angstrom


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
    run = objective(toy, model, **settings, **UNLIMITED)
    epoch = run.epoch_frames(sampled(toy, model))
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
    run = objective(
        toy, model, optimizer="sgd", learning_rate=0.01, gradient_clip=1e-3, **UNLIMITED
    )
    epoch = run.epoch_frames(sampled(toy, model))
    before = parameters(model)
    record = run.step(epoch)
    assert record is not None and record.observable_gradient_norm > 1e-3
    length = float((parameters(model) - before).norm())
    assert 0.0 < length <= 0.01 * 1e-3 * (1.0 + 1e-9)


def test_the_observable_loss_falls_on_fixed_frames(toy) -> None:
    model = toy.model(depth=0.5)
    off = {"label_weight": 0.0, "anchor_weight": 0.0, "min_n_eff": 0.0}
    run = objective(toy, model, learning_rate=0.01, **off, **UNLIMITED)
    epoch = run.epoch_frames(sampled(toy, model))
    records = [run.step(epoch) for _ in range(5)]
    losses = [record.observable_loss for record in records if record is not None]
    assert len(losses) == 5
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert losses[-1] < 0.8 * losses[0]


def test_steps_never_leave_the_budget(toy) -> None:
    """The observables want a stiffer bond, the labels a softer one: the bound must bind."""

    def largest_error(model, **limits) -> float:
        run = objective(toy, model, label_weight=0.1, max_n_eff_loss=1.0, min_n_eff=0.0, **limits)
        start = force_mae(toy, model)
        epoch = run.epoch_frames(sampled(toy, model))
        largest = 0.0
        for _ in range(15):
            assert run.step(epoch) is not None
            error = force_mae(toy, model)
            assert run.errors.force_mae_ev_per_angstrom == pytest.approx(error, rel=1e-9)
            largest = max(largest, error / start)
        return largest

    free = largest_error(toy.model(), force_mae_budget=None, energy_mae_budget=None)
    assert free > 1.5
    for factor in (1.0, 1.2):
        bound = largest_error(toy.model(), force_mae_budget=factor, energy_mae_budget=None)
        assert bound <= factor * (1.0 + 1e-9)


def test_the_energy_budget_holds_up_to_a_constant(toy) -> None:
    def energy_error(model) -> float:
        energies, _ = model.for_sampling(toy.system)(toy.validation.positions)
        error = energies - toy.validation.energies
        return float((error - error.mean()).abs().mean())

    def largest_error(factor: float | None) -> float:
        model = toy.model()
        start = energy_error(model)
        limits = {"force_mae_budget": None, "energy_mae_budget": factor, "max_n_eff_loss": 1.0}
        run = objective(toy, model, label_weight=0.1, min_n_eff=0.0, **limits)
        epoch = run.epoch_frames(sampled(toy, model))
        largest = 0.0
        for _ in range(15):
            assert run.step(epoch) is not None
            largest = max(largest, energy_error(model) / start)
        return largest

    assert largest_error(None) > 1.4
    assert largest_error(1.3) <= 1.3 * (1.0 + 1e-9)


def test_a_rejected_step_leaves_the_model_to_the_bit(toy) -> None:
    """A model without label errors and a budget that allows no growth: nothing may move."""
    model = toy.model(stiffness=4.0, depth=0.5)
    run = objective(toy, model, force_mae_budget=1.0, energy_mae_budget=None)
    epoch = run.epoch_frames(sampled(toy, model))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    energies, scale = epoch.energies.clone(), run.rate_scale
    for _ in range(3):
        record = run.step(epoch)
        assert record is not None and record.step_share == 0.0
        assert record.observable_gradient_norm > 0.0
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(epoch.energies, energies)
    assert run.rate_scale < scale  # the next proposals are shorter
    assert run.steps_done == 3


def test_a_step_that_overflows_is_rejected(toy) -> None:
    model = toy.model(depth=0.5)
    run = objective(toy, model, learning_rate=1e308, **UNLIMITED)
    run.rate_scale = 100.0
    epoch = run.epoch_frames(sampled(toy, model))
    before = parameters(model)
    record = run.step(epoch)
    assert record is not None and record.step_share == 0.0
    assert torch.equal(parameters(model), before)


def test_a_step_costs_at_most_the_allowed_share_of_the_frames(toy) -> None:
    def losses(limit: float) -> list[float]:
        model = toy.model(depth=0.5)
        run = objective(
            toy, model, learning_rate=0.15, force_mae_budget=None, energy_mae_budget=None,
            max_n_eff_loss=limit, min_n_eff=0.0,
        )  # fmt: skip
        epoch = run.epoch_frames(sampled(toy, model))
        shares = [epoch.n_eff_share(epoch.energies, units.beta(500.0))]
        for _ in range(6):
            record = run.step(epoch)
            assert record is not None and record.n_eff / record.n_frames == pytest.approx(
                shares[-1]
            )
            present = model.for_sampling(toy.system)(epoch.frames.positions)[0]
            shares.append(epoch.n_eff_share(present, units.beta(500.0)))
        assert shares[0] == pytest.approx(1.0)
        return [a - b for a, b in pairwise(shares)]

    assert max(losses(1.0)) > 0.1
    bounded = losses(0.04)
    assert max(bounded) <= 0.04 + 1e-9
    assert max(bounded) > 0.0


def test_frames_that_can_not_carry_a_step_change_nothing(toy) -> None:
    model = toy.model(depth=0.5)
    run = objective(toy, model, min_n_eff=0.5)
    epoch = run.epoch_frames(sampled(toy, model))
    drift = torch.linspace(0.0, 2.0, len(epoch.energies), dtype=torch.float64)
    worn_out = EpochFrames(epoch.frames, epoch.energies + drift)
    before = parameters(model)
    assert run.step(worn_out) is None
    assert torch.equal(parameters(model), before)
    assert run.steps_done == 0 and not run.optimizer.state
    assert run.step(epoch) is not None


@pytest.mark.parametrize("n_frames", [0, 1])
def test_without_frames_there_is_no_step(toy, n_frames: int) -> None:
    """All replicas of an epoch may fail before the first frame is recorded."""
    model = toy.model(depth=0.5)
    run = objective(toy, model, min_n_eff=0.0)
    epoch = run.epoch_frames(sampled(toy, model).select(slice(0, n_frames)))
    assert run.step(epoch) is None
    assert run.steps_done == 0


def test_frames_that_are_not_finite_are_left_out(toy) -> None:
    model = toy.model(depth=0.5)
    run = objective(toy, model)
    frames = sampled(toy, model)
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
    run = objective(toy, model, min_n_eff=0.0)
    assert mean_error(model) == pytest.approx(0.0, abs=1e-12)
    epoch = run.epoch_frames(sampled(toy, model))
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
        run = objective(other, model, min_n_eff=0.0, energy_mae_budget=1.5)
        epoch = run.epoch_frames(sampled(toy, model))
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
        run = objective(
            toy, model, observables=silent, learning_rate=0.1, label_weight=0.0, min_n_eff=0.0,
            anchor_weight=anchor_weight, **UNLIMITED,
        )  # fmt: skip
        run.set_anchor(anchors)
        with torch.no_grad():
            model.scaled[0] += 2.0
        found = []
        epoch = run.epoch_frames(sampled(toy, model))
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
