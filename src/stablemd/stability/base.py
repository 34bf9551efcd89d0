"""The contract of a stability detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from stablemd.stability.thresholds import Threshold


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
    """Tells for every replica whether it has become unstable.  Never synchronises the host.

    A detector that compares with earlier checks keeps what it needs per replica:
    a run works on its own copy from ``for_run`` and tells it with ``keep`` which
    replicas go on.
    """

    reason: str
    """Short name used in results and reports, e.g. ``"bond_length"``."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Further arguments of ``detect`` by name: "forces" (R, N, 3) eV/Å, and "conserved" (R,) eV,
    the energy that the integrator's exact dynamics keeps constant."""

    thresholds: tuple[Threshold, ...] = ()
    """What counts as a failure, with the origin of every number."""

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

    def for_run(self) -> Self:
        """The detector that one run uses: itself, or a copy without memory."""
        return self

    @property
    def has_memory(self) -> bool:
        """Whether it compares with earlier checks of the same run."""
        own = type(self)
        return own.keep is not Detector.keep or own.for_run is not Detector.for_run

    def keep(self, going_on: Tensor) -> None:  # noqa: B027 - only those with a memory override it
        """Forget the replicas that do not go on, (R,) bool."""
