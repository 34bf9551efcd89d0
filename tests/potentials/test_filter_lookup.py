"""Tables of filters: exact where interpolation is exact, differentiable, and the same model."""

from __future__ import annotations

import copy

import pytest
import torch

from stablemd.data import Frames
from stablemd.potentials.filter_lookup import lookup
from stablemd.potentials.schnet import SchNet
from stablemd.system import System
from stablemd.training.label_loss import LabelLossSettings, label_loss

SPACING = 0.25


def cubic(r: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two cubic polynomials and their derivatives."""
    values = torch.stack([1.0 - 2.0 * r + 0.5 * r**3, r**2 - r**3], dim=1)
    slopes = torch.stack([-2.0 + 1.5 * r**2, 2.0 * r - 3.0 * r**2], dim=1)
    return values, slopes


def test_cubic_polynomials_are_reproduced_everywhere_with_their_derivative() -> None:
    knots = SPACING * torch.arange(9, dtype=torch.float64)
    r = torch.linspace(0.0, 2.0, 101, dtype=torch.float64, requires_grad=True)
    values = lookup(*cubic(knots), r, SPACING)
    expected, slopes = cubic(r.detach())
    torch.testing.assert_close(values, expected, rtol=0.0, atol=1e-13)
    for component in range(2):
        (slope,) = torch.autograd.grad(values[:, component].sum(), r, retain_graph=True)
        torch.testing.assert_close(slope, slopes[:, component], rtol=0.0, atol=1e-13)


def test_the_error_falls_with_the_fourth_power_of_the_spacing() -> None:
    r = torch.linspace(0.0, 2.0, 333, dtype=torch.float64)
    errors = []
    for n in (20, 40, 80):
        spacing = 2.0 / n
        knots = spacing * torch.arange(n + 1, dtype=torch.float64)
        table, slopes = torch.sin(3.0 * knots)[:, None], 3.0 * torch.cos(3.0 * knots)[:, None]
        errors.append(
            float((lookup(table, slopes, r, spacing)[:, 0] - (3.0 * r).sin()).abs().max())
        )
    assert errors[0] / errors[1] == pytest.approx(16.0, rel=0.25)
    assert errors[1] / errors[2] == pytest.approx(16.0, rel=0.25)


def test_derivatives_of_every_order_agree_with_finite_differences() -> None:
    generator = torch.Generator().manual_seed(1)
    knots = SPACING * torch.arange(9, dtype=torch.float64)
    amplitude = torch.rand(3, generator=generator, dtype=torch.float64, requires_grad=True)
    r = 0.3 + 1.3 * torch.rand(5, generator=generator, dtype=torch.float64)
    r.requires_grad_(True)

    def filters(amplitude: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        # Quadratics, so that table and slopes describe the same function exactly.
        return lookup(knots[:, None] ** 2 * amplitude, 2.0 * knots[:, None] * amplitude, r, SPACING)

    assert torch.autograd.gradcheck(filters, (amplitude, r))
    assert torch.autograd.gradgradcheck(filters, (amplitude, r))


def molecule(n_structures: int) -> tuple[System, Frames]:
    generator = torch.Generator().manual_seed(3)
    system = System.create([6, 8, 7, 1, 1, 1, 6, 1])
    base = torch.tensor([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * 1.3
    shape = (n_structures, 8, 3)
    positions = base + 0.15 * torch.randn(shape, generator=generator, dtype=torch.float64)
    energies = torch.randn(n_structures, generator=generator, dtype=torch.float64)
    forces = torch.randn(shape, generator=generator, dtype=torch.float64)
    return system, Frames(system.numbers, positions, energies, forces)


def test_energies_forces_and_loss_gradients_are_those_of_the_filter_networks() -> None:
    torch.manual_seed(0)
    tabulated = SchNet(16, 16, 2, 12, cutoff=3.0)
    precise = copy.deepcopy(tabulated).double()
    system, frames = molecule(60)

    def results(model: SchNet) -> list[torch.Tensor]:
        energies, forces = model.energy_and_forces(system, frames.positions)
        model.zero_grad()
        label_loss(model, system, frames, LabelLossSettings()).backward()
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return [energies, forces, torch.cat(gradients)]

    expected = results(precise)
    n_pairs = 60 * 28
    n_knots = 24 * 12
    assert n_pairs > 2 * n_knots, "the batch must be large enough for tables"
    for got, exact in zip(results(tabulated), expected, strict=True):
        difference = (got.double() - exact).norm() / exact.norm()
        assert float(difference) < 2e-5
    # The tables were really used: with the networks the last digits differ.
    with_tables = tabulated.energy(system, frames.positions)
    tabulated.tabulate_filters = False
    assert not torch.equal(with_tables, tabulated.energy(system, frames.positions))


def test_distances_at_and_beyond_the_cutoff_do_not_matter() -> None:
    torch.manual_seed(0)
    model = SchNet(8, 8, 1, 6, cutoff=2.0)
    system, frames = molecule(60)
    far = frames.positions.clone()
    far[:, 0] -= 10.0
    farther = frames.positions.clone()
    farther[:, 0] -= 20.0
    assert torch.equal(model.energy(system, far), model.energy(system, farther))
