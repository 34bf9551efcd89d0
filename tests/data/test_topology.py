"""Bonds found on hot and periodic structures are those of the chemical formula."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from torch import Tensor

from stablemd.data import Frames, find_bonds, frames_from_ase, read_frames, system_from_frames
from stablemd.errors import DataError, SystemDefinitionError


@pytest.mark.parametrize(
    ("file", "unit", "n_bonds", "n_molecules"),
    [
        ("md17/aspirin_1k.npz", "eV", 21, 1),
        ("md17/ethanol_1k.npz", "eV", 8, 1),
        ("md17/toluene_1k.npz", "eV", 15, 1),
        ("rmd17/ethanol_test.extxyz", "eV", 8, 1),
        ("3bpa/train_mixedT.extxyz", "eV", 28, 1),
        ("md22/md22_Ac-Ala3-NHMe_disp_100frames.extxyz", "kcal/mol", 41, 1),
        ("water/water_1k_contiguous_10fs.npz", "eV", 128, 64),
    ],
)
def test_public_datasets(
    file: str, unit: str, n_bonds: int, n_molecules: int, shared_data: Path
) -> None:
    frames = read_frames(shared_data / file, energy_unit=unit, index="::4")
    system = system_from_frames(frames)
    assert len(system.bonds) == n_bonds
    assert int(system.molecule_ids.max()) + 1 == n_molecules
    assert 0.9 < float(system.bond_lengths.min()) < float(system.bond_lengths.max()) < 1.65
    _assert_valences(system.numbers, system.bonds)


@pytest.mark.parametrize(
    ("name", "n_bonds"), [("CH3CH2OH", 8), ("C6H6", 12), ("CH3SCH3", 8), ("CH3Cl", 4), ("HF", 1)]
)
def test_molecules_at_rest_and_hot(name: str, n_bonds: int) -> None:
    rest = molecule(name)
    rng = np.random.default_rng(0)
    hot = rest.positions + 0.08 * rng.normal(size=(200, len(rest), 3))
    z = torch.from_numpy(rest.numbers.astype(np.int64))
    cold_bonds, cold_lengths = find_bonds(z, torch.from_numpy(rest.positions[None]))
    hot_bonds, _ = find_bonds(z, torch.from_numpy(hot))
    assert len(cold_bonds) == n_bonds
    assert torch.equal(hot_bonds, cold_bonds)
    expected = [rest.get_distance(i, j) for i, j in cold_bonds.tolist()]
    np.testing.assert_allclose(cold_lengths.numpy(), expected, rtol=1e-12)


def test_lengths_are_means_over_all_frames() -> None:
    z = torch.tensor([1, 1])
    x = torch.zeros(4, 2, 3, dtype=torch.float64)
    x[:, 1, 0] = torch.tensor([0.70, 0.72, 0.74, 0.76])
    assert find_bonds(z, x)[1].tolist() == pytest.approx([0.73])


def test_a_contact_that_comes_and_goes_is_no_bond() -> None:
    """Ten percent of the frames far apart: median bonded, but not persistent."""
    z = torch.tensor([6, 6])
    x = torch.zeros(100, 2, 3, dtype=torch.float64)
    x[:, 1, 0] = 1.5
    assert len(find_bonds(z, x)[0]) == 1
    x[::10, 1, 0] = 3.0
    assert len(find_bonds(z, x)[0]) == 0


def test_bonds_do_not_depend_on_wrapping_or_cell_vectors() -> None:
    """A molecule cut by the faces of a triclinic cell has the bonds of the free one."""
    atoms = molecule("CH3CH2OH")
    z = torch.from_numpy(atoms.numbers.astype(np.int64))
    free_bonds, free_lengths = find_bonds(z, torch.from_numpy(atoms.positions[None]))
    cell = np.array([[8.0, 0.0, 0.0], [-5.0, 7.0, 0.0], [3.5, 3.0, 7.5]])
    rng = np.random.default_rng(4)
    boxes, positions = [], []
    for k in range(8):
        box = cell * (1.0 + 0.01 * k)
        periodic = Atoms(
            atoms.symbols, atoms.positions + rng.normal(scale=5.0, size=3), cell=box, pbc=True
        )
        periodic.wrap()
        boxes.append(box)
        positions.append(periodic.positions)
    bonds, lengths = find_bonds(
        z,
        torch.from_numpy(np.array(positions)),
        cell=torch.from_numpy(np.array(boxes)),
        pbc=torch.ones(3, dtype=torch.bool),
    )
    assert torch.equal(bonds, free_bonds)
    torch.testing.assert_close(lengths, free_lengths)
    same_box, same_lengths = find_bonds(
        z,
        torch.from_numpy(np.array(positions[:1])),
        cell=torch.from_numpy(np.array(boxes[:1])),
        pbc=torch.ones(3, dtype=torch.bool),
    )
    assert torch.equal(same_box, free_bonds)
    torch.testing.assert_close(same_lengths, free_lengths)


def test_given_bonds_replace_those_found(labelled: Frames) -> None:
    system = system_from_frames(labelled, bonds=[[1, 0], (4, 1)])
    assert system.bonds.tolist() == [[0, 1], [1, 4]]
    x = labelled.positions
    expected = [(x[:, 0] - x[:, 1]).norm(dim=-1).mean(), (x[:, 1] - x[:, 4]).norm(dim=-1).mean()]
    torch.testing.assert_close(system.bond_lengths, torch.stack(expected))
    assert int(system.molecule_ids.max()) + 1 == 7
    assert len(system_from_frames(labelled, bonds=[]).bonds) == 0


@pytest.mark.parametrize(
    ("bonds", "message"),
    [
        ([(0, 9)], r"bond \(0, 9\) must join two different atoms within 0\.\.8"),
        ([(-1, 2)], "within 0..8"),
        ([(3, 3)], "two different atoms"),
        ([(0, 1), (1, 0)], r"\[\[0, 1\]\] are given more than once"),
        ([(0, 1, 2)], "pairs of atom indices"),
        ([(0.5, 1.0)], "pairs of atom indices"),
    ],
)
def test_impossible_given_bonds(labelled: Frames, bonds: list, message: str) -> None:
    with pytest.raises(SystemDefinitionError, match=message):
        system_from_frames(labelled, bonds=bonds)


def test_a_far_given_bond_and_an_unbonded_atom_are_suspicious(
    labelled: Frames, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        system_from_frames(labelled)
        assert not caplog.records
        system_from_frames(labelled, bonds=[(2, 8)])
    length = float((labelled.positions[:, 2] - labelled.positions[:, 8]).norm(dim=-1).mean())
    assert f"bond O2-H8 is {length:.2f} Å long" in caplog.text
    assert "7 of 9 atoms have no bond" in caplog.text


def test_atoms_without_any_bond_are_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    argon = frames_from_ase([Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]])])
    with caplog.at_level(logging.WARNING):
        assert len(system_from_frames(argon).bonds) == 0
    assert not caplog.records


def test_the_cell_of_a_system_is_constant(
    labelled_periodic: Frames, caplog: pytest.LogCaptureFixture
) -> None:
    assert labelled_periodic.cell is not None
    system = system_from_frames(labelled_periodic)
    assert torch.equal(system.cell, labelled_periodic.cell[0])
    assert system.pbc.tolist() == [True, True, False]
    labelled_periodic.cell[3] *= 1.01
    with caplog.at_level(logging.WARNING):
        system_from_frames(labelled_periodic)
    assert "cell of frame 0" in caplog.text.replace("\n", " ")


def test_tolerance_out_of_range(labelled: Frames) -> None:
    with pytest.raises(DataError, match="bond tolerance is 0.5"):
        system_from_frames(labelled, bond_tolerance=0.5)


def _assert_valences(numbers: Tensor, bonds: Tensor) -> None:
    """No atom has more neighbours than its element allows; hydrogen has exactly one."""
    degree = torch.bincount(bonds.flatten(), minlength=len(numbers))
    for z, most in {6: 4, 7: 4, 8: 2}.items():
        assert bool((degree[numbers == z] <= most).all())
    assert bool((degree[numbers == 1] == 1).all())
