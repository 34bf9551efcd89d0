"""Bonds that are far from their reference length."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.geometry import frame_cells, rounded_image
from stablemd.stability.base import Detection, Detector
from stablemd.stability.thresholds import ReferenceStructures, Threshold, learnt
from stablemd.system import System


class BondLength(Detector):
    """Fails a replica when some bond deviates from its reference mean by the threshold or more.

    In a periodic system a bond goes to the nearest image.  A length that is not
    a number fails too.  ``Detection.value`` is the signed deviation in Å of
    the bond with the largest absolute deviation, ``where`` its index.

    Source: the stability criterion for flexible molecules of Fu et al., *Forces
    are not enough* (TMLR 2023), with 0.5 Å.

    Args:
        system: the atoms with ``bonds`` and ``bond_lengths``.
        threshold: largest allowed deviation in Å.

    Raises:
        SystemDefinitionError: the system has no bonds.
        ConfigError: the threshold is not a positive number.
    """

    reason = "bond_length"

    def __init__(self, system: System, threshold: float | Threshold = 0.5) -> None:
        if not len(system.bonds):
            raise SystemDefinitionError(
                f"the bond-length detector needs bonds, and {system.formula} has none; give "
                "bonds and bond_lengths, or use the detectors 'nonfinite' and 'temperature'"
            )
        limit = threshold
        if not isinstance(limit, Threshold):
            if not math.isfinite(limit) or limit <= 0:
                raise ConfigError(f"threshold must be a positive length in Å, got {limit}")
            limit = Threshold("threshold", float(limit), "Å")
        self.thresholds = (limit,)
        self.threshold = limit.value
        self._system, self._periodic = system, system.is_periodic
        self._ends = system.bonds.T.flatten()
        self._reference = system.bond_lengths
        self._names = [system.bond_name(b) for b in range(len(system.bonds))]
        self._reference_list = system.bond_lengths.tolist()

    @classmethod
    def from_reference(
        cls,
        system: System,
        reference: ReferenceStructures,
        *,
        quantile: float = 0.0,
        margin: float = 0.2,
    ) -> BondLength:
        """The limit a ``margin`` (Å) above the largest deviations of reference structures."""
        largest = cls(system)._deviations(reference.positions, reference.cells).abs().amax(dim=1)
        limit = learnt(
            "threshold", largest, "Å", upper=True, quantile=quantile, margin=margin,
            source=reference.source, what="largest deviation of a bond",
        )  # fmt: skip
        return cls(system, limit)

    def detect(
        self,
        positions: Tensor,
        momenta: Tensor,
        energies: Tensor,
        cells: Tensor | None = None,
    ) -> Detection:
        deviation = self._deviations(positions, cells)
        largest, where = deviation.abs().max(dim=1)
        return Detection(
            failed=largest.lt(self.threshold).logical_not_(),
            value=deviation.gather(1, where[:, None])[:, 0],
            where=where,
        )

    def _deviations(self, positions: Tensor, cells: Tensor | None) -> Tensor:
        first, second = positions.index_select(1, self._ends).chunk(2, dim=1)
        vectors = first - second
        if self._periodic:
            boxes = frame_cells(self._system, positions, cells)
            vectors = rounded_image(vectors, boxes, self._system.pbc)
        return torch.linalg.vector_norm(vectors, dim=2).sub_(self._reference)

    def describe(self, where: int, value: float) -> str:
        name, reference = self._names[where], self._reference_list[where]
        if not math.isfinite(value):
            return f"bond {name} has no finite length; a position is not finite"
        return (
            f"bond {name} is {reference + value:.2f} Å long, {abs(value):.2f} Å from its "
            f"reference mean {reference:.2f} Å (limit {self.threshold:.2f} Å)"
        )
