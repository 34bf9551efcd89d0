"""Forces that are larger than any that a stable simulation meets."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.geometry.pairs import atom_name
from stablemd.stability.base import Detection, Detector
from stablemd.stability.thresholds import ReferenceStructures, Threshold, given, learnt
from stablemd.system import System


class MaximumForce(Detector):
    """Fails a replica when the force on an atom reaches a limit.

    ``Detection.value`` is the largest force in eV/Å, ``where`` its atom.

    Args:
        system: the atoms, for names in messages.
        max_force: the limit in eV/Å.

    Raises:
        ConfigError: the limit is not a positive number.
    """

    reason = "max_force"
    needs: ClassVar[frozenset[str]] = frozenset({"forces"})

    def __init__(self, system: System, *, max_force: float | Threshold) -> None:
        limit = max_force
        if not isinstance(limit, Threshold):
            limit = given("max_force", limit, "eV/Å")
        self.thresholds = (limit,)
        self._limit = limit.value
        self._system = system

    @classmethod
    def from_reference(
        cls,
        system: System,
        reference: ReferenceStructures,
        *,
        quantile: float = 0.0,
        margin: float = 10.0,
    ) -> MaximumForce:
        """The limit a ``margin`` (eV/Å) above the largest forces of the structures.

        Raises:
            ConfigError: the structures have no forces.
        """
        if reference.forces is None:
            raise ConfigError(
                f"max_force learns its limit from forces, and {reference.source} has none; give "
                "max_force in eV/Å"
            )
        largest = torch.linalg.vector_norm(reference.forces, dim=2).amax(dim=1)
        limit = learnt(
            "max_force", largest, "eV/Å", upper=True, quantile=quantile, margin=margin,
            source=reference.source, what="largest force",
        )  # fmt: skip
        return cls(system, max_force=limit)

    def detect(
        self,
        positions: Tensor,
        momenta: Tensor,
        energies: Tensor,
        cells: Tensor | None = None,
        *,
        forces: Tensor | None = None,
    ) -> Detection:
        assert forces is not None, "max_force needs the forces (R, N, 3)"
        largest, where = forces.square().sum(dim=2).max(dim=1)
        value = largest.sqrt()
        return Detection(
            failed=value.lt(self._limit).logical_not(), value=value.double(), where=where
        )

    def describe(self, where: int, value: float) -> str:
        return (
            f"the force on atom {atom_name(self._system, where)} is {value:.1f} eV/Å (limit "
            f"{self._limit:.1f} eV/Å)"
        )
