"""MD with torch-sim: the model wrapped for its batched Langevin integrator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.torch_geometric_schnet import DT_FS
from stablemd import units
from stablemd.potentials.base import Potential
from stablemd.system import System


class TorchSimMD:
    """Langevin dynamics (BAOAB) of R replicas in float32.

    Args:
        potential: the model, differentiated by autograd.
        system: the molecule.
        positions: (R, N, 3) in Å.

    Raises:
        ImportError: torch-sim is not installed.
    """

    def __init__(self, potential: Potential, system: System, positions: Tensor) -> None:
        from torch_sim import SimState
        from torch_sim.integrators.nvt import nvt_langevin

        n_replicas = positions.shape[0]
        self._shape = tuple(positions.shape)
        state = SimState(
            positions=positions.float().reshape(-1, 3).clone(),
            masses=system.masses.float().repeat(n_replicas),
            cell=torch.zeros(n_replicas, 3, 3),
            pbc=False,
            atomic_numbers=system.numbers.repeat(n_replicas),
            system_idx=torch.arange(n_replicas).repeat_interleave(system.n_atoms),
        )
        init, self._step = nvt_langevin(
            _wrapped(potential, system),
            dt=torch.tensor(DT_FS * units.FS),
            kT=torch.tensor(units.KB * 500.0),
            gamma=torch.tensor(1.0 / units.PS),
            seed=0,
        )
        self._state = init(state)

    def forces(self) -> Tensor:
        """Forces (R, N, 3) in eV/Å at the present positions."""
        forces: Tensor = self._state.forces
        return forces.reshape(self._shape)

    def run(self, n_steps: int) -> None:
        """Advance all replicas by ``n_steps``."""
        for _ in range(n_steps):
            self._state = self._step(self._state)


def _wrapped(potential: Potential, system: System) -> Any:
    """The potential as torch-sim's model."""
    from torch_sim.models.interface import ModelInterface

    class Wrapped(ModelInterface):  # type: ignore[misc]
        _device = torch.device("cpu")
        _dtype = torch.float32
        _compute_stress = False
        _compute_forces = True

        def forward(self, state: Any, **kwargs: Any) -> dict[str, Tensor]:
            positions = state.positions.reshape(-1, system.n_atoms, 3)
            energy, forces = potential.energy_and_forces(system, positions)
            return {"energy": energy.float(), "forces": forces.reshape(-1, 3)}

    return Wrapped()
