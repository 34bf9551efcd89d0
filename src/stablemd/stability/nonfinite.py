"""Positions, momenta or energies that are infinite or not a number."""

from __future__ import annotations

import torch
from ase.data import chemical_symbols
from torch import Tensor

from stablemd.stability.base import Detection, Detector
from stablemd.system import System


class NonFinite(Detector):
    """Fails a replica when a position, a momentum or its energy is not finite.

    ``Detection.value`` is the number of atoms concerned; ``where`` is the first
    of them, or -1 where only the energy is not finite.

    Args:
        system: the atoms, for names in messages.
    """

    reason = "nonfinite"

    def __init__(self, system: System) -> None:
        self._names = [f"{chemical_symbols[int(z)]}{a}" for a, z in enumerate(system.numbers)]

    def detect(self, positions: Tensor, momenta: Tensor, energies: Tensor) -> Detection:
        bad = ~(positions.isfinite() & momenta.isfinite()).all(dim=2)
        any_atom, first = bad.max(dim=1)
        return Detection(
            failed=any_atom | ~energies.isfinite(),
            value=bad.sum(dim=1).to(torch.float64),
            where=torch.where(any_atom, first, -1),
        )

    def describe(self, where: int, value: float) -> str:
        if where < 0:
            return "the potential energy is not finite"
        others = int(value) - 1
        more = f" and {others} more atom{'s' if others > 1 else ''}" if others else ""
        return f"position or momentum of atom {self._names[where]}{more} is not finite"
