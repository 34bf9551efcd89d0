"""A replica's motion, prepared for the viewer in the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from numpy.typing import ArrayLike, NDArray

from stablemd.errors import DataError
from stablemd.evaluation.figure_style import check_role
from stablemd.system import System


@dataclass(frozen=True)
class Movie:
    """Frames of one replica with the bonds that the viewer watches.

    Attributes:
        role: "before", "after", "control" or "model".
        title: heading, e.g. "replica 7".
        numbers: atomic numbers, (N,).
        bonds: atom pairs, (B, 2).
        bond_lengths: reference lengths in Å, (B,).
        threshold: deviation of a bond length in Å that counts as a failure.
        frames: positions in Å, (F, N, 3).
        times_ps: time of every frame in ps, (F,).
        caption: what happened in the end; it appears with the last frame.
        failed: whether the replica failed at the last frame.
        failed_bond: index of the bond that failed, -1 where none did.
    """

    role: str
    title: str
    numbers: ArrayLike
    bonds: ArrayLike
    bond_lengths: ArrayLike
    threshold: float
    frames: ArrayLike
    times_ps: ArrayLike
    caption: str = ""
    failed: bool = False
    failed_bond: int = -1

    def __post_init__(self) -> None:
        check_role(self.role)
        n_atoms, n_bonds = len(np.asarray(self.numbers)), len(np.asarray(self.bonds))
        frames, times = np.asarray(self.frames), np.asarray(self.times_ps)
        if frames.ndim != 3 or frames.shape[1:] != (n_atoms, 3) or len(frames) == 0:
            raise DataError(
                f"{self.title}: a movie of {n_atoms} atoms needs frames of shape "
                f"(frames, {n_atoms}, 3) with at least one frame, got {frames.shape}"
            )
        if times.shape != (len(frames),) or np.any(np.diff(times) < 0):
            raise DataError(
                f"{self.title}: {len(frames)} frames need as many times in increasing order, "
                f"got shape {times.shape}"
            )
        if np.shape(self.bond_lengths) != (n_bonds,) or not -1 <= self.failed_bond < n_bonds:
            raise DataError(
                f"{self.title}: {n_bonds} bonds need as many lengths (got "
                f"{np.shape(self.bond_lengths)}) and failed_bond within -1..{n_bonds - 1} "
                f"(got {self.failed_bond})"
            )

    @classmethod
    def of_replica(
        cls,
        system: System,
        positions: ArrayLike,
        times_ps: ArrayLike,
        threshold: float,
        *,
        role: str,
        title: str,
        caption: str = "",
        failed: bool = False,
        failed_bond: int = -1,
        max_frames: int = 400,
    ) -> Movie:
        """Movie of a trajectory, thinned evenly to ``max_frames`` with its last frame kept.

        Frames from the first one that is not finite are left out, and each is
        turned onto the one before it, so that one sees the molecule deform
        rather than tumble.

        Args:
            system: atoms, bonds and bond lengths.
            positions: Å, (F, N, 3).
            times_ps: ps, (F,).
            threshold: failing deviation of a bond length, Å.
            role: as in ``Movie``.
            title: as in ``Movie``.
            caption: as in ``Movie``.
            failed: as in ``Movie``.
            failed_bond: as in ``Movie``.
            max_frames: largest number of frames to keep.
        """
        frames = np.asarray(positions, dtype=np.float64)
        times = np.asarray(times_ps, dtype=np.float64)
        finite = np.isfinite(frames).all(axis=(1, 2))
        n_valid = len(frames) if finite.all() else int(np.argmin(finite))
        keep = np.unique(np.linspace(0, max(n_valid - 1, 0), max_frames).round().astype(int))
        keep = keep[keep < n_valid]
        return cls(
            role=role,
            title=title,
            numbers=system.numbers.cpu().numpy(),
            bonds=system.bonds.cpu().numpy(),
            bond_lengths=system.bond_lengths.cpu().numpy(),
            threshold=threshold,
            frames=_without_rotation(frames[keep]),
            times_ps=times[keep],
            caption=caption,
            failed=failed,
            failed_bond=failed_bond,
        )

    def to_json(self) -> dict[str, Any]:
        """The viewer's data: positions rounded to 0.01 Å, elements with colour and radius."""
        numbers = np.asarray(self.numbers)
        colors = (255 * jmol_colors[numbers]).round().astype(int)
        return {
            "role": self.role,
            "title": self.title,
            "numbers": numbers.tolist(),
            "symbols": [chemical_symbols[z] for z in numbers],
            "colors": colors.tolist(),
            "radii": [round(float(covalent_radii[z]), 2) for z in numbers],
            "bonds": np.asarray(self.bonds).reshape(-1, 2).tolist(),
            "bond_lengths": [round(float(d), 4) for d in np.asarray(self.bond_lengths)],
            "threshold": float(self.threshold),
            "frames": [
                [[round(float(x), 2) for x in atom] for atom in frame]
                for frame in np.asarray(self.frames)
            ],
            "times_ps": [round(float(t), 5) for t in np.asarray(self.times_ps)],
            "caption": self.caption,
            "failed": self.failed,
            "failed_bond": self.failed_bond,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Movie:
        """The movie of a ``to_json`` dictionary."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


def _without_rotation(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centred frames, each turned onto its predecessor (Kabsch, Acta Cryst. A 32, 922 (1976))."""
    centred = frames - frames.mean(axis=1, keepdims=True)
    for k in range(1, len(centred)):
        u, _, vt = np.linalg.svd(centred[k].T @ centred[k - 1])
        flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
        centred[k] = centred[k] @ u @ flip @ vt
    return centred
