"""Files of every format give the same frames; what is wrong in them is named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from stablemd.data import Frames, read_frames, write_frames
from stablemd.data.npz import write_npz
from stablemd.errors import DataError
from stablemd.units import BOHR, HARTREE, KCAL_PER_MOL

# extxyz holds eight decimals; the others hold the bits.
DECIMALS = {".npz": 0.0, ".h5": 0.0, ".hdf5": 0.0, ".extxyz": 1e-8}


def _md17_fields(frames: Frames) -> dict[str, Any]:
    assert frames.energies is not None and frames.forces is not None
    return {
        "z": frames.numbers.numpy().astype(np.uint8),
        "R": frames.positions.numpy(),
        "E": frames.energies.numpy(),
        "F": frames.forces.numpy(),
    }


@pytest.mark.parametrize("suffix", sorted(DECIMALS))
@pytest.mark.parametrize("periodic", [False, True])
def test_round_trip(
    suffix: str, periodic: bool, labelled: Frames, labelled_periodic: Frames, tmp_path: Path
) -> None:
    frames = labelled_periodic if periodic else labelled
    path = tmp_path / "new folder" / f"frames{suffix}"
    write_frames(path, frames)
    back = read_frames(path)
    assert torch.equal(back.numbers, frames.numbers)
    for name in ("positions", "energies", "forces", "cell"):
        ours, theirs = getattr(frames, name), getattr(back, name)
        if ours is None:
            assert theirs is None
        else:
            assert theirs.dtype == torch.float64
            assert float((theirs - ours).abs().max()) <= DECIMALS[suffix]
    assert (back.pbc is None) if not periodic else torch.equal(back.pbc, frames.pbc)


@pytest.mark.parametrize("suffix", sorted(DECIMALS))
def test_unlabelled_frames_need_no_energy_unit(
    suffix: str, labelled: Frames, tmp_path: Path
) -> None:
    bare = Frames(numbers=labelled.numbers, positions=labelled.positions)
    write_frames(tmp_path / f"a{suffix}", bare)
    back = read_frames(tmp_path / f"a{suffix}")
    assert back.energies is None and back.forces is None


@pytest.mark.parametrize(
    "names",
    [
        ("z", "R", "E", "F"),
        ("nuclear_charges", "coords", "energies", "forces"),
        ("atomic_numbers", "positions", "energy", "force"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_published_field_names_and_units(
    suffix: str, names: tuple[str, ...], labelled: Frames, tmp_path: Path
) -> None:
    fields = dict(zip(names, _md17_fields(labelled).values(), strict=True))
    path = tmp_path / f"a{suffix}"
    _write_raw(path, fields)
    with pytest.raises(DataError, match=r"energy_unit=.*kcal/mol"):
        read_frames(path)
    frames = read_frames(path, energy_unit="kcal/mol")
    torch.testing.assert_close(frames.energies, labelled.energies * KCAL_PER_MOL)
    torch.testing.assert_close(frames.forces, labelled.forces * KCAL_PER_MOL)
    assert torch.equal(frames.positions, labelled.positions)


def test_atomic_units_convert_positions_energies_and_forces(
    labelled: Frames, tmp_path: Path
) -> None:
    _write_raw(tmp_path / "a.npz", _md17_fields(labelled))
    frames = read_frames(tmp_path / "a.npz", energy_unit="hartree", length_unit="bohr")
    torch.testing.assert_close(frames.positions, labelled.positions * BOHR)
    torch.testing.assert_close(frames.energies, labelled.energies * HARTREE)
    torch.testing.assert_close(frames.forces, labelled.forces * (HARTREE / BOHR))


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_units_in_the_file_are_used_and_must_agree(
    suffix: str, labelled: Frames, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    _write_raw(path, {**_md17_fields(labelled), "e_unit": "kcal/mol", "r_unit": "Ang"})
    frames = read_frames(path)
    torch.testing.assert_close(frames.forces, labelled.forces * KCAL_PER_MOL)
    assert torch.equal(read_frames(path, energy_unit="KCAL/mol").energies, frames.energies)
    with pytest.raises(DataError, match=r"energy_unit='eV' was given.*'kcal/mol'"):
        read_frames(path, energy_unit="eV")
    with pytest.raises(DataError, match=r"length_unit='bohr' was given.*'Ang'"):
        read_frames(path, length_unit="bohr")


def test_unknown_unit_lists_the_known_ones(labelled: Frames, tmp_path: Path) -> None:
    _write_raw(tmp_path / "a.npz", _md17_fields(labelled))
    with pytest.raises(DataError, match=r"unknown energy unit 'parsec'.*hartree"):
        read_frames(tmp_path / "a.npz", energy_unit="parsec")


def test_wrong_unit_is_suspected_from_the_forces(
    labelled: Frames, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fields = _md17_fields(labelled)
    _write_raw(tmp_path / "ev.npz", fields)
    _write_raw(tmp_path / "kcal.npz", {**fields, "F": fields["F"] / KCAL_PER_MOL})
    with caplog.at_level(logging.WARNING):
        read_frames(tmp_path / "ev.npz", energy_unit="eV")
        read_frames(tmp_path / "kcal.npz", energy_unit="kcal/mol")
        assert not caplog.records
        read_frames(tmp_path / "kcal.npz", energy_unit="eV")
    assert "check energy_unit" in caplog.text


def test_energies_as_a_column_are_flattened(labelled: Frames, tmp_path: Path) -> None:
    fields = _md17_fields(labelled)
    _write_raw(tmp_path / "a.npz", {**fields, "E": fields["E"][:, None]})
    frames = read_frames(tmp_path / "a.npz", energy_unit="eV")
    assert torch.equal(frames.energies, labelled.energies)


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".extxyz"])
@pytest.mark.parametrize(
    ("index", "expected"), [("::5", [0, 5, 10]), (":2", [0, 1]), (-1, [11]), ("3", [3])]
)
def test_index_selects_frames_in_every_format(
    suffix: str, index: str | int, expected: list[int], labelled: Frames, tmp_path: Path
) -> None:
    write_frames(tmp_path / f"a{suffix}", labelled)
    frames = read_frames(tmp_path / f"a{suffix}", index=index)
    torch.testing.assert_close(frames.energies, labelled.energies[expected])


def test_index_can_leave_bad_frames_out(labelled: Frames, tmp_path: Path) -> None:
    fields = _md17_fields(labelled)
    fields["E"] = np.where(np.arange(12) == 11, np.nan, fields["E"])
    _write_raw(tmp_path / "a.npz", fields)
    with pytest.raises(DataError, match="not finite"):
        read_frames(tmp_path / "a.npz", energy_unit="eV")
    assert len(read_frames(tmp_path / "a.npz", energy_unit="eV", index=":-1")) == 11


@pytest.mark.parametrize("index", ["20:", "a:b", 20])
def test_an_index_without_frames_is_an_error(
    index: str | int, labelled: Frames, tmp_path: Path
) -> None:
    write_frames(tmp_path / "a.npz", labelled)
    with pytest.raises(DataError):
        read_frames(tmp_path / "a.npz", index=index)


def test_own_names_through_keys(labelled: Frames, tmp_path: Path) -> None:
    fields = _md17_fields(labelled)
    fields |= {"U": fields.pop("E") + 1.0, "energy": fields["R"][:, 0, 0]}
    _write_raw(tmp_path / "a.npz", fields)
    frames = read_frames(tmp_path / "a.npz", energy_unit="eV", keys={"energies": "U"})
    torch.testing.assert_close(frames.energies, labelled.energies + 1.0)
    with pytest.raises(DataError, match=r"no 'V' for energies; the file has"):
        read_frames(tmp_path / "a.npz", energy_unit="eV", keys={"energies": "V"})
    with pytest.raises(DataError, match=r"unknown fields \['engeries'\]"):
        read_frames(tmp_path / "a.npz", energy_unit="eV", keys={"engeries": "U"})


def test_two_candidate_names_are_ambiguous(labelled: Frames, tmp_path: Path) -> None:
    fields = _md17_fields(labelled)
    _write_raw(tmp_path / "a.npz", {**fields, "energy": fields["E"]})
    with pytest.raises(DataError, match=r"energies could be any of \['E', 'energy'\]"):
        read_frames(tmp_path / "a.npz", energy_unit="eV")


def test_missing_key_lists_what_is_there(labelled: Frames, tmp_path: Path) -> None:
    fields = _md17_fields(labelled)
    del fields["R"]
    _write_raw(tmp_path / "a.npz", fields)
    with pytest.raises(DataError, match=r"positions missing; the file has \['E', 'F', 'z'\]"):
        read_frames(tmp_path / "a.npz", energy_unit="eV")


@pytest.mark.parametrize(
    ("field", "shape", "message"),
    [
        ("R", (12, 27), "positions must have shape"),
        ("E", (11,), r"energies must have shape \(12,\)"),
        ("F", (12, 8, 3), r"forces must have shape \(12, 9, 3\)"),
        ("z", (8,), "atomic numbers must have shape"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_wrong_shapes_are_named(
    suffix: str,
    field: str,
    shape: tuple[int, ...],
    message: str,
    labelled: Frames,
    tmp_path: Path,
) -> None:
    path = tmp_path / f"a{suffix}"
    _write_raw(path, {**_md17_fields(labelled), field: np.ones(shape)})
    with pytest.raises(DataError, match=message):
        read_frames(path, energy_unit="eV", index=":5")


def test_numbers_may_be_given_for_every_frame(labelled: Frames, tmp_path: Path) -> None:
    fields = _md17_fields(labelled)
    per_frame = np.tile(fields["z"], (12, 1))
    _write_raw(tmp_path / "a.npz", {**fields, "z": per_frame})
    frames = read_frames(tmp_path / "a.npz", energy_unit="eV")
    assert torch.equal(frames.numbers, labelled.numbers)
    per_frame[4, [2, 5]] = per_frame[4, [5, 2]]
    _write_raw(tmp_path / "b.npz", {**fields, "z": per_frame})
    with pytest.raises(DataError, match="atom 2 is H in frame 4 but O in frame 0"):
        read_frames(tmp_path / "b.npz", energy_unit="eV")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (np.array(7.0), np.eye(3) * 7.0),
        (np.array([7.0, 8.0, 9.0]), np.diag([7.0, 8.0, 9.0])),
        (np.arange(9.0).reshape(3, 3), np.arange(9.0).reshape(3, 3)),
    ],
)
def test_a_cell_in_any_form_is_given_to_every_frame(
    cell: np.ndarray, expected: np.ndarray, labelled: Frames, tmp_path: Path
) -> None:
    _write_raw(tmp_path / "a.npz", {**_md17_fields(labelled), "cell": cell})
    frames = read_frames(tmp_path / "a.npz", energy_unit="eV")
    assert frames.cell is not None and frames.pbc is not None and bool(frames.pbc.all())
    assert (frames.cell.numpy() == expected).all() and frames.cell.shape == (12, 3, 3)


def test_a_cell_that_is_not_periodic_is_dropped(labelled: Frames, tmp_path: Path) -> None:
    fields = {**_md17_fields(labelled), "cell": np.eye(3) * 50.0, "pbc": np.zeros(3, dtype=bool)}
    _write_raw(tmp_path / "a.npz", fields)
    frames = read_frames(tmp_path / "a.npz", energy_unit="eV")
    assert frames.cell is None and frames.pbc is None


def test_single_precision_keeps_energies(labelled: Frames, tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", labelled, metadata={"method": "none"}, single_precision=True)
    back = read_frames(tmp_path / "a.npz")
    assert torch.equal(back.energies, labelled.energies)
    assert torch.equal(back.positions, labelled.positions.float().double())
    with np.load(tmp_path / "a.npz") as file:
        assert str(file["method"]) == "none"
    with pytest.raises(DataError, match=r"\['F'\] are taken"):
        write_npz(tmp_path / "a.npz", labelled, metadata={"F": 1})


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".extxyz", ".traj", ".unknown"])
def test_files_that_are_not_what_their_suffix_says(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("this is not it")
    with pytest.raises(DataError, match=f"a{suffix}"):
        read_frames(path)


def test_a_nameless_array_is_no_npz_file(tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros((3, 9, 3)))
    with pytest.raises(DataError, match="single array"):
        read_frames(tmp_path / "a.npz")


def test_pickled_objects_are_not_loaded(labelled: Frames, tmp_path: Path) -> None:
    fields = {**_md17_fields(labelled), "E": np.array([{}] * 12, dtype=object)}
    np.savez(tmp_path / "a.npz", **fields)
    with pytest.raises(DataError, match="without Python objects"):
        read_frames(tmp_path / "a.npz", energy_unit="eV")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz does not exist"):
        read_frames(tmp_path / "nowhere.npz")


def test_unknown_suffix_is_not_written(labelled: Frames, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"can't write '\.pdb'"):
        write_frames(tmp_path / "a.pdb", labelled)
    with pytest.raises(DataError, match="no metadata"):
        write_frames(tmp_path / "a.extxyz", labelled, metadata={"method": "none"})


def test_hdf5_metadata_are_attributes(labelled: Frames, tmp_path: Path) -> None:
    write_frames(tmp_path / "a.h5", labelled, metadata={"method": "none"})
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["method"] == "none" and file.attrs["energy_unit"] == "eV"


def _write_raw(path: Path, fields: dict[str, Any]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **fields)
        return
    with h5py.File(path, "w") as file:
        for name, value in fields.items():
            file[name] = value
