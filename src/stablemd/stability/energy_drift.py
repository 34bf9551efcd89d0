"""Drift of the energy that the dynamics should keep constant."""

from __future__ import annotations

import copy
from typing import ClassVar, Self

import torch
from torch import Tensor

from stablemd.stability.base import Detection, Detector
from stablemd.stability.thresholds import given
from stablemd.system import System


class EnergyDrift(Detector):
    """Fails a replica when its conserved energy has changed by a limit since the run began.

    The conserved energy is the integrator's own: potential plus kinetic energy,
    and the thermostat's part under Nosé–Hoover.  Langevin dynamics has none.
    ``Detection.value`` is the change per atom in eV, ``where`` is -1.

    Args:
        system: the atoms; their number enters.
        max_drift: limit in eV per atom.

    Raises:
        ConfigError: the limit is not a positive number.
    """

    reason = "energy_drift"
    needs: ClassVar[frozenset[str]] = frozenset({"conserved"})

    def __init__(self, system: System, *, max_drift: float = 0.01) -> None:
        limit = given("max_drift", max_drift, "eV per atom")
        self.thresholds = (limit,)
        self._limit = limit.value
        self._n_atoms = system.n_atoms
        self._start: Tensor | None = None

    def for_run(self) -> Self:
        fresh = copy.copy(self)
        fresh._start = None
        return fresh

    def keep(self, going_on: Tensor) -> None:
        if self._start is not None:
            self._start = self._start[going_on]

    def detect(
        self,
        positions: Tensor,
        momenta: Tensor,
        energies: Tensor,
        cells: Tensor | None = None,
        *,
        conserved: Tensor | None = None,
    ) -> Detection:
        assert conserved is not None, "energy_drift needs the conserved energy (R,)"
        if self._start is None:
            self._start = conserved
        drift = (conserved - self._start) / self._n_atoms
        return Detection(
            failed=drift.abs().lt(self._limit).logical_not(),
            value=drift.double(),
            where=torch.full_like(drift, -1, dtype=torch.int64),
        )

    def describe(self, where: int, value: float) -> str:
        return (
            f"the conserved energy has changed by {value:+.4f} eV per atom since the start (limit "
            f"{self._limit:.4f} eV per atom)"
        )
