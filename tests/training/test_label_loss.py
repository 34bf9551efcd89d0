from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stablemd.data import Frames
from stablemd.errors import DataError
from stablemd.training.label_loss import (
    LabelLossSettings,
    anchor_loss,
    cycling_batches,
    label_loss,
    shuffled_batches,
)

SETTINGS = LabelLossSettings(energy_weight=0.3, force_weight=0.7, energy_per_atom=False)
PER_ATOM = LabelLossSettings(energy_weight=0.3, force_weight=0.7, energy_per_atom=True)
EXACT = 1e-12
"""Relative rounding of float64 sums over a few hundred terms."""


def errors(toy, model):
    """Energy errors (n,) and force errors (n, N, 3) by the closed form of the toy."""
    energies, forces = toy.train.require_labels()
    predicted_energies, predicted_forces = model.for_sampling(toy.system)(toy.train.positions)
    return predicted_energies - energies, predicted_forces - forces


def test_it_is_the_weighted_sum_of_mean_squares(toy) -> None:
    model = toy.model()
    energy_error, force_error = errors(toy, model)
    n, n_atoms = len(toy.train), 2
    force_term = 0.7 * float((force_error**2).sum()) / (n * n_atoms * 3)
    energy_term = 0.3 * float((energy_error**2).sum()) / n
    got = label_loss(model, toy.system, toy.train, SETTINGS)
    assert got.dtype == torch.float64 and got.shape == ()
    assert got.item() == pytest.approx(energy_term + force_term, rel=EXACT)
    per_atom = label_loss(model, toy.system, toy.train, PER_ATOM)
    assert per_atom.item() == pytest.approx(energy_term / n_atoms**2 + force_term, rel=EXACT)


def test_its_gradient_equals_finite_differences(toy) -> None:
    model = toy.model()
    label_loss(model, toy.system, toy.train, SETTINGS).backward()
    gradient = model.scaled.grad.clone()
    step = 1e-5
    for k in range(2):  # the third parameter, the hole, touches no frame
        values = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                model.scaled[k] += sign * step
            values.append(label_loss(model, toy.system, toy.train, SETTINGS).item())
            with torch.no_grad():
                model.scaled[k] -= sign * step
        assert float(gradient[k]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)
    assert gradient[:2].abs().min() > 0 and gradient[2] == 0


def test_a_free_offset_takes_a_constant_out_of_the_energies(toy) -> None:
    model = toy.model()
    shifted = replace(toy.train, energies=toy.train.energies + 7.0)

    def loss(frames: Frames, free: bool) -> float:
        return label_loss(model, toy.system, frames, SETTINGS, free_offset=free).item()

    assert loss(shifted, True) == pytest.approx(loss(toy.train, True), rel=1e-10)
    assert loss(shifted, False) > loss(toy.train, False) + 10.0
    # and what remains is the least that any constant can achieve
    energy_error, _ = errors(toy, model)
    best = replace(toy.train, energies=toy.train.energies + energy_error.mean())
    assert loss(best, False) == pytest.approx(loss(toy.train, True), rel=1e-10)
    for nudge in (-1e-3, 1e-3):
        other = replace(best, energies=best.energies + nudge)
        assert loss(other, False) > loss(best, False)


def test_unlabelled_frames_are_refused(toy) -> None:
    bare = replace(toy.train, energies=None)
    with pytest.raises(DataError, match="energies missing"):
        label_loss(toy.model(), toy.system, bare, SETTINGS)


def test_the_anchor_sees_changes_of_forces_only(toy) -> None:
    model = toy.model()
    _, own = model.for_sampling(toy.system)(toy.train.positions)
    at_home = anchor_loss(model, toy.system, toy.train.positions, own)
    assert at_home.item() == pytest.approx(0.0, abs=1e-24)
    model.shift_energies(3.0)
    shifted = anchor_loss(model, toy.system, toy.train.positions, own)
    assert shifted.item() == pytest.approx(0.0, abs=1e-24)
    _, force_error = errors(toy, model)
    loss = anchor_loss(model, toy.system, toy.train.positions, toy.train.forces)
    assert loss.item() == pytest.approx(float((force_error**2).mean()), rel=EXACT)
    loss.backward()
    assert model.scaled.grad[0] > 0  # the model is too stiff: softer is better


def test_an_epoch_is_a_permutation_that_seed_and_epoch_determine() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat(list(shuffled_batches(23, 5, seed=seed, epoch=epoch))).tolist()

    assert sorted(order(0, 0)) == list(range(23))
    assert order(3, 4) == order(3, 4)
    distinct = {tuple(order(seed, epoch)) for seed in range(3) for epoch in range(4)}
    assert len(distinct) == 12
    assert [len(b) for b in shuffled_batches(23, 5, seed=0, epoch=0)] == [5, 5, 5, 5, 3]


def test_cycling_visits_every_frame_once_per_epoch() -> None:
    n_frames, size = 24, 6
    batches = [cycling_batches(n_frames, size, seed=2, step=step) for step in range(12)]
    epochs = [torch.cat(batches[start : start + 4]).tolist() for start in (0, 4, 8)]
    assert all(sorted(epoch) == list(range(n_frames)) for epoch in epochs)
    assert epochs[0] != epochs[1] and epochs[1] != epochs[2]
    assert torch.equal(batches[7], cycling_batches(n_frames, size, seed=2, step=7))


def test_cycling_keeps_the_batch_size_where_it_does_not_divide() -> None:
    """The frames left over are others in every epoch, so that none is lost for ever."""
    seen: set[int] = set()
    for epoch in range(12):
        batches = [cycling_batches(11, 4, seed=0, step=2 * epoch + k).tolist() for k in (0, 1)]
        assert [len(b) for b in batches] == [4, 4]
        assert not set(batches[0]) & set(batches[1])
        seen |= {*batches[0], *batches[1]}
    assert seen == set(range(11))
