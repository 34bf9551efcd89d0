"""Laws that every observable in the registry obeys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.observables import OBSERVABLES, Observable, make_observable, observable
from stablemd.system import System
from tests.observables.conftest import (
    make_methanol,
    make_methanol_frames,
    make_water_box,
    make_water_frames,
)

EXACT = 1e-12
"""Rounding of float64 sums over a few dozen terms of order one."""


@dataclass
class Case:
    """An observable with frames it applies to; ``cells`` is None for an isolated molecule."""

    observable: Observable
    system: System
    frames: Tensor
    cells: Tensor | None

    def values(self, frames: Tensor, cells: Tensor | None = None) -> Tensor:
        return self.observable.values(frames, self.cells if cells is None else cells)


def cases(name: str) -> Iterator[Case]:
    """The systems that the observable applies to, the periodic one first."""
    water, water_frames = make_water_box(), make_water_frames()
    # Cells differ from frame to frame, as at constant pressure.
    scale = torch.linspace(0.98, 1.03, len(water_frames), dtype=torch.float64)
    cells = scale[:, None, None] * water.cell
    systems = [(water, water_frames, cells), (make_methanol(), make_methanol_frames(), None)]
    for system, frames, boxes in systems:
        try:
            made = make_observable(name, system)
        except SystemDefinitionError:
            continue
        yield Case(made, system, frames, boxes)


@pytest.fixture(params=sorted(OBSERVABLES))
def applicable(request: pytest.FixtureRequest) -> list[Case]:
    found = list(cases(request.param))
    assert found, f"{request.param} applies to none of the example systems"
    return found


def test_describes_itself(applicable: list[Case]) -> None:
    for case in applicable:
        values, made = case.values(case.frames), case.observable
        assert OBSERVABLES[made.name] is type(made)
        assert made.key.startswith(made.name)
        assert made.axis.dtype == torch.float64
        assert values.shape == (len(case.frames), len(made.axis))
        assert values.dtype == torch.float64
        assert torch.isfinite(values).all()
        assert made.axis_label and made.value_label
        nothing = None if case.cells is None else case.cells[:0]
        assert made.values(case.frames[:0], nothing).shape == (0, len(made.axis))


def test_unchanged_by_rigid_motion(applicable: list[Case]) -> None:
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(matrix)
    if torch.linalg.det(rotation) < 0:
        rotation = -rotation
    offset = torch.tensor([3.0, -7.0, 40.0], dtype=torch.float64)
    for case in applicable:
        moved = case.frames @ rotation.T + offset
        turned = None if case.cells is None else case.cells @ rotation.T
        values = case.values(case.frames)
        assert (case.values(moved, turned) - values).abs().max() < 1e-9 * values.abs().max()


def test_a_component_of_single_atoms_depends_on_them_and_where_it_says_so_on_more(
    applicable: list[Case],
) -> None:
    for case in applicable:
        atoms = case.observable.component_atoms
        if atoms is None:
            continue
        assert atoms.shape[0] == len(case.observable.axis)
        frames = 1.2 * case.frames  # stretched, so that an excess is not zero
        wider = 0
        for component in range(len(atoms)):
            x = frames.clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(case.values(x)[:, component].sum(), x)
            moving = (slope.abs().sum(dim=(0, 2)) > 0).nonzero().flatten().tolist()
            own = set(atoms[component].tolist())
            if not case.observable.sees_surroundings:
                assert set(moving) == own
            elif moving:
                assert own < set(moving)
                wider += 1
        assert bool(wider) == case.observable.sees_surroundings


def test_unchanged_by_wrapping_each_atom_on_its_own(applicable: list[Case]) -> None:
    generator = torch.Generator().manual_seed(4)
    for case in applicable:
        if case.cells is None:
            continue
        turns = torch.randint(-3, 4, case.frames.shape, generator=generator).double()
        moved = case.frames + turns @ case.cells
        values = case.values(case.frames)
        assert (case.values(moved) - values).abs().max() < 1e-9 * values.abs().max()


def test_the_systems_cell_stands_in_where_none_is_given(applicable: list[Case]) -> None:
    for case in applicable:
        if case.cells is not None:
            cell = case.system.cell.expand(len(case.frames), 3, 3)
            given = case.observable.values(case.frames, cell)
            assert torch.equal(case.observable.values(case.frames), given)


def test_frames_do_not_see_each_other(applicable: list[Case]) -> None:
    for case in applicable:
        together = case.values(case.frames)
        cells = [None] * len(case.frames) if case.cells is None else list(case.cells[:, None])
        alone = torch.cat(
            [case.observable.values(x[None], h) for x, h in zip(case.frames, cells, strict=True)]
        )
        torch.testing.assert_close(together, alone, rtol=EXACT, atol=EXACT)


def test_a_broken_frame_is_not_finite_and_alone(applicable: list[Case]) -> None:
    for case in applicable:
        broken = case.frames.clone()
        broken[2, 1, 0] = float("nan")
        broken[4, 0, 2] = float("inf")
        values = case.values(broken)
        lost = ~torch.isfinite(values).all(dim=1)
        assert lost.nonzero().flatten().tolist() == [2, 4]
        torch.testing.assert_close(
            values[~lost], case.values(case.frames)[~lost], rtol=EXACT, atol=EXACT
        )


def test_gradient_equals_finite_differences(applicable: list[Case]) -> None:
    """With respect to positions and, where there is one, the cell."""
    case = applicable[0]
    generator = torch.Generator().manual_seed(5)
    x = case.frames[:2].clone()
    h = None if case.cells is None else case.cells[:2].clone()
    weight = torch.randn(
        case.observable.values(x, h).shape, generator=generator, dtype=torch.float64
    )
    leaves = [x] if h is None else [x, h]
    directions = [
        torch.randn(leaf.shape, generator=generator, dtype=torch.float64) for leaf in leaves
    ]

    def scalar(*arguments: Tensor) -> Tensor:
        return (case.observable.values(*arguments) * weight).sum()

    for leaf in leaves:
        leaf.requires_grad_(True)
    gradients = torch.autograd.grad(scalar(*leaves), leaves, materialize_grads=True)
    step = 1e-6
    with torch.no_grad():
        ahead = scalar(*(v + step * d for v, d in zip(leaves, directions, strict=True)))
        behind = scalar(*(v - step * d for v, d in zip(leaves, directions, strict=True)))
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    torch.testing.assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-5)
    assert any(g.abs().max() > 0 for g in gradients)


def test_error_is_zero_only_at_the_reference(applicable: list[Case]) -> None:
    case = applicable[0]
    reference = case.values(case.frames).mean(dim=0)
    larger = None if case.cells is None else 1.05 * case.cells
    noise = 0.05 * torch.sin(torch.arange(case.frames.numel(), dtype=torch.float64))
    other = case.values(1.05 * case.frames + noise.reshape(case.frames.shape), larger).mean(dim=0)
    assert case.observable.mean_absolute_error(reference, reference) == 0
    assert case.observable.mean_absolute_error(other, reference) > 0


def test_unknown_name_lists_the_known(methanol: System) -> None:
    with pytest.raises(ConfigError, match="did you mean 'distance_distribution'"):
        make_observable("distance_distributions", methanol)


def test_unknown_option_lists_the_accepted(methanol: System) -> None:
    with pytest.raises(ConfigError, match=r"no option \['bins'\].*n_bins"):
        make_observable("distance_distribution", methanol, bins=3)


# Observables of users


def test_a_function_becomes_an_observable(water_box: System, water_frames: Tensor) -> None:
    try:

        @observable(name="height", axis_label="mean", value_label="z (Å)")
        def height(
            system: System, positions: Tensor, cells: Tensor | None, *, above: float = 0.0
        ) -> Tensor:
            assert cells is not None and cells.shape == (len(positions), 3, 3)
            return positions[:, :, 2].mean(dim=1, keepdim=True) - above

        made = make_observable("height", water_box, above=2.0)
        assert type(made) is OBSERVABLES["height"] is height and made.key == "height"
        expected = water_frames[:, :, 2].mean(dim=1, keepdim=True) - 2.0
        torch.testing.assert_close(made.values(water_frames), expected)
        broken = water_frames.clone()
        broken[3, 0] = torch.nan
        assert made.values(broken).isnan().flatten().tolist() == [f == 3 for f in range(7)]
        with pytest.raises(ConfigError, match=r"no option \['below'\]; it takes \['above'\]"):
            make_observable("height", water_box, below=1.0)
        with pytest.raises(ConfigError, match="exists already"):
            observable(name="height")(height)
    finally:
        OBSERVABLES.pop("height", None)


def test_a_function_that_does_not_fit_is_refused(water_box: System, water_frames: Tensor) -> None:
    with pytest.raises(ConfigError, match="system, positions, cells"):
        observable(name="bad")(lambda positions: positions)
    try:
        observable(name="flat")(lambda system, positions, cells: positions.sum(dim=(1, 2)))
        with pytest.raises(ConfigError, match=r"must return \(7, 1\)"):
            make_observable("flat", water_box).values(water_frames)
    finally:
        OBSERVABLES.pop("flat", None)
