"""What is simulated: atoms, masses, cell, bonds and molecules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from ase.data import atomic_masses, atomic_numbers, chemical_symbols
from torch import Tensor

from stablemd.errors import SystemDefinitionError


@dataclass(frozen=True)
class System:
    """The constant part of a simulation, shared by all replicas.

    Attributes:
        numbers: atomic numbers, (N,) int64.
        masses: atomic masses in amu, (N,) float64.
        cell: cell vectors as rows in Å, (3, 3) float64; zeros where there is none.
        pbc: periodic directions, (3,) bool.
        bonds: pairs of bonded atoms, i < j, (B, 2) int64.
        bond_lengths: mean length of each bond over the reference structures
            in Å, (B,) float64.
        molecule_ids: index of the molecule of every atom, (N,) int64.
    """

    numbers: Tensor
    masses: Tensor
    cell: Tensor
    pbc: Tensor
    bonds: Tensor
    bond_lengths: Tensor
    molecule_ids: Tensor

    @classmethod
    def create(
        cls,
        numbers: object,
        *,
        masses: object = None,
        cell: object = None,
        pbc: object = None,
        bonds: object = None,
        bond_lengths: object = None,
        molecule_ids: object = None,
    ) -> System:
        """Build a system from plain arrays, filling what is not given.

        Args:
            numbers: atomic numbers (N,) or chemical symbols.
            masses: amu (N,); standard atomic weights by default.
            cell: (3, 3) rows in Å; no cell by default.
            pbc: one bool or three; non-periodic by default.
            bonds: (B, 2) indices; none by default.
            bond_lengths: (B,) Å; required with ``bonds``.
            molecule_ids: (N,); connected components of the bonds by default.

        Raises:
            SystemDefinitionError: shapes or indices do not fit together.
        """
        z = _atomic_numbers(numbers)
        _check_numbers(z)
        n = len(z)
        m = atomic_masses[z] if masses is None else np.asarray(masses, dtype=np.float64)
        h = np.zeros((3, 3)) if cell is None else np.asarray(cell, dtype=np.float64)
        periodic = np.broadcast_to(np.asarray(False if pbc is None else pbc, dtype=bool), (3,))
        pairs = np.asarray([] if bonds is None else bonds, dtype=np.int64).reshape(-1, 2)
        _check_bonds(n, pairs)
        pairs = np.sort(pairs, axis=1)
        lengths = np.asarray([] if bond_lengths is None else bond_lengths, dtype=np.float64)
        ids = (
            _connected_components(n, pairs)
            if molecule_ids is None
            else np.asarray(molecule_ids, dtype=np.int64)
        )
        _check(z, m, h, periodic, pairs, lengths, ids)
        return cls(
            numbers=torch.from_numpy(z.copy()),
            masses=torch.from_numpy(np.array(m, dtype=np.float64)),
            cell=torch.from_numpy(h.copy()),
            pbc=torch.from_numpy(periodic.copy()),
            bonds=torch.from_numpy(pairs.copy()),
            bond_lengths=torch.from_numpy(lengths.copy()),
            molecule_ids=torch.from_numpy(ids.copy()),
        )

    @property
    def n_atoms(self) -> int:
        return int(self.numbers.shape[0])

    @property
    def device(self) -> torch.device:
        return self.numbers.device

    @cached_property
    def is_periodic(self) -> bool:
        return bool(self.pbc.any())

    @property
    def formula(self) -> str:
        """Chemical formula in Hill order, for messages and reports."""
        from ase.formula import Formula

        symbols = [chemical_symbols[int(z)] for z in self.numbers]
        return f"{Formula.from_list(symbols):hill}"

    def bond_name(self, index: int) -> str:
        """Name of a bond with element symbols and atom indices, e.g. ``C0-H5``."""
        i, j = (int(a) for a in self.bonds[index])
        zi, zj = int(self.numbers[i]), int(self.numbers[j])
        return f"{chemical_symbols[zi]}{i}-{chemical_symbols[zj]}{j}"

    def to(self, device: torch.device | str) -> System:
        """The same system with its tensors on another device."""
        return replace(
            self,
            **{name: getattr(self, name).to(device) for name in self.__dataclass_fields__},
        )


def _atomic_numbers(numbers: object) -> np.ndarray:
    if isinstance(numbers, Tensor):
        numbers = numbers.cpu().numpy()
    values = list(numbers)  # type: ignore[call-overload]
    if values and isinstance(values[0], str):
        unknown = sorted({s for s in values if s not in atomic_numbers})
        if unknown:
            raise SystemDefinitionError(
                f"unknown chemical symbols {unknown}; give symbols of the periodic table "
                "or atomic numbers"
            )
        values = [atomic_numbers[s] for s in values]
    return np.asarray(values, dtype=np.int64)


def _connected_components(n: int, bonds: np.ndarray) -> np.ndarray:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(bonds)), (bonds[:, 0], bonds[:, 1])), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _check_numbers(z: np.ndarray) -> None:
    if len(z) == 0:
        raise SystemDefinitionError("a system needs at least one atom; none was given")
    if z.ndim != 1 or z.min() < 1 or z.max() > 118:
        raise SystemDefinitionError(f"atomic numbers must be (N,) within 1..118, got {z}")


def _check_bonds(n: int, bonds: np.ndarray) -> None:
    if len(bonds) and (bonds.min() < 0 or bonds.max() >= n or np.any(bonds[:, 0] == bonds[:, 1])):
        raise SystemDefinitionError(
            f"bonds must join two different atoms within 0..{n - 1}, got {bonds.tolist()}"
        )


def _check(
    z: np.ndarray,
    m: np.ndarray,
    cell: np.ndarray,
    pbc: np.ndarray,
    bonds: np.ndarray,
    lengths: np.ndarray,
    ids: np.ndarray,
) -> None:
    n = len(z)
    if m.shape != (n,) or not np.all(np.isfinite(m)) or m.min() <= 0:
        raise SystemDefinitionError(
            f"masses must be {n} positive numbers in amu, got shape {m.shape}"
        )
    if cell.shape != (3, 3):
        raise SystemDefinitionError(f"cell must be (3, 3) with rows in Å, got shape {cell.shape}")
    if pbc.any() and abs(np.linalg.det(cell)) < 1e-6:
        raise SystemDefinitionError(
            f"pbc is {pbc.tolist()} but the cell has no volume; give all three cell vectors"
        )
    if lengths.shape != (len(bonds),):
        raise SystemDefinitionError(
            f"{len(bonds)} bonds need as many bond_lengths (Å), got shape {lengths.shape}"
        )
    if ids.shape != (n,):
        raise SystemDefinitionError(f"molecule_ids must have shape ({n},), got {ids.shape}")
