from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import stablemd.training.control
from stablemd.training.control import train_control
from stablemd.training.label_loss import cycling_batches, label_loss


def trained(toy, n_steps: int, **changes: Any):
    model = toy.model()
    train_control(model, toy.system, toy.train, toy.settings(**changes), n_steps)
    return model


def loss(toy, model) -> float:
    return label_loss(model, toy.system, toy.train, toy.settings().label_loss).item()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_is_the_plain_loop_over_the_training_batches(toy, optimizer: str) -> None:
    model = toy.model()
    kind = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    plain = kind(model.parameters(), lr=0.02)
    for step in range(5):
        index = cycling_batches(32, 16, seed=7, step=step)
        plain.zero_grad()
        batch = toy.train.select(index)
        (
            300.0
            * label_loss(model, toy.system, batch, toy.settings().label_loss, free_offset=True)
        ).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        plain.step()
    control = trained(toy, 5, optimizer=optimizer, seed=7)
    assert torch.equal(control.scaled, model.scaled)
    assert not torch.equal(control.scaled, toy.model().scaled)


def test_the_loss_on_the_labels_falls(toy) -> None:
    start = loss(toy, toy.model())
    assert loss(toy, trained(toy, 150)) < 0.05 * start


def test_it_takes_exactly_the_steps_asked_for(toy) -> None:
    seen: list[float] = []
    train_control(
        toy.model(), toy.system, toy.train, toy.settings(), 4,
        on_progress=lambda text, share: seen.append(share),
    )  # fmt: skip
    assert seen == [0.25, 0.5, 0.75, 1.0]
    assert torch.equal(trained(toy, 0).scaled, toy.model().scaled)


def test_it_sees_nothing_of_what_only_dynamics_would_show(toy) -> None:
    """No labelled frame reaches the hole: without simulation its depth stays to the bit."""
    model = trained(toy, 20)
    assert float(model.scaled.detach()[2]) == float(toy.model().scaled.detach()[2])
    assert not hasattr(stablemd.training.control, "simulate")


def test_a_constant_in_the_labels_ends_up_in_the_shift(toy) -> None:
    """Energies are centred in closed form, as in StABlE Training, and not by steps."""
    moved = replace(toy, train=replace(toy.train, energies=toy.train.energies - 90.0))
    plain, other = trained(toy, 6), trained(moved, 6)
    torch.testing.assert_close(other.scaled, plain.scaled, rtol=1e-8, atol=1e-10)
    energies, _ = other.for_sampling(toy.system)(toy.train.positions)
    assert float((energies - moved.train.energies).mean()) == pytest.approx(0.0, abs=1e-9)


def test_a_batch_is_at_most_all_frames(toy) -> None:
    assert torch.equal(
        trained(toy, 3, label_batch_size=500).scaled, trained(toy, 3, label_batch_size=32).scaled
    )
