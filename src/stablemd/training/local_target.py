"""Local observables of a training: one average per kind of neighbourhood, with one loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.estimators import Neighbourhoods, make_loss, make_neighbourhoods
from stablemd.observables.base import Observable
from stablemd.observables.settings import ObservableSettings
from stablemd.system import System


class LocalTarget:
    """Observables of molecules or bonds that supervise a training with the localized estimator.

    Every component of such an observable belongs to some atoms; it is counted to the
    neighbourhood that holds them all.  Neighbourhoods of one kind have one average, and so
    has the reference.

    Args:
        system: the atoms.
        reference: structures (n, N, 3) in Å whose averages are the targets.
        settings: the observables, each with its loss and weight.
        neighbourhoods: ``"molecule"`` or ``"bond"``.
        cells: the structures' cells (n, 3, 3) in Å; the system's cell by default.

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
    ) -> None:
        self.neighbourhoods = make_neighbourhoods(neighbourhoods, system)
        reference = reference.to(system.device)
        boxes = None if cells is None else cells.to(system.device)
        around = self.neighbourhoods(reference[:1], None if boxes is None else boxes[:1])
        self._around = around
        self._observables: list[Observable] = []
        self._order: list[Tensor] = []
        for choice in settings:
            observable = choice.build(system, reference, boxes)
            self._observables.append(observable)
            self._order.append(_components(observable, around, neighbourhoods))
        self._widths = [order.shape[1] for order in self._order]
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
            observable.values(positions, cells).double()[:, order]
            for observable, order in zip(self._observables, self._order, strict=True)
        ]
        return torch.cat(parts, dim=2).flatten(1)

    def covers(self, values: Tensor) -> Tensor:
        """Whether frames with values (n, K·D) are of a kind that the reference knows, (n,) bool."""
        return values @ self._unvisited == 0.0

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


def _components(observable: Observable, around: Neighbourhoods, name: str) -> Tensor:
    """Which components of an observable belong to each neighbourhood, (K, d)."""
    atoms = observable.component_atoms
    if atoms is None:
        raise ConfigError(
            f"stable.estimator: localized needs observables whose components belong to single "
            f"bonds, such as bond_lengths (without by_elements) or bond_excess; {observable.key} "
            "is an average over the whole system, so take it with estimator: boltzmann"
        )
    members = [frozenset(a for a in row if a >= 0) for row in around.atoms.tolist()]
    of_atom: dict[int, list[int]] = {}
    for k, group in enumerate(members):
        for atom in group:
            of_atom.setdefault(atom, []).append(k)
    found: list[list[int]] = [[] for _ in members]
    for component, row in enumerate(atoms.tolist()):
        fitting = [k for k in of_atom.get(row[0], []) if set(row) <= members[k]]
        if len(fitting) != 1:
            raise ConfigError(
                f"stable.neighbourhoods: {name}: component {component} of {observable.key} (atoms "
                f"{row}) lies in {len(fitting)} neighbourhoods; expected one for each, so choose "
                "molecule or bond"
            )
        found[fitting[0]].append(component)
    sizes = {len(components) for components in found}
    if len(sizes) != 1:
        raise ConfigError(
            f"stable.neighbourhoods: {name}: neighbourhoods hold {sorted(sizes)} components of "
            f"{observable.key}; expected the same number in each, so choose bond"
        )
    return torch.tensor(found, device=atoms.device)
