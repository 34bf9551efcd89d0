"""Neighbourhoods: the groups of atoms that the localized estimator looks at one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.geometry.lattice import cells_of, minimum_image
from stablemd.system import System

PAD = -1
"""Stands for "no atom" where neighbourhoods differ in size."""


@dataclass(frozen=True)
class Neighbourhoods:
    """K groups of atoms, which may overlap.

    Attributes:
        atoms: indices, (K, m), or (n, K, m) where they differ from frame to
            frame; shorter groups end with ``PAD``.
        kind: neighbourhoods of one kind are alike and are averaged together, (K,)
            int64 from 0 without gaps.  Different kinds are never pooled, since
            the difference of their averages would pass for a covariance.
    """

    atoms: Tensor
    kind: Tensor

    def __post_init__(self) -> None:
        shape = self.atoms.shape
        if self.atoms.ndim not in (2, 3) or self.kind.shape != shape[-2:-1]:
            raise SystemDefinitionError(
                "neighbourhoods need atoms (K, m) or (n, K, m) and kind (K,), got "
                f"{tuple(shape)} and {tuple(self.kind.shape)}"
            )

    def __len__(self) -> int:
        return int(self.kind.shape[0])

    @property
    def n_kinds(self) -> int:
        return int(self.kind.max()) + 1

    def select_frames(self, index: Tensor) -> Neighbourhoods:
        """Those of the frames at ``index``."""
        if self.atoms.ndim == 2:
            return self
        return Neighbourhoods(self.atoms[index], self.kind)

    def sum_atoms(self, per_atom: Tensor) -> Tensor:
        """Sum over the atoms of each neighbourhood: (n, N) -> (n, K)."""
        n = len(per_atom)
        padded = torch.cat([per_atom, per_atom.new_zeros(n, 1)], dim=1)
        return (
            padded.gather(1, self._index(n, per_atom.shape[1]).flatten(1))
            .reshape(n, *self.atoms.shape[-2:])
            .sum(dim=2)
        )

    def energy_changes(self, energies: Tensor, reference: Tensor) -> Tensor:
        """Changes of the energies of neighbourhoods, up to a constant per atom.

        What all atoms gain in the mean over the frames exerts no force, but would weigh
        neighbourhoods of unequal size against each other.

        Args:
            energies: of atoms at present, (n, N).
            reference: of the same frames as they were sampled, (n, N).

        Returns:
            (n, K).
        """
        change = energies - reference.to(energies)
        finite = change.isfinite()
        mean = change.where(finite, 0.0).sum() / finite.sum().clamp_min(1)
        return self.sum_atoms(change - mean)

    def spread_to_atoms(self, per_neighbourhood: Tensor, n_atoms: int) -> Tensor:
        """The adjoint: every atom collects from its neighbourhoods, (n, K) -> (n, N)."""
        n = len(per_neighbourhood)
        spread = per_neighbourhood[:, :, None].expand(n, *self.atoms.shape[-2:])
        out = per_neighbourhood.new_zeros(n, n_atoms + 1)
        out = out.scatter_add(1, self._index(n, n_atoms).flatten(1), spread.flatten(1))
        return out[:, :-1]

    def _index(self, n: int, n_atoms: int) -> Tensor:
        index = self.atoms.expand(n, *self.atoms.shape[-2:])
        return torch.where(index == PAD, n_atoms, index)


PAIRS_AT_A_TIME = 2_000_000
"""Distances that are held at once while neighbourhoods are found."""

NeighbourhoodRule = Callable[[Tensor, Tensor | None], Neighbourhoods]
"""From positions (n, N, 3) and cells (n, 3, 3) or None, in Å, to the frames' neighbourhoods."""


def by_molecule(system: System) -> NeighbourhoodRule:
    """Every molecule; molecules with the same sequence of elements are of one kind."""
    members = [
        torch.nonzero(system.molecule_ids == m).flatten() for m in system.molecule_ids.unique()
    ]
    kinds = _number(tuple(system.numbers[a].tolist()) for a in members)
    return _constant(Neighbourhoods(_padded(members), kinds.to(system.device)))


def by_bond(system: System) -> NeighbourhoodRule:
    """The two atoms of every bond; bonds at the same place of like molecules are of one kind.

    Raises:
        SystemDefinitionError: the system has no bonds.
    """
    if not len(system.bonds):
        raise SystemDefinitionError(
            f"neighbourhoods by bond need bonds, and {system.formula} has none; give bonds, or "
            "choose another rule"
        )
    role = atom_roles(system).tolist()
    kinds = _number((role[i], role[j]) for i, j in system.bonds.tolist())
    return _constant(Neighbourhoods(system.bonds, kinds.to(system.device)))


def given(
    system: System, *, groups: Sequence[Sequence[int]], kinds: Sequence[int] | None = None
) -> NeighbourhoodRule:
    """Groups of atom indices; by default each is of its own kind.

    Raises:
        SystemDefinitionError: an index is outside the system, or a group is empty.
    """
    for group in groups:
        if not len(group) or min(group) < 0 or max(group) >= system.n_atoms:
            raise SystemDefinitionError(
                f"a neighbourhood needs atoms within 0..{system.n_atoms - 1}, got {list(group)}"
            )
    labels = list(range(len(groups))) if kinds is None else list(kinds)
    members = [torch.tensor(list(group), device=system.device) for group in groups]
    return _constant(Neighbourhoods(_padded(members), _number(iter(labels)).to(system.device)))


def nearest(system: System, *, k: int) -> NeighbourhoodRule:
    """Every atom with its ``k`` nearest atoms, which may change from frame to frame.

    Raises:
        ConfigError: ``k`` is not between 1 and N - 1.
    """
    if not 1 <= k < system.n_atoms:
        raise ConfigError(
            f"k nearest atoms must be between 1 and {system.n_atoms - 1} here, got {k}"
        )
    kinds = atom_roles(system)

    def rule(positions: Tensor, cells: Tensor | None = None) -> Neighbourhoods:
        order = [
            _distances(system, x, boxes).topk(k + 1, largest=False).indices
            for x, boxes in _frame_chunks(positions, cells)
        ]
        return Neighbourhoods(torch.cat(order), kinds)

    return rule


def within(system: System, *, radius: float) -> NeighbourhoodRule:
    """Every atom with all atoms closer than ``radius`` in Å.

    Raises:
        ConfigError: ``radius`` is not positive.
    """
    if not radius > 0.0:
        raise ConfigError(f"the radius of a neighbourhood must be positive (Å), got {radius}")
    kinds = atom_roles(system)

    def rule(positions: Tensor, cells: Tensor | None = None) -> Neighbourhoods:
        found = []
        for x, boxes in _frame_chunks(positions, cells):
            distances, order = _distances(system, x, boxes).sort(dim=-1)
            near = distances < radius
            size = max(1, int(near.sum(dim=-1).max())) if near.numel() else 1
            found.append(torch.where(near, order, PAD)[..., :size])
        size = max(part.shape[-1] for part in found)
        wide = [
            torch.nn.functional.pad(part, (0, size - part.shape[-1]), value=PAD) for part in found
        ]
        return Neighbourhoods(torch.cat(wide), kinds)

    return rule


NEIGHBOURHOODS: dict[str, Callable[..., NeighbourhoodRule]] = {
    "molecule": by_molecule,
    "bond": by_bond,
    "nearest": nearest,
    "within": within,
    "given": given,
}
"""Every rule by its name; each is built as ``factory(system, **options)``."""


def make_neighbourhoods(name: str, system: System, **options: Any) -> NeighbourhoodRule:
    """The rule of that name.

    Raises:
        ConfigError: unknown name or option, or a missing one.
    """
    if name not in NEIGHBOURHOODS:
        raise ConfigError(f"unknown neighbourhoods {name!r}; known are {sorted(NEIGHBOURHOODS)}")
    factory = NEIGHBOURHOODS[name]
    parameters = [
        p for p in inspect.signature(factory).parameters.values() if p.kind is p.KEYWORD_ONLY
    ]
    unknown = sorted(set(options) - {p.name for p in parameters})
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in options]
    if unknown or missing:
        raise ConfigError(
            f"neighbourhoods {name!r} take the options {[p.name for p in parameters]}; "
            f"unknown: {unknown}, missing: {missing}"
        )
    return factory(system, **options)


def atom_roles(system: System) -> Tensor:
    """Number of each atom's role, (N,): the same place in molecules of the same elements."""
    labels: list[tuple[object, ...]] = [()] * system.n_atoms
    for molecule in system.molecule_ids.unique():
        atoms = torch.nonzero(system.molecule_ids == molecule).flatten().tolist()
        elements = tuple(system.numbers[atoms].tolist())
        for place, atom in enumerate(atoms):
            labels[atom] = (elements, place)
    return _number(iter(labels)).to(system.device)


def _frame_chunks(
    positions: Tensor, cells: Tensor | None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Frames in parts, which bound the memory of their distance matrices."""
    size = max(1, PAIRS_AT_A_TIME // positions.shape[1] ** 2)
    for start in range(0, max(1, len(positions)), size):
        part = slice(start, start + size)
        yield positions[part], cells if cells is None or len(cells) == 1 else cells[part]


def _distances(system: System, positions: Tensor, cells: Tensor | None) -> Tensor:
    """(n, N, N) to the nearest images in Å; an atom is nearest to itself."""
    n, n_atoms = positions.shape[:2]
    x = positions.double()
    if system.is_periodic:
        vectors = (x[:, :, None] - x[:, None]).flatten(1, 2)
        boxes = cells_of(system.cell.to(x), n, None if cells is None else cells.to(x))
        distances = minimum_image(vectors, boxes, system.pbc).norm(dim=-1)
        distances = distances.reshape(n, n_atoms, n_atoms)
    else:
        distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    diagonal = torch.arange(n_atoms, device=x.device)
    distances[:, diagonal, diagonal] = -1.0
    return distances


def _constant(neighbourhoods: Neighbourhoods) -> NeighbourhoodRule:
    def rule(positions: Tensor, cells: Tensor | None = None) -> Neighbourhoods:
        return neighbourhoods

    return rule


def _padded(members: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(members), batch_first=True, padding_value=PAD)


def _number(labels: Any) -> Tensor:
    """Equal labels get equal numbers, from 0 in order of first appearance."""
    numbers: dict[object, int] = {}
    return torch.tensor([numbers.setdefault(label, len(numbers)) for label in labels])
