"""Bonded coordinates: bonds, angles and dihedrals of the bond graph, by kind of atoms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import torch
from ase.data import chemical_symbols
from torch import Tensor

from stablemd.geometry.lattice import rounded_image
from stablemd.system import System


def find_angles(system: System) -> Tensor:
    """All angles i-j-k of two bonds at atom j, i < k, (A, 3) int64."""
    around = _neighbours(system)
    rows = [(i, j, k) for j in sorted(around) for i, k in combinations(around[j], 2)]
    return torch.tensor(rows, dtype=torch.int64, device=system.device).reshape(-1, 3)


def find_dihedrals(system: System) -> Tensor:
    """All dihedrals i-j-k-l around every bond j-k, (T, 4) int64; i and l differ."""
    around = _neighbours(system)
    rows = [
        (i, j, k, m)
        for j, k in system.bonds.tolist()
        for i in around[j]
        for m in around[k]
        if i != k and m != j and i != m
    ]
    return torch.tensor(rows, dtype=torch.int64, device=system.device).reshape(-1, 4)


def kind_names(system: System, atoms: Tensor) -> list[str]:
    """Element symbols of every row of atoms (n, k), e.g. ``H-O-H``, read so that it sorts first."""
    symbols = [chemical_symbols[int(z)] for z in system.numbers]
    rows = [[symbols[a] for a in row] for row in atoms.tolist()]
    return ["-".join(min(row, row[::-1])) for row in rows]


def of_kind(system: System, atoms: Tensor, elements: Sequence[str] | None) -> Tensor:
    """The rows of atoms (n, k) with these elements, read in either direction."""
    if elements is None:
        return atoms
    wanted = "-".join(min(list(elements), list(elements)[::-1]))
    keep = [name == wanted for name in kind_names(system, atoms)]
    return atoms[torch.tensor(keep, dtype=torch.bool, device=atoms.device)]


def angle_values(positions: Tensor, atoms: Tensor, cells: Tensor | None, pbc: Tensor) -> Tensor:
    """Angles (n, A) in radians, in [0, π]; atoms (A, 3) with the vertex in the middle."""
    i, j, k = (positions.index_select(1, a) for a in atoms.T)
    one, other = rounded_image(i - j, cells, pbc), rounded_image(k - j, cells, pbc)
    # The arc tangent keeps its precision at 0 and π, where the arc cosine loses it.
    sine = torch.linalg.vector_norm(torch.linalg.cross(one, other), dim=-1)
    return torch.atan2(sine, (one * other).sum(dim=-1))


def dihedral_values(positions: Tensor, atoms: Tensor, cells: Tensor | None, pbc: Tensor) -> Tensor:
    """Dihedrals (n, T) in radians, in (-π, π], 0 for cis (IUPAC sign); atoms (T, 4)."""
    i, j, k, m = (positions.index_select(1, a) for a in atoms.T)
    a, b, c = (rounded_image(v, cells, pbc) for v in (j - i, k - j, m - k))
    ab, bc = torch.linalg.cross(a, b), torch.linalg.cross(b, c)
    sine = (a * bc).sum(dim=-1) * torch.linalg.vector_norm(b, dim=-1)
    return torch.atan2(sine, (ab * bc).sum(dim=-1))


def _neighbours(system: System) -> dict[int, list[int]]:
    around: dict[int, list[int]] = defaultdict(list)
    for i, j in system.bonds.tolist():
        around[i].append(j)
        around[j].append(i)
    return {atom: sorted(others) for atom, others in around.items()}
