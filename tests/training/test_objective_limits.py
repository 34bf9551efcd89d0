"""What a step of StABlE Training may never do."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stablemd import units
from stablemd.training.epoch_frames import MIN_COVERED, EpochFrames
from stablemd.training.label_errors import energy_and_force_mae

UNLIMITED = {"force_mae_budget": None, "energy_mae_budget": None, "max_n_eff_loss": 1.0}
"""Switches off every limit on a step."""


def parameters(model) -> Tensor:
    return model.scaled.detach().clone()


def force_mae(toy, model) -> float:
    return energy_and_force_mae(model, toy.system, toy.validation).force_mae_ev_per_angstrom


def test_steps_never_leave_the_budget(toy) -> None:
    """The observables want a stiffer bond, the labels a softer one: the bound must bind."""

    def largest_error(model, **limits) -> float:
        run = toy.objective(model, label_weight=0.1, max_n_eff_loss=1.0, min_n_eff=0.0, **limits)
        start = force_mae(toy, model)
        epoch = run.epoch_frames(toy.sampled(model))
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
        run = toy.objective(model, label_weight=0.1, min_n_eff=0.0, **limits)
        epoch = run.epoch_frames(toy.sampled(model))
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
    run = toy.objective(model, force_mae_budget=1.0, energy_mae_budget=None)
    epoch = run.epoch_frames(toy.sampled(model))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    energies, scale = epoch.energies.clone(), run.rate_scale
    shares = []
    for _ in range(3):
        record = run.step(epoch)
        assert record is not None and record.observable_gradient_norm > 0.0
        shares.append(record.step_share)
    # The step in between follows labels and anchor alone, which ask for nothing here:
    # it must not inherit the momentum of the rejected one.
    assert shares == [0.0, 1.0, 0.0]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(epoch.energies, energies)
    assert run.rate_scale < scale  # the next proposals are shorter
    assert run.steps_done == 3


def test_a_step_that_overflows_is_rejected(toy) -> None:
    model = toy.model(depth=0.5)
    run = toy.objective(model, learning_rate=1e308, **UNLIMITED)
    run.rate_scale = 100.0
    epoch = run.epoch_frames(toy.sampled(model))
    before = parameters(model)
    record = run.step(epoch)
    assert record is not None and record.step_share == 0.0
    assert torch.equal(parameters(model), before)


def test_a_step_costs_at_most_the_allowed_share_of_the_frames(toy) -> None:
    def losses(limit: float) -> list[float]:
        model = toy.model(depth=0.5)
        run = toy.objective(
            model, learning_rate=0.15, force_mae_budget=None, energy_mae_budget=None,
            max_n_eff_loss=limit, min_n_eff=0.0,
        )  # fmt: skip
        epoch = replace(run.epoch_frames(toy.sampled(model)), covered=None)
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


def test_frames_unknown_to_the_reference_do_not_hold_a_step_back(toy) -> None:
    """A step that takes the weight of such frames alone costs no effective frames."""
    model = toy.model(depth=0.5)
    epoch = toy.objective(model).epoch_frames(toy.sampled(model))
    n = len(epoch.energies)
    unknown = torch.arange(n) % 3 == 0
    raised = epoch.energies + 3.0 * unknown
    beta = units.beta(500.0)
    assert replace(epoch, covered=None).n_eff_share(raised, beta) == pytest.approx(2 / 3, abs=0.01)
    assert replace(epoch, covered=~unknown).n_eff_share(raised, beta) == pytest.approx(1.0)
    # Too few others: then all frames count.
    few = torch.arange(n) < MIN_COVERED - 1
    assert replace(epoch, covered=few).n_eff_share(raised, beta) == pytest.approx(2 / 3, abs=0.01)


def test_covered_frames_have_only_distances_that_the_reference_has(toy) -> None:
    model = toy.model(depth=0.5)
    run = toy.objective(model)
    recorded = toy.sampled(model)
    stretched = recorded.positions.clone()
    stretched[::2] *= 3.0
    apart = run.epoch_frames(replace(recorded, positions=stretched)).covered
    assert apart is not None and not bool(apart[::2].any()) and bool(apart[1::2].any())


def test_frames_that_can_not_carry_a_step_change_nothing(toy) -> None:
    model = toy.model(depth=0.5)
    run = toy.objective(model, min_n_eff=0.5)
    epoch = run.epoch_frames(toy.sampled(model))
    drift = torch.linspace(0.0, 2.0, len(epoch.energies), dtype=torch.float64)
    worn_out = EpochFrames(epoch.frames, epoch.energies + drift)
    before = parameters(model)
    assert run.step(worn_out) is None
    assert torch.equal(parameters(model), before)
    assert run.steps_done == 0 and not run.whole.optimizer.state
    assert run.step(epoch) is not None


@pytest.mark.parametrize("n_frames", [0, 1])
def test_without_frames_there_is_no_step(toy, n_frames: int) -> None:
    """All replicas of an epoch may fail before the first frame is recorded."""
    model = toy.model(depth=0.5)
    run = toy.objective(model, min_n_eff=0.0)
    epoch = run.epoch_frames(toy.sampled(model).select(slice(0, n_frames)))
    assert run.step(epoch) is None
    assert run.steps_done == 0
