from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.observables import ContactExcess
from stablemd.system import System

PAIR = System.create(
    ["O", "H", "O", "H"],
    bonds=[[0, 1], [2, 3]],
    bond_lengths=[0.96, 0.96],
    cell=12.0 * torch.eye(3),
    pbc=True,
)
"""Two hydroxyls; between them there are one O-O, one H-H and two O-H pairs."""


def facing(gap: Tensor | float) -> Tensor:
    """O-H···O-H on a line, (n, 4, 3) in Å; ``gap`` is from the first H to the second O."""
    gaps = torch.as_tensor(gap, dtype=torch.float64).reshape(-1)
    positions = torch.zeros(len(gaps), 4, 3, dtype=torch.float64)
    positions[:, 1, 0] = 0.96
    positions[:, 2, 0] = 0.96 + gaps
    positions[:, 3, 0] = 1.92 + gaps
    return positions


def test_it_is_the_squared_intrusion_for_both_atoms_of_a_contact() -> None:
    excess = ContactExcess(PAIR, limits={"O-O": 2.3, "O-H": 1.5, "H-H": 1.6}, width=0.2)
    # gap 1.2: O-H 1.2 (0.3 too close), O-O 2.16 (0.14), H-H 2.16, O0-H3 3.12
    values = excess.values(facing(1.2))
    hydrogen_bond, oxygens = (0.3 / 0.2) ** 2, (0.14 / 0.2) ** 2
    expected = [[oxygens, hydrogen_bond, oxygens + hydrogen_bond, 0.0]]
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64))


def test_a_contact_across_the_boundary_of_the_cell_counts() -> None:
    excess = ContactExcess(PAIR, limits=1.5)
    inside = facing(1.2)
    across = inside.clone()
    across[:, 2:] -= 12.0
    torch.testing.assert_close(excess.values(across), excess.values(inside))
    assert float(excess.values(inside).max()) > 0.0


def test_atoms_of_one_molecule_never_count() -> None:
    crushed = facing(3.0)
    crushed[:, 1] = 0.1  # an O-H of 0.17 Å, and the other molecule far away
    assert float(ContactExcess(PAIR, limits=1.5).values(crushed).abs().max()) == 0.0


def test_value_and_slope_are_continuous_at_the_limit_and_grow_within() -> None:
    excess = ContactExcess(PAIR, limits={"O-O": 0.1, "O-H": 1.5, "H-H": 0.1}, width=0.1)
    gap = torch.linspace(1.0, 2.0, 2001, dtype=torch.float64)
    positions = facing(gap).requires_grad_(True)
    values = excess.values(positions)[:, 1]
    (gradient,) = torch.autograd.grad(values.sum(), positions)
    slope, step = gradient[:, 1, 0], float(gap[1] - gap[0])
    assert float(slope.diff().abs().max()) <= 2.0 / 0.1**2 * step * (1.0 + 1e-9)
    near = gap < 1.5 - 1e-9
    assert bool((values.detach()[near].diff() < 0).all())
    assert float(values.detach()[~near].abs().max()) == 0.0
    assert float(slope[~near].abs().max()) == 0.0


def test_limits_from_structures_leave_them_without_excess(
    water_box: System, water_frames: Tensor
) -> None:
    excess = ContactExcess.from_reference(water_box, water_frames, margin=0.0)
    assert float(excess.values(water_frames).abs().max()) == 0.0
    # a limit that is any longer counts the closest pair of its kind, and that one alone
    for kind in excess.limits:
        longer = {k: d + (1e-9 if k == kind else 0.0) for k, d in excess.limits.items()}
        found = ContactExcess(water_box, limits=longer).values(water_frames)
        assert int((found > 0.0).sum()) == 2 and int((found > 0.0).any(dim=1).sum()) == 1
    wider = ContactExcess.from_reference(water_box, water_frames, margin=0.01)
    for kind, limit in wider.limits.items():
        assert limit == pytest.approx(excess.limits[kind] - 0.01)


def test_limits_from_structures_see_their_cells(water_box: System, water_frames: Tensor) -> None:
    cells = 1.1 * water_box.cell.expand(len(water_frames), 3, 3)
    larger = ContactExcess.from_reference(water_box, 1.1 * water_frames, cells, margin=0.0)
    own = ContactExcess.from_reference(water_box, water_frames, margin=0.0)
    for kind, limit in own.limits.items():
        assert larger.limits[kind] == pytest.approx(1.1 * limit)


def test_it_refuses_what_it_can_not_do() -> None:
    with pytest.raises(SystemDefinitionError, match="no pair all between different molecules"):
        ContactExcess(System.create(["O", "H"], bonds=[[0, 1]], bond_lengths=[0.96]))
    with pytest.raises(ConfigError, match="has no limit for H-H"):
        ContactExcess(PAIR, limits={"O-O": 2.3, "O-H": 1.5})
    for limit, width in ((0.0, 0.1), (1.5, -0.1), (float("nan"), 0.1)):
        with pytest.raises(ConfigError, match="positive lengths in Å"):
            ContactExcess(PAIR, limits=limit, width=width)
