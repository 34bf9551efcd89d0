"""Local observables of a training: one average per kind of neighbourhood, with one loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.estimators import Neighbourhoods, make_loss, make_neighbourhoods
from stablemd.observables.base import Observable
from stablemd.observables.settings import ObservableSettings
from stablemd.system import System

AROUND_ATOMS = ("nearest", "within")
"""Neighbourhoods that have an atom in their middle, one for each atom."""


class LocalTarget:
    """Observables of molecules or bonds that supervise a training with the localized estimator.

    Every component of such an observable belongs to some atoms.  It is counted to the
    molecule or bond that holds them all, one by one; to every atom among them, as a mean
    over the components there, where neighbourhoods are atoms with those around; or to
    every given group that holds them all, as a mean.  Neighbourhoods of one kind have one
    average, and so has the reference.

    Args:
        system: the atoms.
        reference: structures (n, N, 3) in Å whose averages are the targets.
        settings: the observables, each with its loss and weight.
        neighbourhoods: ``"molecule"``, ``"bond"``, ``"nearest"``, ``"within"`` or ``"given"``.
        cells: the structures' cells (n, 3, 3) in Å; the system's cell by default.
        options: of the neighbourhoods, such as k of ``"nearest"``.

    Raises:
        ConfigError: an observable has no local components, or they do not share out
            evenly among the neighbourhoods.
        SystemDefinitionError: the system has no such neighbourhoods.
    """

    def __init__(
        self,
        system: System,
        reference: Tensor,
        settings: Sequence[ObservableSettings],
        neighbourhoods: str,
        cells: Tensor | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.neighbourhoods = make_neighbourhoods(neighbourhoods, system, **(options or {}))
        reference = reference.to(system.device)
        boxes = None if cells is None else cells.to(system.device)
        around = self.neighbourhoods(reference[:1], None if boxes is None else boxes[:1])
        self._around = around
        self._observables: list[Observable] = []
        self._shares: list[Tensor] = []
        for choice in settings:
            observable = choice.build(system, reference, boxes)
            self._observables.append(observable)
            self._shares.append(_shares(observable, around, neighbourhoods))
        self._widths = [shares.shape[1] for shares in self._shares]
        known = self.values(reference, boxes)
        self._unvisited = (known == 0.0).all(dim=0).double()
        targets = self._split(self._kind_means(known))
        self._losses = [
            make_loss(choice.loss, target) for choice, target in zip(settings, targets, strict=True)
        ]
        self._weights = [choice.weight for choice in settings]

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Local values of frames (n, N, 3) in Å, (n, K·D) float64, a neighbourhood at a time."""
        parts = [
            _gather(observable.values(positions, cells).double(), shares)
            for observable, shares in zip(self._observables, self._shares, strict=True)
        ]
        return torch.cat(parts, dim=2).flatten(1)

    def covers(self, values: Tensor) -> Tensor:
        """Whether neighbourhoods with values (n, K·D) are of a kind that the reference knows.

        Returns:
            (n, K) bool.
        """
        strange = (values * self._unvisited).unflatten(1, (len(self._around), -1))
        return (strange == 0.0).all(dim=2)

    def loss(self, mean: Tensor) -> Tensor:
        """Weighted sum of the losses on the averages of all kinds (n_kinds·D,)."""
        terms = [
            weight * loss(part)
            for weight, loss, part in zip(
                self._weights, self._losses, self._split(mean), strict=True
            )
        ]
        return torch.stack(terms).sum()

    def _split(self, mean: Tensor) -> list[Tensor]:
        """The part of each observable, kinds one after the other."""
        by_kind = mean.reshape(self._around.n_kinds, sum(self._widths))
        return [part.flatten() for part in by_kind.split(self._widths, dim=1)]

    def _kind_means(self, values: Tensor) -> Tensor:
        kind = self._around.kind
        local = values.mean(dim=0).reshape(len(self._around), -1)
        sums = local.new_zeros(self._around.n_kinds, local.shape[1]).index_add(0, kind, local)
        return (sums / kind.bincount()[:, None]).flatten()


def _gather(values: Tensor, shares: Tensor) -> Tensor:
    """The neighbourhoods' numbers (n, K, d) from components (n, D)."""
    n_neighbourhoods, width, _n_components = shares.shape
    local = values @ shares.flatten(0, 1).T
    # A share of nothing is nothing, also of a number that is not finite: that frame is left out.
    finite = torch.isfinite(values).all(dim=1)[:, None]
    local = torch.where(finite, local, torch.nan)
    return local.reshape(len(values), n_neighbourhoods, width)


def _shares(observable: Observable, around: Neighbourhoods, name: str) -> Tensor:
    """What each component counts in each neighbourhood's numbers, (K, d, D)."""
    atoms = observable.component_atoms
    if atoms is None:
        raise ConfigError(
            f"stable.estimator: localized needs observables whose components belong to single "
            "atoms or bonds, such as contact_excess, bond_excess or bond_lengths (without "
            f"by_elements); {observable.key} is an average over the whole system, so take it with "
            "estimator: boltzmann"
        )
    if name in AROUND_ATOMS:
        members = [frozenset([centre]) for centre in range(len(around))]
        return _means(_found(atoms, members, touching=True), len(atoms)).to(atoms.device)
    members = [frozenset(a for a in row if a >= 0) for row in around.atoms.tolist()]
    found = _found(atoms, members)
    if name == "given":
        empty = [sorted(group) for group, inside in zip(members, found, strict=True) if not inside]
        if empty:
            raise ConfigError(
                f"stable.neighbourhood_groups: the group {empty[0]} holds no component of "
                f"{observable.key}; expected groups that hold both atoms of a bond"
            )
        return _means(found, len(atoms)).to(atoms.device)
    counts = [0] * len(atoms)
    for component in (c for inside in found for c in inside):
        counts[component] += 1
    wrong = next((c for c, count in enumerate(counts) if count != 1), None)
    if wrong is not None:
        raise ConfigError(
            f"stable.neighbourhoods: {name}: component {wrong} of {observable.key} (atoms "
            f"{atoms[wrong].tolist()}) lies in {counts[wrong]} neighbourhoods; expected one for "
            "each, so choose molecule or bond"
        )
    sizes = {len(inside) for inside in found}
    if len(sizes) != 1:
        raise ConfigError(
            f"stable.neighbourhoods: {name}: neighbourhoods hold {sorted(sizes)} components of "
            f"{observable.key}; expected the same number in each, so choose bond"
        )
    one = torch.nn.functional.one_hot(torch.tensor(found), len(atoms))
    return one.to(atoms.device, torch.float64)


def _found(
    atoms: Tensor, members: Sequence[frozenset[int]], *, touching: bool = False
) -> list[list[int]]:
    """Components (D, m) whose atoms, all or (touching) one of them, are in each group."""
    of_atom: dict[int, list[int]] = {}
    for k, group in enumerate(members):
        for atom in group:
            of_atom.setdefault(atom, []).append(k)
    found: list[list[int]] = [[] for _ in members]
    for component, row in enumerate(atoms.tolist()):
        if touching:
            groups = {k for atom in row for k in of_atom.get(atom, [])}
        else:
            groups = {k for k in of_atom.get(row[0], []) if set(row) <= members[k]}
        for k in groups:
            found[k].append(component)
    return found


def _means(found: Sequence[Sequence[int]], n_components: int) -> Tensor:
    """Shares of a mean over the components of each group, (K, 1, D); zero where there is none."""
    shares = torch.zeros(len(found), 1, n_components, dtype=torch.float64)
    for k, inside in enumerate(found):
        shares[k, 0, list(inside)] = 1.0 / max(1, len(inside))
    return shares
