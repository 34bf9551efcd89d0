"""Any potential as an ASE calculator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from stablemd.potentials.base import Potential
from stablemd.system import System


class PotentialCalculator(Calculator):
    """ASE's view of a potential: energy and forces, atomic energies and stress where it has them.

    Args:
        potential: evaluated on its own device and in its own precision.
    """

    implemented_properties: list[str] = ["energy", "free_energy", "forces", "energies", "stress"]  # noqa: RUF012

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self._potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute what is asked for, in eV and Å."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        potential = self._potential
        system = System.create(self.atoms.numbers, cell=self.atoms.cell.array, pbc=self.atoms.pbc)
        system = system.to(potential.device)
        positions = torch.as_tensor(
            np.asarray(self.atoms.positions)[None], dtype=torch.float64, device=potential.device
        )
        wanted = properties or ["energy"]
        if "stress" in wanted:
            energy, forces, stress = potential.energy_forces_and_stress(system, positions)
            self.results["stress"] = full_3x3_to_voigt_6_stress(_numpy(stress[0]))
        else:
            energy, forces = potential.energy_and_forces(system, positions)
        self.results["energy"] = self.results["free_energy"] = float(energy[0])
        self.results["forces"] = _numpy(forces[0])
        if "energies" in wanted and potential.has_local_energies:
            with torch.no_grad():
                local = potential.local_energies(potential.batch(system, positions))
            self.results["energies"] = _numpy(local)


def _numpy(values: torch.Tensor) -> Any:
    return values.detach().cpu().double().numpy()
