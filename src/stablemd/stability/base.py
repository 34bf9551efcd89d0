"""The contract of a stability detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Detection:
    """What a detector saw.

    Attributes:
        failed: (R,) bool.
        value: the number that was compared with the threshold, (R,) float64.
        where: index of the bond, atom or pair that gave ``value``, (R,) int64
            (-1 where the value belongs to the whole replica).
    """

    failed: Tensor
    value: Tensor
    where: Tensor


class Detector(ABC):
    """Tells for every replica whether it has become unstable.  Never synchronises the host."""

    reason: str
    """Short name used in results and reports, e.g. ``"bond_length"``."""

    @abstractmethod
    def detect(
        self,
        positions: Tensor,
        momenta: Tensor,
        energies: Tensor,
        cells: Tensor | None = None,
    ) -> Detection:
        """Test R replicas.

        Args:
            positions: unwrapped, (R, N, 3) Å.
            momenta: (R, N, 3) internal units.
            energies: (R,) eV.
            cells: (R, 3, 3) Å; the system's cell by default, where it is periodic.
        """

    @abstractmethod
    def describe(self, where: int, value: float) -> str:
        """One sentence about a failure, with names, values, units and the threshold."""
