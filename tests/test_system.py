"""A system is consistent, or its error says what isn't."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.data import atomic_masses

from stablemd.errors import SystemDefinitionError
from stablemd.system import System


def _two_waters() -> System:
    return System.create(
        ["O", "H", "H", "O", "H", "H"],
        bonds=[(1, 0), (0, 2), (3, 4), (5, 3)],
        bond_lengths=[0.96, 0.97, 0.98, 0.99],
    )


def test_defaults_are_standard_weights_no_cell_no_bonds() -> None:
    system = System.create([8, 1, 1])
    assert system.masses.tolist() == atomic_masses[[8, 1, 1]].tolist()
    assert not system.is_periodic and not bool(system.cell.any())
    assert system.bonds.shape == (0, 2) and system.bond_lengths.shape == (0,)
    assert system.molecule_ids.tolist() == [0, 1, 2]


def test_symbols_and_numbers_are_the_same() -> None:
    symbols, numbers = System.create(["C", "Cl"]), System.create(torch.tensor([6, 17]))
    assert torch.equal(symbols.numbers, numbers.numbers)
    assert torch.equal(symbols.masses, numbers.masses)


def test_bonds_are_sorted_pairs_that_make_the_molecules() -> None:
    system = _two_waters()
    assert system.bonds.tolist() == [[0, 1], [0, 2], [3, 4], [3, 5]]
    assert system.molecule_ids.tolist() == [0, 0, 0, 1, 1, 1]
    assert system.bond_name(3) == "O3-H5"
    assert system.formula == "H4O2"


def test_a_system_shares_no_memory_with_its_input() -> None:
    masses = np.array([16.0, 1.0, 1.0])
    system = System.create([8, 1, 1], masses=masses)
    masses[:] = -1.0
    assert system.masses.tolist() == [16.0, 1.0, 1.0]


def test_it_moves_as_a_whole() -> None:
    moved = _two_waters().to("meta")
    assert all(getattr(moved, name).device.type == "meta" for name in moved.__dataclass_fields__)
    assert moved.device.type == "meta"


def test_one_flag_of_periodicity_stands_for_three() -> None:
    system = System.create([8, 1, 1], cell=np.eye(3) * 5.0, pbc=True)
    assert system.pbc.tolist() == [True, True, True] and system.is_periodic


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"numbers": []}, "at least one atom"),
        ({"numbers": ["Xx"]}, r"unknown chemical symbols \['Xx'\]"),
        ({"numbers": [0, 1]}, "within 1..118"),
        pytest.param(
            {"numbers": [1, 119]},
            "within 1..118",
        ),
        ({"numbers": [1, 1], "masses": [1.0]}, "masses must be 2 positive numbers"),
        ({"numbers": [1, 1], "masses": [1.0, 0.0]}, "positive"),
        ({"numbers": [1, 1], "masses": [1.0, float("nan")]}, "positive"),
        ({"numbers": [1], "cell": [5.0, 5.0, 5.0]}, r"cell must be \(3, 3\)"),
        ({"numbers": [1], "pbc": True}, "the cell has no volume"),
        pytest.param(
            {"numbers": [1, 1], "bonds": [(0, 2)], "bond_lengths": [1.0]},
            "two different atoms within 0..1",
        ),
        ({"numbers": [1, 1], "bonds": [(1, 1)], "bond_lengths": [1.0]}, "two different atoms"),
        pytest.param(
            {"numbers": [1, 1], "bonds": [(-1, 1)], "bond_lengths": [1.0]},
            "two different atoms",
        ),
        ({"numbers": [1, 1], "bonds": [(0, 1)]}, "1 bonds need as many bond_lengths"),
        ({"numbers": [1, 1], "molecule_ids": [0]}, r"molecule_ids must have shape \(2,\)"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SystemDefinitionError, match=message):
        System.create(**arguments)  # type: ignore[arg-type]
