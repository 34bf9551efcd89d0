from __future__ import annotations

from dataclasses import replace

import ase.io
import h5py
import pytest
import torch

from stablemd.errors import DataError
from stablemd.md.recording import RecordedFrames
from stablemd.md.trajectory import open_trajectory, read_trajectory, write_trajectory
from stablemd.system import System


def made_up(n: int, first_step: int = 0, n_atoms: int = 3) -> RecordedFrames:
    generator = torch.Generator().manual_seed(n)
    return RecordedFrames(
        positions=torch.randn(n, n_atoms, 3, generator=generator, dtype=torch.float64),
        energies=torch.randn(n, generator=generator, dtype=torch.float64),
        replica=torch.arange(n) % 4,
        step=first_step + 50 * (torch.arange(n) // 4),
    )


def assert_equal(read: RecordedFrames, expected: RecordedFrames, atol: float) -> None:
    for name in ("positions", "energies"):
        torch.testing.assert_close(getattr(read, name), getattr(expected, name), rtol=0, atol=atol)
    assert torch.equal(read.replica, expected.replica)
    assert torch.equal(read.step, expected.step)


# extended XYZ writes 8 decimals; HDF5 every bit.
@pytest.mark.parametrize(("suffix", "atol"), [(".extxyz", 1e-8), (".xyz", 1e-8), (".h5", 0.0)])
def test_what_is_written_is_read_back(tmp_path, atoms, suffix, atol):
    path = tmp_path / f"run{suffix}"
    frames = made_up(10)
    write_trajectory(path, atoms, frames, dt_fs=0.5)
    assert_equal(read_trajectory(path), frames, atol)
    write_trajectory(path, atoms, frames.select(slice(0, 4)), dt_fs=0.5)
    assert_equal(read_trajectory(path), frames.select(slice(0, 4)), atol)


@pytest.mark.parametrize("suffix", [".extxyz", ".h5"])
def test_every_frame_keeps_its_cell(tmp_path, atoms_in_a_box, suffix):
    cells = atoms_in_a_box.cell * (1.0 + 0.01 * torch.arange(10).double()[:, None, None])
    frames = replace(made_up(10), cells=cells)
    write_trajectory(tmp_path / f"run{suffix}", atoms_in_a_box, frames, dt_fs=0.5)
    read = read_trajectory(tmp_path / f"run{suffix}")
    torch.testing.assert_close(read.cells, cells, rtol=0, atol=1e-8)
    assert_equal(read, frames, 1e-8)


@pytest.mark.parametrize("suffix", [".extxyz", ".hdf5"])
def test_a_trajectory_can_be_continued(tmp_path, atoms, suffix):
    path = tmp_path / f"deep/er/run{suffix}"
    parts = [made_up(8), made_up(4, first_step=100), made_up(4, first_step=150)]
    with open_trajectory(path, atoms, 0.5) as writer:
        writer.write(parts[0])
        writer.write(parts[1])
    write_trajectory(path, atoms, parts[2], 0.5, append=True)
    assert_equal(read_trajectory(path), RecordedFrames.concatenate(parts), 1e-8)


def test_other_programs_find_atoms_energies_and_times(tmp_path, atoms):
    frames = made_up(6)
    write_trajectory(tmp_path / "run.extxyz", atoms, frames, dt_fs=0.5)
    image = ase.io.read(tmp_path / "run.extxyz", index=5)
    assert image.get_chemical_symbols() == ["H", "C", "O"]
    assert image.get_potential_energy() == pytest.approx(float(frames.energies[5]), abs=1e-8)
    assert image.info["time_fs"] == 25.0
    write_trajectory(tmp_path / "run.h5", atoms, frames, dt_fs=0.5)
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["numbers"][:].tolist() == [1, 6, 8]
        assert file.attrs["dt_fs"] == 0.5
        data = file["replicas/000001/positions"]
        assert data.maxshape == (None, 3, 3)
        assert torch.equal(torch.from_numpy(data[:]), frames.positions[frames.replica == 1])


def test_what_does_not_fit_is_refused(tmp_path, atoms):
    with pytest.raises(DataError, match=r"suffix '.dcd'.*\.h5"):
        write_trajectory(tmp_path / "run.dcd", atoms, made_up(2), 0.5)
    with pytest.raises(DataError, match="there is no trajectory file"):
        read_trajectory(tmp_path / "absent.h5")
    write_trajectory(tmp_path / "run.h5", atoms, made_up(2), 0.5)
    with pytest.raises(DataError, match="other atoms"):
        write_trajectory(
            tmp_path / "run.h5", System.create(["H"]), made_up(2, n_atoms=1), 0.5, append=True
        )
    ase.io.write(tmp_path / "plain.extxyz", ase.Atoms("H2", positions=[[0, 0, 0], [0, 0, 1]]))
    with pytest.raises(DataError, match="no replica and no step"):
        read_trajectory(tmp_path / "plain.extxyz")
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["numbers"] = [1]
    with pytest.raises(DataError, match="not a trajectory of stablemd"):
        read_trajectory(tmp_path / "plain.h5")
