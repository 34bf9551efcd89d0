"""Bonds and molecules of reference structures."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import find_mic
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray
from torch import Tensor

from stablemd.data.frames import Frames
from stablemd.errors import DataError, SystemDefinitionError
from stablemd.system import System

logger = logging.getLogger(__name__)

BOND_TOLERANCE = 1.2
"""Longest bond in units of the sum of both covalent radii."""

_STRETCH = 1.25  # a bond counts as present in a frame up to this factor over the tolerance
_PRESENT_FRACTION = 0.95  # ... and must be so in this fraction of the frames
_SEARCHED_FRAMES = 20  # frames in which candidates are looked for


def find_bonds(
    numbers: Tensor,
    positions: Tensor,
    *,
    cell: Tensor | None = None,
    pbc: Tensor | None = None,
    tolerance: float = BOND_TOLERANCE,
) -> tuple[Tensor, Tensor]:
    """Find the bonds that persist over all reference structures.

    Two atoms are bonded when the median of their distance over the structures is below
    ``tolerance`` times the sum of their covalent radii, and the distance stays within 1.25 times
    that in at least 95 % of them: a hot, stretched structure breaks no bond, a passing contact
    makes none.

    Args:
        numbers: atomic numbers, (N,).
        positions: Å, (n, N, 3).
        cell: cell vectors as rows in Å, (n, 3, 3); distances are then to the nearest image.
        pbc: periodic directions, (3,).
        tolerance: longest bond in units of the sum of covalent radii.

    Returns:
        Bonds (B, 2) int64 with i < j, sorted, and their mean lengths (B,) float64 in Å.

    Raises:
        DataError: the tolerance is out of range.

    Source: covalent radii of B. Cordero et al., Dalton Trans. 2008, 2832, as in ASE.
    """
    if not 1.0 <= tolerance <= 2.0:
        raise DataError(f"bond tolerance is {tolerance}; give a factor within 1.0..2.0")
    z = numbers.cpu().numpy()
    x = positions.detach().cpu().double().numpy()
    boxes = None if cell is None else cell.cpu().double().numpy()
    periodic = None if pbc is None else pbc.cpu().numpy()
    pairs = _candidates(z, x, boxes, periodic, tolerance * _STRETCH)
    distances = _distances(x, pairs, boxes, periodic)
    reach = tolerance * covalent_radii[z[pairs]].sum(axis=1)
    bonded = (np.median(distances, axis=0) < reach) & (
        (distances < _STRETCH * reach).mean(axis=0) >= _PRESENT_FRACTION
    )
    lengths = distances[:, bonded].mean(axis=0)
    return torch.from_numpy(pairs[bonded]), torch.from_numpy(lengths)


def system_from_frames(
    frames: Frames,
    *,
    bonds: Sequence[Sequence[int]] | Tensor | None = None,
    bond_tolerance: float = BOND_TOLERANCE,
    masses: object = None,
) -> System:
    """Define a system from reference structures: atoms, cell, bonds and molecules.

    Args:
        frames: reference structures.
        bonds: the user's own pairs of atom indices, counted from 0, in place of those found;
            an empty list for none.
        bond_tolerance: as in :func:`find_bonds`.
        masses: amu (N,); standard atomic weights by default.

    Raises:
        SystemDefinitionError: a given bond is out of range, joins an atom to itself, or is
            given twice.
    """
    if bonds is None:
        pairs, lengths = find_bonds(
            frames.numbers,
            frames.positions,
            cell=frames.cell,
            pbc=frames.pbc,
            tolerance=bond_tolerance,
        )
    else:
        pairs, lengths = _given_bonds(bonds, frames)
    system = System.create(
        frames.numbers,
        masses=masses,
        cell=_constant_cell(frames),
        pbc=None if frames.pbc is None else frames.pbc.numpy(),
        bonds=pairs.numpy(),
        bond_lengths=lengths.numpy(),
    )
    _warn_of_unbonded(system, frames.source)
    return system


def _candidates(
    z: NDArray[np.int64],
    x: NDArray[np.float64],
    cell: NDArray[np.float64] | None,
    pbc: NDArray[np.bool_] | None,
    tolerance: float,
) -> NDArray[np.int64]:
    """Pairs i < j within reach in any of a few structures spread over all, (P, 2)."""
    reach = tolerance * covalent_radii[z]
    found: set[tuple[int, int]] = set()
    for frame in np.unique(np.linspace(0, len(x) - 1, _SEARCHED_FRAMES).astype(int)):
        atoms = Atoms(
            numbers=z, positions=x[frame], cell=None if cell is None else cell[frame], pbc=pbc
        )
        i, j = neighbor_list("ij", atoms, reach)
        found |= {(int(a), int(b)) for a, b in zip(i, j, strict=True) if a < b}
    return np.array(sorted(found), dtype=np.int64).reshape(-1, 2)


def _distances(
    x: NDArray[np.float64],
    pairs: NDArray[np.int64],
    cell: NDArray[np.float64] | None,
    pbc: NDArray[np.bool_] | None,
) -> NDArray[np.float64]:
    """Distances (n, P) of the pairs, to the nearest image where there is a cell."""
    vectors = x[:, pairs[:, 1]] - x[:, pairs[:, 0]]
    if cell is None or pbc is None or not pbc.any() or not len(pairs):
        return np.linalg.norm(vectors, axis=-1)
    if (cell == cell[0]).all():
        return find_mic(vectors.reshape(-1, 3), cell[0], pbc)[1].reshape(vectors.shape[:2])
    return np.stack([find_mic(v, h, pbc)[1] for v, h in zip(vectors, cell, strict=True)])


def _given_bonds(bonds: Sequence[Sequence[int]] | Tensor, frames: Frames) -> tuple[Tensor, Tensor]:
    given = np.asarray(bonds)
    if given.size == 0:
        return torch.zeros((0, 2), dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
    if given.ndim != 2 or given.shape[1] != 2 or given.dtype.kind not in "iu":
        raise SystemDefinitionError(
            f"bonds must be pairs of atom indices (B, 2), got shape {given.shape} of {given.dtype}"
        )
    pairs = np.sort(given.astype(np.int64), axis=1)
    for i, j in pairs.tolist():
        if i < 0 or j >= frames.n_atoms or i == j:
            raise SystemDefinitionError(
                f"bond ({i}, {j}) must join two different atoms within 0..{frames.n_atoms - 1} "
                f"of {frames.source}; indices count from 0"
            )
    unique, counts = np.unique(pairs, axis=0, return_counts=True)
    if (counts > 1).any():
        twice = unique[counts > 1].tolist()
        raise SystemDefinitionError(f"bonds {twice} are given more than once; give each once")
    boxes = None if frames.cell is None else frames.cell.numpy()
    pbc = None if frames.pbc is None else frames.pbc.numpy()
    lengths = _distances(frames.positions.numpy(), unique, boxes, pbc).mean(axis=0)
    z = frames.numbers.numpy()
    for (i, j), length, radii in zip(
        unique.tolist(), lengths, covalent_radii[z[unique]].sum(axis=1), strict=True
    ):
        if length > 1.6 * radii:
            logger.warning(
                "%s: the given bond %s%d-%s%d is %.2f Å long on average, far over the sum of "
                "covalent radii, %.2f Å; check the indices, which count from 0",
                frames.source,
                chemical_symbols[z[i]],
                i,
                chemical_symbols[z[j]],
                j,
                length,
                radii,
            )
    return torch.from_numpy(unique), torch.from_numpy(lengths)


def _constant_cell(frames: Frames) -> NDArray[np.float64] | None:
    if frames.cell is None:
        return None
    cell = frames.cell.numpy()
    spread = float(np.abs(cell - cell[0]).max())
    if spread > 1e-6:
        logger.warning(
            "%s: the cell differs between frames by up to %.3g Å; that of the system is the cell "
            "of frame 0, and each simulation starts with the cell of its structure",
            frames.source,
            spread,
        )
    return np.asarray(cell[0])


def _warn_of_unbonded(system: System, source: str) -> None:
    bonded = torch.zeros(system.n_atoms, dtype=torch.bool)
    bonded[system.bonds.flatten()] = True
    if bool(bonded.any()) and not bool(bonded.all()):
        atoms = torch.nonzero(~bonded).flatten().tolist()
        names = [f"{chemical_symbols[int(system.numbers[a])]}{a}" for a in atoms[:5]]
        logger.warning(
            "%s: %d of %d atoms have no bond (%s%s); unless they are ions or noble gases, raise "
            "bond_tolerance or give the bonds yourself",
            source,
            len(atoms),
            system.n_atoms,
            ", ".join(names),
            ", ..." if len(atoms) > 5 else "",
        )
