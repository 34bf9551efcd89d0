"""Labels are found wherever ASE and the authors of a file have put them."""

from __future__ import annotations

import logging
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from stablemd.data import Frames, frames_from_ase, frames_to_ase, read_frames
from stablemd.errors import DataError
from stablemd.units import KCAL_PER_MOL


def _water(n: int) -> list[Atoms]:
    rng = np.random.default_rng(2)
    images = []
    for _ in range(n):
        atoms = molecule("H2O")
        atoms.positions += 0.05 * rng.normal(size=(3, 3))
        images.append(atoms)
    return images


def test_labels_survive_ase_and_back(labelled_periodic: Frames) -> None:
    back = frames_from_ase(frames_to_ase(labelled_periodic))
    for name in ("numbers", "positions", "energies", "forces", "cell", "pbc"):
        assert torch.equal(getattr(back, name), getattr(labelled_periodic, name))


@pytest.mark.parametrize("suffix", ["traj", "db", "json"])
def test_other_formats_of_ase(suffix: str, labelled: Frames, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    ase.io.write(path, frames_to_ase(labelled))
    back = read_frames(path)
    torch.testing.assert_close(back.energies, labelled.energies)
    torch.testing.assert_close(back.forces, labelled.forces)


def test_names_in_any_case_in_info_and_arrays(tmp_path: Path) -> None:
    images = _water(3)
    for k, atoms in enumerate(images):
        atoms.info["Energy"] = -10.0 - k
        atoms.arrays["Force"] = np.full((3, 3), 5.0 + k)
    ase.io.write(tmp_path / "a.xyz", images, format="extxyz")
    frames = read_frames(tmp_path / "a.xyz", energy_unit="kcal/mol")
    expected = torch.tensor([-10.0, -11.0, -12.0], dtype=torch.float64) * KCAL_PER_MOL
    torch.testing.assert_close(frames.energies, expected)
    assert float(frames.forces[2, 0, 0]) == pytest.approx(7.0 * KCAL_PER_MOL)


def test_keys_choose_among_labels() -> None:
    images = _water(2)
    for atoms in images:
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((3, 3)))
        atoms.info["dft_total"] = -2.0
        atoms.arrays["dft_forces"] = np.full((3, 3), 2.0)
    assert frames_from_ase(images).energies.tolist() == [-1.0, -1.0]
    keys = {"energies": "dft_total", "forces": "dft_forces"}
    frames = frames_from_ase(images, keys=keys)
    assert frames.energies.tolist() == [-2.0, -2.0]
    assert float(frames.forces.min()) == 2.0
    with pytest.raises(DataError, match=r"no 'dft' in frame 0, which has .*dft_total"):
        frames_from_ase(images, keys={"energies": "dft"})


def test_a_label_in_some_frames_only_is_an_error() -> None:
    images = _water(3)
    for atoms in images[:2]:
        atoms.info["energy"] = -1.0
    with pytest.raises(DataError, match="frame 2 has no 'energy'"):
        frames_from_ase(images)


def test_a_label_of_the_wrong_shape_is_named() -> None:
    images = _water(2)
    for atoms in images:
        atoms.arrays["forces"] = np.ones((3, 2))
    with pytest.raises(DataError, match=r"'forces' of frame 0 must have shape \(3, 3\)"):
        frames_from_ase(images)


def test_mixed_compositions_are_named() -> None:
    with pytest.raises(DataError, match=r"mixed compositions: frame 1 is CH4O .* frame 0 is H2O"):
        frames_from_ase([molecule("H2O"), molecule("CH3OH")])


def test_a_changed_atom_order_is_named() -> None:
    swapped = molecule("H2O")[[1, 0, 2]]
    with pytest.raises(DataError, match="atom 0 is H in frame 2 but O in frame 0"):
        frames_from_ase([molecule("H2O"), molecule("H2O"), swapped])


def test_changing_periodicity_is_named() -> None:
    images = _water(2)
    images[1].cell, images[1].pbc = np.eye(3) * 9.0, True
    with pytest.raises(DataError, match="frame 1 has pbc"):
        frames_from_ase(images)


def test_an_unused_cell_is_dropped() -> None:
    images = _water(2)
    for atoms in images:
        atoms.cell = np.eye(3) * 50.0
    assert frames_from_ase(images).cell is None


def test_md22_tetrapeptide_in_kcal(shared_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = shared_data / "md22" / "md22_Ac-Ala3-NHMe_5frames.xyz"
    with caplog.at_level(logging.WARNING):
        frames = read_frames(path, energy_unit="kcal/mol")
        assert not caplog.records
        read_frames(path)
    assert "check energy_unit" in caplog.text
    # The total energy of the file's first frame, converted.
    assert float(frames.energies[0]) == pytest.approx(-620726.002662 * KCAL_PER_MOL)
