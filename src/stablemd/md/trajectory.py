"""Trajectory files: extended XYZ and HDF5."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import ase
import ase.io
import h5py
import numpy as np
import torch
from ase.calculators.singlepoint import SinglePointCalculator

from stablemd.errors import DataError
from stablemd.md.recording import RecordedFrames
from stablemd.system import System

HDF5_FORMAT = "stablemd-trajectory-1"
_CHUNK_FRAMES = 64


class TrajectoryWriter(ABC):
    """Appends recorded frames to a file; use as a context manager.

    Args:
        path: the file; an existing one is continued with ``append``, else replaced.
        system: the atoms.
        dt_fs: time step in fs, which turns steps into times.
        append: continue an existing file.
    """

    def __init__(self, path: Path, system: System, dt_fs: float, *, append: bool = False) -> None:
        self.path = path
        self.system = system
        self.dt_fs = dt_fs
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not append:
            path.unlink()

    @abstractmethod
    def write(self, frames: RecordedFrames) -> None:
        """Append frames; those of one replica must come in the order of their steps."""

    def close(self) -> None:  # noqa: B027 - only writers that hold a file override it
        """Finish the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ExtXYZWriter(TrajectoryWriter):
    """Extended XYZ as ASE writes it: energy, replica, step and time_fs of every frame."""

    def write(self, frames: RecordedFrames) -> None:
        images = [self._image(frames, f) for f in range(len(frames))]
        if images:
            ase.io.write(self.path, images, format="extxyz", append=True)

    def _image(self, frames: RecordedFrames, index: int) -> ase.Atoms:
        atoms = ase.Atoms(
            numbers=self.system.numbers.cpu().numpy(),
            positions=frames.positions[index].cpu().numpy(),
            cell=(self.system.cell if frames.cells is None else frames.cells[index]).cpu().numpy(),
            pbc=self.system.pbc.cpu().numpy(),
        )
        step = int(frames.step[index])
        atoms.info.update(replica=int(frames.replica[index]), step=step, time_fs=step * self.dt_fs)
        atoms.calc = SinglePointCalculator(atoms, energy=float(frames.energies[index]))
        return atoms


class HDF5Writer(TrajectoryWriter):
    """HDF5 with one group per replica: ``replicas/<index>/{positions,energies,step}``.

    Periodic systems have ``cells`` beside them, the cell of every frame.  The
    root carries the atoms and the attributes ``format``, ``dt_fs`` and
    ``units``.  Data sets are chunked and grow with every call of ``write``.

    Raises:
        DataError: with ``append``, the existing file is of other atoms.
    """

    def __init__(self, path: Path, system: System, dt_fs: float, *, append: bool = False) -> None:
        super().__init__(path, system, dt_fs, append=append)
        self._file = h5py.File(path, "a")
        numbers = system.numbers.cpu().numpy()
        if "numbers" not in self._file:
            self._file.attrs.update(
                format=HDF5_FORMAT, dt_fs=dt_fs, units="positions Å, energies eV, masses amu"
            )
            for name in ("numbers", "masses", "cell", "pbc"):
                self._file[name] = getattr(system, name).cpu().numpy()
            self._file.create_group("replicas")
        elif not np.array_equal(self._file["numbers"][:], numbers):
            self._file.close()
            raise DataError(
                f"{path} holds a trajectory of other atoms than {system.formula}; give another "
                "file name, or append=False to replace it"
            )

    def write(self, frames: RecordedFrames) -> None:
        for replica in frames.replica.unique().tolist():
            part = frames.select(frames.replica == replica)
            group = self._file["replicas"].require_group(f"{replica:06d}")
            for name in ("positions", "energies", "step", "cells"):
                if (values := getattr(part, name)) is not None:
                    _append(group, name, values.cpu().numpy())
        self._file.flush()

    def close(self) -> None:
        self._file.close()


WRITERS: dict[str, type[TrajectoryWriter]] = {
    ".extxyz": ExtXYZWriter,
    ".xyz": ExtXYZWriter,
    ".h5": HDF5Writer,
    ".hdf5": HDF5Writer,
}


def open_trajectory(
    path: str | Path, system: System, dt_fs: float, *, append: bool = False
) -> TrajectoryWriter:
    """The writer that the file's suffix asks for.

    Raises:
        DataError: the suffix is unknown.
    """
    path = Path(path)
    return WRITERS[_known_suffix(path)](path, system, dt_fs, append=append)


def write_trajectory(
    path: str | Path, system: System, frames: RecordedFrames, dt_fs: float, *, append: bool = False
) -> None:
    """Write recorded frames to ``.extxyz``, ``.xyz``, ``.h5`` or ``.hdf5``.

    Args:
        path: the file; its suffix chooses the format.
        system: the atoms.
        frames: what to write.
        dt_fs: time step in fs.
        append: continue an existing file instead of replacing it.

    Raises:
        DataError: the suffix is unknown.
    """
    with open_trajectory(path, system, dt_fs, append=append) as writer:
        writer.write(frames)


def read_trajectory(path: str | Path) -> RecordedFrames:
    """Frames of a file that :func:`write_trajectory` wrote, by step and then by replica.

    Extended XYZ holds positions to 1e-8 Å; HDF5 holds every bit.

    Raises:
        DataError: the file is missing, its suffix unknown, or not of this format.
    """
    path = Path(path)
    suffix = _known_suffix(path)
    if not path.exists():
        raise DataError(f"there is no trajectory file {path}; check the path")
    frames = _read_hdf5(path) if WRITERS[suffix] is HDF5Writer else _read_extxyz(path)
    return frames.select(torch.from_numpy(np.lexsort((frames.replica, frames.step))))


def _known_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise DataError(
            f"trajectory file {path.name!r} has suffix {suffix!r}; use one of {sorted(WRITERS)}"
        )
    return suffix


def _append(group: h5py.Group, name: str, values: np.ndarray) -> None:
    if name not in group:
        shape = values.shape[1:]
        group.create_dataset(
            name,
            shape=(0, *shape),
            maxshape=(None, *shape),
            chunks=(_CHUNK_FRAMES, *shape),
            dtype=values.dtype,
        )
    data = group[name]
    before = data.shape[0]
    data.resize(before + len(values), axis=0)
    data[before:] = values


def _read_hdf5(path: Path) -> RecordedFrames:
    with h5py.File(path, "r") as file:
        if file.attrs.get("format") != HDF5_FORMAT:
            raise DataError(
                f"{path} is not a trajectory of stablemd (attribute format is "
                f"{file.attrs.get('format')!r}, expected {HDF5_FORMAT!r})"
            )
        n_atoms = len(file["numbers"])
        positions, energies = [np.empty((0, n_atoms, 3))], [np.empty(0)]
        replica, step = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        cells: list[np.ndarray] = []
        for name, group in file["replicas"].items():
            positions.append(group["positions"][:])
            energies.append(group["energies"][:])
            step.append(group["step"][:])
            replica.append(np.full(len(group["step"]), int(name)))
            if "cells" in group:
                cells.append(group["cells"][:])
    return _frames(
        np.concatenate(positions),
        np.concatenate(energies),
        np.concatenate(replica),
        np.concatenate(step),
        np.concatenate(cells) if cells else None,
    )


def _read_extxyz(path: Path) -> RecordedFrames:
    images: list[ase.Atoms] = ase.io.read(path, index=":", format="extxyz")  # type: ignore[assignment]
    missing = sorted({"replica", "step"} - set(images[0].info))
    if missing:
        raise DataError(
            f"{path} is not a trajectory of stablemd: its frames have no {' and no '.join(missing)}"
        )
    return _frames(
        np.stack([image.positions for image in images]),
        np.array([image.get_potential_energy() for image in images]),
        np.array([image.info["replica"] for image in images], dtype=np.int64),
        np.array([image.info["step"] for image in images], dtype=np.int64),
        np.stack([image.cell.array for image in images]) if images[0].pbc.any() else None,
    )


def _frames(
    positions: np.ndarray,
    energies: np.ndarray,
    replica: np.ndarray,
    step: np.ndarray,
    cells: np.ndarray | None,
) -> RecordedFrames:
    return RecordedFrames(
        torch.from_numpy(positions),
        torch.from_numpy(energies),
        torch.from_numpy(replica),
        torch.from_numpy(step),
        None if cells is None else torch.from_numpy(cells),
    )
