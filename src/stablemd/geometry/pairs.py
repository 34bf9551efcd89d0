"""Pairs of atoms chosen by element and by molecule, and their distances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.geometry.lattice import rounded_image
from stablemd.system import System

MAX_ELEMENTS = 2**20
"""Distances worked on at a time, which bounds the memory (8 MB per array in float64)."""


@dataclass(frozen=True)
class PairSelection:
    """Unordered pairs of different atoms.

    Attributes:
        first: index of the one atom, (P,) int64.
        second: index of the other atom, (P,) int64.
        name: e.g. ``"O-H"``, or ``"all"``.
        n_possible: pairs of these elements whether or not molecules restrict them.
    """

    first: Tensor
    second: Tensor
    name: str
    n_possible: int

    def __len__(self) -> int:
        return int(self.first.shape[0])

    @classmethod
    def of(
        cls,
        system: System,
        elements: Sequence[str] | None = None,
        *,
        intramolecular: bool = True,
        intermolecular: bool = True,
    ) -> PairSelection:
        """Select pairs.

        Args:
            system: numbers and molecule ids.
            elements: the two chemical symbols, in any order; None for all pairs.
            intramolecular: whether pairs within a molecule count.
            intermolecular: whether pairs of different molecules count.

        Raises:
            ConfigError: not two known symbols.
            SystemDefinitionError: no pair is left.
        """
        n, device = system.n_atoms, system.device
        first, second = torch.triu_indices(n, n, offset=1, device=device)
        name = "all"
        if elements is not None:
            one, other = element_numbers(elements, 2)
            z1, z2 = system.numbers[first], system.numbers[second]
            keep = ((z1 == one) & (z2 == other)) | ((z1 == other) & (z2 == one))
            first, second = first[keep], second[keep]
            name = pair_type_name(one, other)
        n_possible = len(first)
        same = system.molecule_ids[first] == system.molecule_ids[second]
        keep = (same & intramolecular) | (~same & intermolecular)
        first, second = first[keep], second[keep]
        if not len(first):
            which = "" if intramolecular and intermolecular else (
                " between different molecules" if intermolecular else " within a molecule"
            )  # fmt: skip
            raise SystemDefinitionError(
                f"{system.formula} ({int(system.molecule_ids.unique().numel())} molecules) has no "
                f"pair {name}{which}; choose other elements, or give bonds or molecule ids"
            )
        return cls(first, second, name, n_possible)

    def distances(self, positions: Tensor, cells: Tensor | None, pbc: Tensor) -> Tensor:
        """Distances (n, P) in Å to the image that rounding finds; see ``rounded_image``.

        The gradient is zero where two atoms coincide.
        """
        vectors = positions.index_select(1, self.first) - positions.index_select(1, self.second)
        length: Tensor = torch.linalg.vector_norm(rounded_image(vectors, cells, pbc), dim=-1)
        return length

    def distance_chunks(
        self, positions: Tensor, cells: Tensor | None, pbc: Tensor, shifts: Tensor
    ) -> Iterator[Tensor]:
        """Distances to every image within reach, as pieces (n, p, S) that together hold all pairs.

        Args:
            positions: (n, N, 3) in Å.
            cells: (n, 3, 3) in Å, or None.
            pbc: (3,) bool.
            shifts: (S, 3) from ``image_shifts``.
        """
        size = max(1, MAX_ELEMENTS // max(1, len(positions) * len(shifts)))
        offsets = None if cells is None or len(shifts) == 1 else shifts @ cells
        for first, second in zip(self.first.split(size), self.second.split(size), strict=True):
            vectors = positions.index_select(1, first) - positions.index_select(1, second)
            vectors = rounded_image(vectors, cells, pbc)[:, :, None]
            if offsets is not None:
                vectors = vectors + offsets[:, None]
            yield torch.linalg.vector_norm(vectors, dim=-1)

    def describe(self, index: int, system: System) -> str:
        """Name of a pair with element symbols and atom indices, e.g. ``O0-H5``."""
        return "-".join(atom_name(system, int(atoms[index])) for atoms in (self.first, self.second))


def atom_name(system: System, atom: int) -> str:
    """Element symbol and index of an atom, e.g. ``O12``."""
    return f"{chemical_symbols[int(system.numbers[atom])]}{atom}"


def pair_type_name(one: int, other: int) -> str:
    """Name of a pair of atomic numbers, heavier first: ``O-H``."""
    high, low = max(one, other), min(one, other)
    return f"{chemical_symbols[high]}-{chemical_symbols[low]}"


def element_numbers(symbols: Sequence[str], count: int) -> list[int]:
    """Atomic numbers of exactly ``count`` chemical symbols.

    Raises:
        ConfigError: another number of symbols, or an unknown one.
    """
    unknown = [s for s in symbols if s not in atomic_numbers or s == "X"]
    if len(symbols) != count or unknown or isinstance(symbols, str):
        raise ConfigError(
            f"expected {count} chemical symbols like {['O', 'H', 'H', 'C'][:count]}, got "
            f"{symbols if isinstance(symbols, str) else list(symbols)}"
        )
    return [int(atomic_numbers[s]) for s in symbols]
