from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.observables import BondExcess
from stablemd.system import System

WATER = System.create(["O", "H", "H"], bonds=[[0, 1], [0, 2]], bond_lengths=[0.96, 1.0])


def water(first: Tensor | float, second: Tensor | float) -> Tensor:
    """Water molecules (n, 3, 3) with the given O-H lengths, in Å."""
    a, b = torch.broadcast_tensors(
        *(torch.as_tensor(x, dtype=torch.float64).reshape(-1) for x in (first, second))
    )
    positions = torch.zeros(len(a), 3, 3, dtype=torch.float64)
    positions[:, 1, 0], positions[:, 2, 1] = a, b
    return positions + 3.0


def test_it_is_the_squared_relative_excursion_of_each_bond() -> None:
    excess = BondExcess(WATER, 0.2)
    values = excess.values(water(0.96 + 0.5, 1.0 - 0.3))
    expected = [[(0.3 / 0.2) ** 2, (0.1 / 0.2) ** 2]]
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64))


def test_bonds_within_the_tolerance_add_nothing_not_even_a_gradient() -> None:
    excess = BondExcess(WATER, torch.tensor([0.2, 0.1]))
    stretch = torch.linspace(-0.0999, 0.0999, 41, dtype=torch.float64)
    positions = water(0.96 + 2.0 * stretch, 1.0 - stretch).requires_grad_(True)
    values = excess.values(positions)
    (gradient,) = torch.autograd.grad(values.sum(), positions)
    assert float(values.detach().abs().max()) == 0.0 and float(gradient.abs().max()) == 0.0


def test_value_and_slope_are_continuous_at_the_tolerance_and_grow_beyond() -> None:
    excess = BondExcess(WATER, 0.1)
    r = torch.linspace(0.5, 1.5, 2001, dtype=torch.float64)
    positions = water(r, 1.0).requires_grad_(True)
    values = excess.values(positions)[:, 0]
    (gradient,) = torch.autograd.grad(values.sum(), positions)
    slope = gradient[:, 1, 0]
    step = float(r[1] - r[0])
    assert float(slope.diff().abs().max()) <= 2.0 / 0.1**2 * step * (1.0 + 1e-9)
    outside = values.detach()[r > 1.06 + 1e-9]
    assert bool((outside.diff() > 0).all())
    # symmetric in compression and extension
    mirrored = excess.values(water(2 * 0.96 - r, 1.0))[:, 0]
    torch.testing.assert_close(mirrored, values.detach(), rtol=1e-9, atol=1e-12)


def test_tolerances_from_structures_cover_them(methanol: System, frames: Tensor) -> None:
    excess = BondExcess.from_reference(methanol, frames, margin=1.1)
    assert float(excess.values(frames).abs().max()) == 0.0
    first, second = methanol.bonds.T
    deviation = ((frames[:, first] - frames[:, second]).norm(dim=2) - methanol.bond_lengths).abs()
    torch.testing.assert_close(excess.tolerance, 1.1 * deviation.amax(dim=0))
    # a tighter margin than the data leaves just the largest excursion of each bond outside
    tight = BondExcess.from_reference(methanol, frames, margin=1.0 - 1e-9).values(frames)
    assert ((tight > 0).sum(dim=0) == 1).all()


def test_few_structures_do_not_make_a_bond_rigid() -> None:
    excess = BondExcess.from_reference(WATER, water(0.961, 1.3), margin=2.0, smallest=0.05)
    assert excess.tolerance.tolist() == pytest.approx([0.05, 0.6])


def test_the_error_is_the_mean_over_bonds() -> None:
    excess = BondExcess(WATER, 0.2)
    mean, reference = torch.tensor([0.5, 0.1]), torch.tensor([0.1, 0.3])
    assert float(excess.mean_absolute_error(mean, reference)) == pytest.approx(0.3)


def test_it_refuses_what_it_can_not_do() -> None:
    with pytest.raises(SystemDefinitionError, match="bond_excess needs bonds, and H2O has none"):
        BondExcess(System.create(["O", "H", "H"]))
    negative, matrix, one_too_many = torch.tensor([0.1, -0.1]), torch.ones(1, 2), torch.ones(3)
    for bad in (0.0, -0.1, float("nan"), negative, matrix, one_too_many):
        with pytest.raises(ConfigError, match="a positive length in Å, or one for each of 2 bonds"):
            BondExcess(WATER, bad)
