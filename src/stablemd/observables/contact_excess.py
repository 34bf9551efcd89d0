"""How far atoms of different molecules come closer than the reference structures allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.geometry import PairSelection, frame_cells
from stablemd.geometry.pairs import pair_type_name
from stablemd.observables.base import Observable, only_finite_frames
from stablemd.system import System


class ContactExcess(Observable):
    """Squared intrusion of other molecules' atoms within a closest distance, for every atom.

    ``g_a = Σ_b (max(limit_ab - d_ab, 0) / width)²`` over the atoms b of other
    molecules: zero where no contact is closer than usual, so that thermal motion
    adds no noise to the average, and growing quadratically where two molecules
    collide.  It is to pairs of molecules what ``bond_excess`` is to bonds.

    Args:
        system: two molecules or more.
        limits: closest distances in Å, by pairs of elements such as ``{"O-H": 1.4}``
            (heavier one first), or one for all.  The nearest image is looked at alone,
            so that a limit has to be shorter than half the cell.
        width: intrusion in Å that counts one.

    Raises:
        SystemDefinitionError: there is one molecule only.
        ConfigError: a length is not positive, or a pair of elements has no limit.
    """

    name = "contact_excess"
    axis_label = "atom"
    value_label = "excess (dimensionless)"
    sees_surroundings = True

    def __init__(
        self, system: System, *, limits: float | Mapping[str, float] = 1.5, width: float = 0.1
    ) -> None:
        self._system = system
        self._pairs = PairSelection.of(system, intramolecular=False)
        self._kinds, self._kind = _pair_kinds(system, self._pairs)
        by_kind = limits if isinstance(limits, Mapping) else dict.fromkeys(self._kinds, limits)
        missing = [kind for kind in self._kinds if kind not in by_kind]
        if missing:
            raise ConfigError(
                f"contact_excess has no limit for {missing[0]}; give one for each of {self._kinds}"
            )
        if not all(0.0 < length < float("inf") for length in (width, *by_kind.values())):
            raise ConfigError(
                "contact_excess needs positive lengths in Å, got width "
                f"{width} and limits {dict(by_kind)}"
            )
        self.limits = {kind: float(by_kind[kind]) for kind in self._kinds}
        """Closest distance in Å of every pair of elements."""
        self.width = width
        of_kind = torch.tensor(list(self.limits.values()), dtype=torch.float64)
        self._limit = of_kind.to(system.device)[self._kind]
        self.axis = torch.arange(system.n_atoms, dtype=torch.float64, device=system.device)
        self.component_atoms = torch.arange(system.n_atoms, device=system.device)[:, None]

    @classmethod
    def from_reference(
        cls,
        system: System,
        positions: Tensor,
        cells: Tensor | None = None,
        *,
        margin: float = 0.05,
        width: float = 0.1,
    ) -> ContactExcess:
        """Limits from structures: ``margin`` (Å) below the shortest distance of each pair.

        Args:
            system: two molecules or more.
            positions: reference structures (n, N, 3) in Å.
            cells: their cells (n, 3, 3) in Å; the system's by default.
            margin: Å below the shortest distance that the structures show.
            width: intrusion in Å that counts one.

        Raises:
            ConfigError: nothing is left of a distance after the margin.
        """
        probe = cls(system)
        shortest = torch.full((len(probe._kinds),), torch.inf, dtype=torch.float64)
        shortest = shortest.to(system.device)
        x = positions.to(system.device, torch.float64)
        for pairs, distances in probe._pieces(x, cells):
            least = distances.amin(dim=0)
            shortest = shortest.scatter_reduce(0, probe._kind[pairs], least, "amin")
        limits = (shortest - margin).tolist()
        return cls(system, limits=dict(zip(probe._kinds, limits, strict=True)), width=width)

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Excess of every atom (n, N) float64; arguments as in the contract."""
        x = positions.to(torch.float64)
        total = x.new_zeros(len(x), x.shape[1])
        for pairs, distances in self._pieces(x, cells):
            intrusion = (self._limit[pairs] - distances).clamp_min(0.0) / self.width
            near = torch.nonzero((intrusion.detach() > 0.0).any(dim=0)).flatten()
            squares = intrusion.index_select(1, near).square()
            for atoms in (self._pairs.first, self._pairs.second):
                total = total.index_add(1, atoms[pairs][near], squares)
        return only_finite_frames(total, positions)

    def mean_absolute_error(self, mean: Tensor, reference: Tensor) -> Tensor:
        """Mean over atoms of the absolute error of the average excess."""
        return (mean - reference).abs().mean()

    def _pieces(self, x: Tensor, cells: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
        """Parts of the pairs with their distances (n, p) in Å."""
        boxes = frame_cells(self._system, x, cells)
        no_shift = torch.zeros(1, 3, dtype=torch.float64, device=x.device)
        start = 0
        for part in self._pairs.distance_chunks(x, boxes, self._system.pbc, no_shift):
            pairs = slice(start, start + part.shape[1])
            start = pairs.stop
            yield pairs, part[..., 0]


def _pair_kinds(system: System, pairs: PairSelection) -> tuple[list[str], Tensor]:
    """The pairs of elements that occur, and which one each pair is, (P,)."""
    z1, z2 = system.numbers[pairs.first], system.numbers[pairs.second]
    code = torch.maximum(z1, z2) * 1000 + torch.minimum(z1, z2)
    codes, kind = code.unique(return_inverse=True)
    return [pair_type_name(c // 1000, c % 1000) for c in codes.tolist()], kind
