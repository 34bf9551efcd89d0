"""Positions, momenta or energies that are infinite or not a number."""

from __future__ import annotations

import torch
from ase.data import chemical_symbols
from torch import Tensor

from stablemd.stability.base import Detection, Detector
from stablemd.system import System


class NonFinite(Detector):
    """Fails a replica when a position, a momentum or its energy is not finite.

    ``Detection.value`` is the energy in eV; ``where`` is the first atom concerned,
    or -1 where only the energy is not finite.

    Args:
        system: the atoms, for names in messages.
    """

    reason = "nonfinite"

    def __init__(self, system: System) -> None:
        self._names = [f"{chemical_symbols[int(z)]}{a}" for a, z in enumerate(system.numbers)]

    def detect(
        self,
        positions: Tensor,
        momenta: Tensor,
        energies: Tensor,
        cells: Tensor | None = None,
    ) -> Detection:
        # Zero times a number that is not finite is NaN: cheaper than testing each number.
        zero = torch.mul(positions, 0.0).addcmul_(momenta, momenta, value=0.0).flatten(1)
        bad_atom, first = zero.ne(zero).max(dim=1)
        bad_energy = torch.mul(energies, 0.0).ne(0.0)
        return Detection(
            failed=bad_atom | bad_energy,
            value=energies,
            where=torch.where(bad_atom, first // 3, -1),
        )

    def describe(self, where: int, value: float) -> str:
        if where < 0:
            return "the potential energy is not finite"
        return f"position or momentum of atom {self._names[where]} is not finite"
