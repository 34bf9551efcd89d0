from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stablemd.data import Frames
from stablemd.errors import DataError
from stablemd.potentials import Batch, Potential, SchNet
from stablemd.system import System
from stablemd.training.checkpoint import load_checkpoint
from stablemd.training.label_errors import energy_and_force_mae
from stablemd.training.label_loss import LabelLossSettings, label_loss, shuffled_batches
from stablemd.training.pretrain import (
    CHECKPOINT_KIND,
    PretrainResult,
    PretrainSettings,
    pretrain,
    set_energy_scale,
)

LOSS = LabelLossSettings(energy_weight=0.05, force_weight=0.95)


def settings(**changes: Any) -> PretrainSettings:
    base: dict[str, Any] = {
        "loss": LOSS, "learning_rate": 5e-3, "batch_size": 4, "max_epochs": 6,
        "gradient_clip": 10.0, "ema_decay": None, "plateau_factor": 0.5, "plateau_patience": 50,
        "min_learning_rate": 1e-6, "early_stopping": 100, "seed": 3,
    }  # fmt: skip
    return PretrainSettings(**{**base, **changes})


def small_schnet(frames: Frames, seed: int = 0) -> SchNet:
    torch.manual_seed(seed)
    model = SchNet(n_features=8, n_filters=8, n_interactions=1, n_gaussians=10, cutoff=4.0)
    set_energy_scale(model, frames)
    return model


def weights(model: Potential) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.fixture(scope="module")
def parts(ethanol_frames: Frames) -> tuple[Frames, Frames]:
    return ethanol_frames.select(slice(0, 16)), ethanol_frames.select(slice(16, 28))


def run(
    model: Potential, parts: tuple[Frames, Frames], how: PretrainSettings, **options: Any
) -> tuple[PretrainResult, list[dict[str, Any]]]:
    records: list[dict[str, Any]] = []
    return pretrain(model, *parts, how, on_epoch=records.append, **options), records


def test_the_loss_falls_and_the_best_weights_are_kept(toy) -> None:
    """At a rate that overshoots, so that the last epoch is not the best."""
    model = toy.model(stiffness=6.0, length=1.02)
    start = energy_and_force_mae(model, toy.system, toy.validation)
    seen: list[dict[str, Tensor]] = []
    records: list[dict[str, Any]] = []

    def on_epoch(record: dict[str, Any]) -> None:
        records.append(record)
        seen.append(weights(model))

    how = settings(max_epochs=8, learning_rate=0.5, batch_size=8)
    result = pretrain(model, toy.train, toy.validation, how, on_epoch=on_epoch)
    losses = [r["validation_loss"] for r in records]
    best = losses.index(min(losses))
    assert 0 < best < len(losses) - 1
    assert result.best_epoch == best + 1 == records[-1]["best_epoch"]
    assert equal(weights(model), seen[best]) and not equal(weights(model), seen[-1])
    assert result.errors == energy_and_force_mae(model, toy.system, toy.validation)
    assert records[best]["train_loss"] < 0.1 * records[0]["train_loss"]
    assert result.errors.force_mae_ev_per_angstrom < 0.2 * start.force_mae_ev_per_angstrom
    reached = label_loss(model, toy.system, toy.validation, LOSS).item()
    assert reached == pytest.approx(losses[best], rel=1e-12)


@pytest.mark.parametrize("ema_decay", [None, 0.8])
def test_a_resumed_run_equals_the_uninterrupted_one(
    parts, tmp_path: Path, without_wall_time, ema_decay: float | None
) -> None:
    how = settings(ema_decay=ema_decay, plateau_patience=1, learning_rate=0.03, max_epochs=7)
    whole = small_schnet(parts[0])
    result, records = run(whole, parts, how, checkpoint=tmp_path / "whole.pt")
    for cut in (1, 4):
        file = tmp_path / f"cut_{cut}.pt"
        first = how.model_copy(update={"max_epochs": cut})
        run(small_schnet(parts[0]), parts, first, checkpoint=file)
        resumed = small_schnet(parts[0], seed=99)  # what it starts from must not matter
        outcome, rest = run(resumed, parts, how, checkpoint=file, resume=True)
        assert without_wall_time(rest) == without_wall_time(records[cut:])
        assert equal(weights(resumed), weights(whole))
        assert replace(outcome, wall_s=0.0) == replace(result, wall_s=0.0)
        ends = [load_checkpoint(f, kind=CHECKPOINT_KIND) for f in (file, tmp_path / "whole.pt")]
        for end in ends:
            del end["counters"]["wall_s"]
        assert equal(*ends)
    assert records[-1]["learning_rate"] < records[0]["learning_rate"]


def test_it_is_the_plain_loop_over_reshuffled_batches(toy) -> None:
    model, plain = toy.model(), toy.model()
    how = settings(max_epochs=1, batch_size=5, gradient_clip=1e-3)
    optimizer = torch.optim.Adam(plain.parameters(), lr=how.learning_rate)
    best, best_loss = weights(plain), float("inf")
    for epoch in range(3):
        for index in shuffled_batches(len(toy.train), 5, seed=how.seed, epoch=epoch):
            optimizer.zero_grad()
            label_loss(plain, toy.system, toy.train.select(index), LOSS).backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 1e-3)
            optimizer.step()
        loss = label_loss(plain, toy.system, toy.validation, LOSS).item()
        if loss < best_loss:
            best, best_loss = weights(plain), loss
    pretrain(model, toy.train, toy.validation, how.model_copy(update={"max_epochs": 3}))
    assert equal(weights(model), best)


def test_without_resume_a_checkpoint_is_overwritten(parts, tmp_path: Path) -> None:
    file = tmp_path / "run.pt"
    run(small_schnet(parts[0]), parts, settings(max_epochs=3), checkpoint=file)
    result, records = run(small_schnet(parts[0]), parts, settings(max_epochs=1), checkpoint=file)
    assert result.n_epochs == len(records) == 1


def test_the_data_order_belongs_to_the_seed(parts) -> None:
    models = [small_schnet(parts[0]) for _ in range(3)]
    for model, seed in zip(models, (3, 3, 4), strict=True):
        run(model, parts, settings(max_epochs=2, seed=seed))
    assert equal(weights(models[0]), weights(models[1]))
    assert not equal(weights(models[0]), weights(models[2]))


def test_the_running_mean_is_validated_and_kept(parts) -> None:
    """One step: mean = decay × start + (1 - decay) × trained."""
    how = settings(max_epochs=1, batch_size=16)
    trained, averaged = small_schnet(parts[0]), small_schnet(parts[0])
    start = weights(trained)
    run(trained, parts, how)
    result, _ = run(averaged, parts, how.model_copy(update={"ema_decay": 0.75}))
    after, mean = weights(trained), weights(averaged)
    assert not equal(start, after)
    for name, value in mean.items():
        expected = 0.75 * start[name] + 0.25 * after[name]
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-8)
    errors = energy_and_force_mae(averaged, System.create(parts[0].numbers), parts[1])
    assert result.errors == errors


# Stop rules


class Constant(Potential):
    """No force, and a parameter without effect: no epoch is a progress over the first."""

    def __init__(self) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.ones((), dtype=torch.float64))

    def local_energies(self, batch: Batch) -> Tensor:
        return 0.0 * self.parameter * batch.positions.square().sum(dim=1)


def test_it_ends_at_the_last_epoch(parts) -> None:
    result, records = run(small_schnet(parts[0]), parts, settings(max_epochs=2))
    assert result.stop_reason == "max_epochs = 2 reached"
    assert [r["epoch"] for r in records] == [1, 2] and result.n_epochs == 2


def test_it_ends_with_the_time(parts) -> None:
    result, records = run(small_schnet(parts[0]), parts, settings(max_minutes=1e-9))
    assert result.stop_reason == "max_minutes = 1e-09 used up"
    assert len(records) == 1 and result.wall_s > 0.0


def test_it_ends_without_progress(toy) -> None:
    parts = (toy.train, toy.validation)
    result, _ = run(Constant(), parts, settings(early_stopping=3, max_epochs=50))
    assert result.stop_reason == "no progress for early_stopping = 3 epochs"
    assert (result.best_epoch, result.n_epochs) == (1, 4)


def test_it_ends_below_the_least_learning_rate(toy) -> None:
    """Two epochs without progress are tolerated; after the third 1e-3 becomes 1e-5."""
    how = settings(
        learning_rate=1e-3, plateau_factor=0.01, plateau_patience=2, min_learning_rate=1e-4,
        max_epochs=50, early_stopping=50,
    )  # fmt: skip
    result, records = run(Constant(), (toy.train, toy.validation), how)
    assert result.stop_reason == "learning rate below min_learning_rate = 0.0001"
    assert [r["learning_rate"] for r in records] == [1e-3] * 4


def test_energy_scale_and_shift_come_from_the_data(parts) -> None:
    train, _ = parts
    model = small_schnet(train)
    energies, forces = train.require_labels()
    assert float(model.energy_scale) == pytest.approx(float(forces.square().mean().sqrt()))
    shift = float(model.atomic_shift[train.numbers].sum())
    assert shift == pytest.approx(float(energies.mean()), rel=1e-12)
    # so that a fresh model's energies are wrong by their fluctuation, not by their size
    predicted = model.energy(System.create(train.numbers), train.positions).detach()
    assert float((predicted - energies).abs().max()) < 0.05 * float(energies.abs().mean())


def test_a_loss_that_is_not_finite_ends_it_with_the_cause(parts) -> None:
    with pytest.raises(DataError, match=r"loss became nan in epoch 1; use a smaller learning_rate"):
        run(small_schnet(parts[0]), parts, settings(learning_rate=1e30))


def test_unusable_frames_are_refused(parts) -> None:
    train, validation = parts
    model = small_schnet(train)
    water = replace(validation, numbers=validation.numbers.flip(0))
    with pytest.raises(DataError, match="different atoms"):
        pretrain(model, train, water, settings())
    bare = Frames(train.numbers, train.positions, source="bare")
    with pytest.raises(DataError, match="bare: energies and forces missing"):
        pretrain(model, bare, validation, settings())
    with pytest.raises(DataError, match="bare: energies and forces missing"):
        set_energy_scale(model, bare)
