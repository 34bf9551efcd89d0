"""Sums of potentials: ``model + ZBL()``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from stablemd.errors import PotentialError
from stablemd.potentials.base import Potential, SamplingForm
from stablemd.potentials.batch import Batch
from stablemd.system import System


class SumPotential(Potential):
    """The sum of potentials; ``a + b`` makes one.

    Each term keeps its own precision, trainable or frozen parameters, and sampling form.
    Constants of the energy go to the first term.

    Args:
        terms: two or more potentials; sums are taken apart.

    Raises:
        PotentialError: fewer than two terms.
    """

    def __init__(self, terms: Sequence[Potential]) -> None:
        super().__init__()
        flat: list[Potential] = []
        for term in terms:
            flat.extend(term.terms if isinstance(term, SumPotential) else [term])
        if len(flat) < 2:
            raise PotentialError(f"a sum needs two potentials or more, and {len(flat)} was given")
        self._terms = nn.ModuleList(flat)
        self.cutoff = max(term.cutoff for term in flat)
        self.has_local_energies = all(term.has_local_energies for term in flat)
        self.is_transferable = all(term.is_transferable for term in flat)
        self.hyperparameters = {}

    @property
    def terms(self) -> list[Potential]:
        """The potentials that are added, in order."""
        return [cast(Potential, term) for term in self._terms]

    @property
    def position_dtype(self) -> torch.dtype:
        """The highest precision that a term asks for."""
        wide = any(term.position_dtype == torch.float64 for term in self.terms)
        return torch.float64 if wide else self.terms[0].position_dtype

    def local_energies(self, batch: Batch) -> Tensor:
        """Atomic energies in eV, (n_atoms_total,), with graph."""
        self.require_local_energies()
        first, *others = (term.local_energies(_for(term, batch)) for term in self.terms)
        for energies in others:
            first = first + energies
        return first

    def batch_energy(self, batch: Batch) -> Tensor:
        """Total energy of each structure in eV, (n_structures,) float64, with graph."""
        first, *others = (term.batch_energy(_for(term, batch)) for term in self.terms)
        for energies in others:
            first = first + energies
        return first

    def set_energy_scale(self, scale: float, shifts: dict[int, float]) -> None:
        """Set the first term's energy scale (eV) and constants (eV)."""
        self.terms[0].set_energy_scale(scale, shifts)

    def shift_energies(self, shift: float) -> None:
        """Add a constant (eV) to the energy of every atom, in the first term."""
        self.terms[0].shift_energies(shift)

    def for_sampling(self, system: System, reference: Tensor | None = None) -> SamplingForm:
        """The sum of the terms' own sampling forms."""
        return SumSampling([term.for_sampling(system, reference) for term in self.terms])


class SumSampling(SamplingForm):
    """The sum of sampling forms.

    Args:
        forms: of the terms.
    """

    def __init__(self, forms: Sequence[SamplingForm]) -> None:
        self._forms = list(forms)
        self.replica_independent = all(form.replica_independent for form in forms)
        self.holds_gil = any(form.holds_gil for form in forms)

    def block_size(self, n_replicas: int) -> int | None:
        sizes = [form.block_size(n_replicas) for form in self._forms]
        return None if None in sizes else max(size for size in sizes if size is not None)

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        energies, forces = self._forms[0](positions, cells)
        for form in self._forms[1:]:
            more = form(positions, cells)
            energies, forces = energies + more[0], forces + more[1]
        return energies, forces

    def with_stress(self, positions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        energies, forces, stress = self._forms[0].with_stress(positions, cells)
        for form in self._forms[1:]:
            more = form.with_stress(positions, cells)
            energies, forces, stress = energies + more[0], forces + more[1], stress + more[2]
        return energies, forces, stress

    def energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        first, *others = (form.energies(positions, cells) for form in self._forms)
        return sum(others, start=first)

    def atomic_energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        first, *others = (form.atomic_energies(positions, cells) for form in self._forms)
        return sum(others, start=first)

    def for_thread(self) -> SamplingForm:
        """The forms of another thread."""
        return SumSampling([form.for_thread() for form in self._forms])


def _for(term: Potential, batch: Batch) -> Batch:
    dtype = term.position_dtype
    cells = None if batch.cells is None else batch.cells.to(dtype)
    return replace(batch, positions=batch.positions.to(dtype), cells=cells)
