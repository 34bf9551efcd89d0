from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from stablemd.training.plateau import Plateau


def torch_reductions(values: list[float], patience: int, threshold: float) -> list[bool]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience, threshold=threshold, min_lr=0.0, eps=0.0
    )
    reduced, rate = [], 1.0
    for value in values:
        schedule.step(value)
        now = float(optimizer.param_groups[0]["lr"])
        reduced.append(now < rate)
        rate = now
    return reduced


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_it_follows_torch(patience: int, seed: int) -> None:
    """On falling, noisy, failed fractions of 32 replicas, as they come in a learning phase.

    On such a grid PyTorch's relative threshold of 1e-4 makes no difference.
    """
    generator = torch.Generator().manual_seed(seed)
    trend = torch.linspace(0.9, 0.0, 60) + 0.3 * torch.randn(60, generator=generator)
    values = ((32 * trend).round().clamp(0, 32) / 32).tolist()
    plateau = Plateau(factor=0.5, patience=patience)
    mine = [plateau.step(value) for value in values]
    assert mine == torch_reductions(values, patience, threshold=0.0)
    assert mine == torch_reductions(values, patience, threshold=1e-4)
    assert plateau.n_reductions == sum(mine)
    assert any(mine) and not all(mine)


def test_it_goes_on_from_its_payload() -> None:
    values = [0.5, 0.6, 0.4, 0.4, 0.7, 0.4, 0.4, 0.3, 0.5, 0.5, 0.5, 0.5]
    whole = Plateau(0.2, 1)
    expected = [whole.step(value) for value in values]
    for cut in range(len(values)):
        first = Plateau(0.2, 1)
        taken = [first.step(value) for value in values[:cut]]
        second = Plateau(0.2, 1)
        second.restore(first.payload())
        taken += [second.step(value) for value in values[cut:]]
        assert taken == expected
        assert second.payload() == whole.payload()


def test_reset_forgets_everything() -> None:
    plateau = Plateau(0.2, 0)
    for value in (0.1, 0.5, 0.5):
        plateau.step(value)
    plateau.reset()
    assert plateau.payload() == Plateau(0.2, 0).payload()
    assert not plateau.step(0.9)
