"""Bonds that are far from their reference length."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stablemd.cell import cells_of, minimum_image
from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.stability.base import Detection, Detector
from stablemd.system import System


class BondLength(Detector):
    """Fails a replica when some bond deviates from its reference mean by the threshold or more.

    In a periodic system a bond is as long as its shortest image.  A length that
    is not a number fails too.  ``Detection.value`` is the signed deviation in Å of
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

    def __init__(self, system: System, threshold: float = 0.5) -> None:
        if not len(system.bonds):
            raise SystemDefinitionError(
                f"the bond-length detector needs bonds, and {system.formula} has none; give "
                "bonds and bond_lengths, or use the detectors 'nonfinite' and 'temperature'"
            )
        if not math.isfinite(threshold) or threshold <= 0:
            raise ConfigError(f"threshold must be a positive length in Å, got {threshold}")
        self.threshold = float(threshold)
        self._system = system
        self._ends = system.bonds.T.flatten()
        self._reference = system.bond_lengths
        self._names = [system.bond_name(b) for b in range(len(system.bonds))]
        self._reference_list = system.bond_lengths.tolist()

    def detect(
        self,
        positions: Tensor,
        momenta: Tensor,
        energies: Tensor,
        cells: Tensor | None = None,
    ) -> Detection:
        first, second = positions.index_select(1, self._ends).chunk(2, dim=1)
        vectors = first - second
        if self._system.is_periodic:
            boxes = cells_of(self._system.cell, len(vectors), cells)
            vectors = minimum_image(vectors, boxes, self._system.pbc)
        deviation = torch.linalg.vector_norm(vectors, dim=2).sub_(self._reference)
        largest, where = deviation.abs().max(dim=1)
        return Detection(
            failed=largest.lt(self.threshold).logical_not_(),
            value=deviation.gather(1, where[:, None])[:, 0],
            where=where,
        )

    def describe(self, where: int, value: float) -> str:
        name, reference = self._names[where], self._reference_list[where]
        if not math.isfinite(value):
            return f"bond {name} has no finite length; a position is not finite"
        return (
            f"bond {name} is {reference + value:.2f} Å long, {abs(value):.2f} Å from its "
            f"reference mean {reference:.2f} Å (limit {self.threshold:.2f} Å)"
        )
