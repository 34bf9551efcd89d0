"""S(q): structure factors of a periodic system."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.geometry import frame_cells, reciprocal_rows
from stablemd.geometry.pairs import MAX_ELEMENTS, element_numbers, pair_type_name
from stablemd.observables.base import Observable, only_finite_frames
from stablemd.system import System


class StructureFactor(Observable):
    """The (partial) structure factor S(q) on wave vectors that fit the cell.

    ``S_AB(q) = Re Σ_{a,b} exp(i q·(x_a - x_b)) / sqrt(N_A N_B)``, self terms
    included (Ashcroft–Langreth), averaged over the directions of q.  Only
    wave vectors of the reciprocal lattice are used, which is exact for a
    periodic system; they are chosen once from the system's cell and deform
    with it, so that S(q) stays differentiable.  Bins without a wave vector are
    left out of the axis.

    Args:
        system: periodic in all directions.
        pair: the two chemical symbols; None for all atoms with equal weight.
        q_max: upper end in 1/Å.
        bin_width: in 1/Å.
        max_vectors: wave vectors per bin at most, evenly chosen from those there
            are (±q count once), which bounds the cost.

    Raises:
        SystemDefinitionError: not periodic in all directions, or an element is absent.
        ConfigError: no wave vector is in range.

    Reference: Hansen and McDonald, Theory of Simple Liquids (2013), section 4.1;
    Ashcroft and Langreth, Phys. Rev. 156, 685 (1967).
    """

    name = "structure_factor"
    axis_label = "q (1/Å)"

    def __init__(
        self,
        system: System,
        *,
        pair: Sequence[str] | None = None,
        q_max: float = 6.0,
        bin_width: float = 0.1,
        max_vectors: int = 24,
    ) -> None:
        if not bool(system.pbc.all()):
            raise SystemDefinitionError(
                f"S(q) needs a periodic system, but {system.formula} has pbc = "
                f"{system.pbc.tolist()}; give one that is periodic in three directions"
            )
        if not (0.0 < bin_width < q_max < float("inf") and max_vectors >= 1):
            raise ConfigError(
                "S(q) needs 0 < bin_width < q_max in 1/Å and max_vectors >= 1, got bin_width = "
                f"{bin_width}, q_max = {q_max} and max_vectors = {max_vectors}"
            )
        self._system = system
        self._one, self._other = _elements(system, pair)
        triples, lengths, bins = _wave_vectors(system, q_max, bin_width, max_vectors)
        if not len(triples):
            raise ConfigError(
                f"no wave vector of the cell is shorter than q_max = {q_max:g} 1/Å; make it larger"
            )
        present, index, counts = np.unique(bins, return_inverse=True, return_counts=True)
        device = system.device
        self._triples = torch.from_numpy(triples).to(device)
        self._bin = torch.from_numpy(index).to(device)
        self._counts = torch.from_numpy(counts.astype(np.float64)).to(device)
        sums = np.bincount(index, weights=lengths, minlength=len(present))
        self.axis = torch.from_numpy(sums / counts).to(device)
        name = "all" if pair is None else pair_type_name(*element_numbers(pair, 2))
        self.label = f"{self.name}_{name}"
        self.value_label = f"S(q), {name}"

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """S(q) of every frame, (n, D) float64; arguments as in the contract."""
        boxes = frame_cells(self._system, positions, cells)
        assert boxes is not None
        x = positions.to(torch.float64)
        fractional = x @ reciprocal_rows(boxes).transpose(-1, -2)
        size = max(1, MAX_ELEMENTS // max(1, len(self._triples) * x.shape[1]))
        parts = [self._of_vectors(part) for part in fractional.split(size)]
        per_vector = torch.cat([*parts, x.new_zeros(0, len(self._triples))])
        sums = x.new_zeros(len(x), len(self.axis)).index_add(1, self._bin, per_vector)
        return only_finite_frames(sums / self._counts, positions)

    def _of_vectors(self, fractional: Tensor) -> Tensor:
        phases = 2.0 * math.pi * (fractional @ self._triples.T)
        cosines, sines = phases.cos(), phases.sin()

        def density(atoms: Tensor) -> tuple[Tensor, Tensor]:
            return cosines[:, atoms].sum(dim=1), sines[:, atoms].sum(dim=1)

        (re1, im1), (re2, im2) = density(self._one), density(self._other)
        return (re1 * re2 + im1 * im2) / math.sqrt(len(self._one) * len(self._other))


def _elements(system: System, pair: Sequence[str] | None) -> tuple[Tensor, Tensor]:
    if pair is None:
        every = torch.arange(system.n_atoms, device=system.device)
        return every, every
    one, other = (torch.nonzero(system.numbers == z).flatten() for z in element_numbers(pair, 2))
    if not len(one) or not len(other):
        raise SystemDefinitionError(f"{system.formula} holds no pair {'-'.join(pair)} for S(q)")
    return one, other


def _wave_vectors(
    system: System, q_max: float, bin_width: float, max_vectors: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half of the reciprocal lattice up to q_max: triples (K, 3), lengths and bins (K,)."""
    cell = system.cell.cpu()
    # |n_i| = |q·a_i| / 2π <= q_max |a_i| / 2π
    reach = (q_max * torch.linalg.vector_norm(cell, dim=1) / (2.0 * math.pi)).floor().long()
    ranges = [np.arange(-int(r), int(r) + 1) for r in reach]
    grid = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    half = grid[len(grid) // 2 + 1 :].astype(np.float64)
    q = 2.0 * math.pi * np.linalg.norm(half @ reciprocal_rows(cell).numpy(), axis=1)
    order = np.argsort(q, kind="stable")
    order = order[q[order] <= q_max]
    bins = np.floor(q[order] / bin_width).astype(np.int64)
    chosen = []
    for b in np.unique(bins):
        inside = order[bins == b]
        step = np.linspace(0, len(inside) - 1, min(len(inside), max_vectors))
        chosen.append(inside[np.unique(step.round().astype(np.int64))])
    keep = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
    return half[keep], q[keep], np.floor(q[keep] / bin_width).astype(np.int64)
