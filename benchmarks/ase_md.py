"""MD with ASE: the model as a calculator, one replica at a time."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.md.langevin import Langevin
from ase.units import fs
from torch import Tensor, from_numpy

from benchmarks.torch_geometric_schnet import DT_FS
from stablemd.potentials.base import Potential
from stablemd.system import System


class _ModelCalculator(Calculator):
    """A potential as ASE's calculator, differentiated by autograd."""

    implemented_properties = ("energy", "forces")

    def __init__(self, potential: Potential, system: System) -> None:
        super().__init__()
        self._potential = potential
        self._system = system

    def calculate(
        self, atoms: Atoms, properties: object = None, system_changes: object = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        positions = from_numpy(np.ascontiguousarray(atoms.positions))[None]
        energy, forces = self._potential.energy_and_forces(self._system, positions)
        self.results = {"energy": float(energy[0]), "forces": forces[0].double().numpy()}


class AseMD:
    """Langevin dynamics of replicas one after the other.

    Args:
        potential: the model.
        system: the molecule.
        positions: (R, N, 3) in Å.
    """

    def __init__(self, potential: Potential, system: System, positions: Tensor) -> None:
        self._dynamics = []
        for replica in positions:
            atoms = Atoms(system.numbers.numpy(), replica.numpy())
            atoms.calc = _ModelCalculator(potential, system)
            self._dynamics.append(
                Langevin(atoms, DT_FS * fs, temperature_K=500.0, friction=1e-3 / fs, fixcm=False)
            )

    def forces(self) -> np.ndarray:
        """Forces (R, N, 3) in eV/Å."""
        return np.stack([d.atoms.get_forces() for d in self._dynamics])

    def run(self, n_steps: int) -> None:
        """Advance all replicas by ``n_steps``."""
        for dynamics in self._dynamics:
            dynamics.run(n_steps)
