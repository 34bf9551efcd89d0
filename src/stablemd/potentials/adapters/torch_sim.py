"""TorchSim: its models for sampling here, and potentials from here as its models.

Cohen, Riebesell, Goodall et al., "TorchSim: an efficient atomistic simulation engine in
PyTorch", https://github.com/TorchSim/torch-sim.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials.adapters.named_objects import make_named
from stablemd.potentials.adapters.packages import TORCH_SIM
from stablemd.potentials.adapters.untrainable import UntrainablePotential
from stablemd.potentials.base import Potential
from stablemd.potentials.batch import Batch
from stablemd.system import System


class TorchSimPotential(UntrainablePotential):
    """A TorchSim model, all replicas in one call, for simulation and evaluation.

    Args:
        model: a TorchSim ``ModelInterface``.

    Raises:
        PotentialError: it is something else.
        MissingDependencyError: torch-sim-atomistic is absent or too old.
    """

    why = "TorchSim's models detach their results from the parameters"

    def __init__(self, model: Any) -> None:
        super().__init__()
        interface = TORCH_SIM.load("models.interface").ModelInterface
        if not isinstance(model, interface):
            raise PotentialError(
                f"{type(model).__name__} is not a TorchSim ModelInterface; give one of "
                "torch_sim.models, or a class that derives from it"
            )
        self.model = model
        self.hyperparameters = {"model": type(model).__name__}

    @classmethod
    def load(
        cls, path: Path | None = None, *, model: str, arguments: Mapping[str, Any] | None = None
    ) -> TorchSimPotential:
        """A TorchSim model by its name.

        Args:
            path: not read; models get their files as arguments.
            model: ``module:name`` of its class or of a function that makes it.
            arguments: by name.

        Raises:
            PotentialError: it can't be made.
        """
        TORCH_SIM.require()
        return cls(make_named(model, dict(arguments or {}), "potential.options.model"))

    def evaluate(
        self, system: System, positions: Tensor, cells: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Energies (R,) in eV and forces (R, N, 3) in eV/Å."""
        n, device, dtype = len(positions), self.model.device, self.model.dtype
        boxes = system.cell.expand(n, 3, 3) if cells is None else cells
        finite = torch.isfinite(positions).all(dim=(1, 2))
        state = TORCH_SIM.load("state").SimState(
            positions=torch.nan_to_num(positions.detach())
            .reshape(-1, 3)
            .to(device, dtype)
            .contiguous(),
            masses=system.masses.repeat(n).to(device, dtype),
            # TorchSim's cell vectors are columns.
            cell=boxes.transpose(1, 2).to(device, dtype).contiguous(),
            pbc=_pbc(system),
            atomic_numbers=system.numbers.repeat(n).to(device),
            system_idx=torch.arange(n, device=device).repeat_interleave(system.n_atoms),
        )
        with torch.enable_grad():  # its models take forces from autograd
            result = self.model(state)
        energies = result["energy"].detach().reshape(n).to(positions.device, torch.float64)
        forces = result["forces"].detach().reshape(positions.shape).to(energies)
        nothing = torch.full_like(energies, float("nan"))
        energies = torch.where(finite, energies, nothing)
        return energies, torch.where(finite[:, None, None], forces, nothing[:, None, None])


def torch_sim_model(potential: Potential) -> Any:
    """A potential as a TorchSim ``ModelInterface`` of energy, forces and stress.

    Args:
        potential: evaluated on its own device and in its own precision.

    Raises:
        MissingDependencyError: torch-sim-atomistic is absent or too old.
    """
    interface = TORCH_SIM.load("models.interface").ModelInterface

    class StableMDModel(interface):  # type: ignore[misc, valid-type]
        """A stablemd potential in TorchSim."""

        def __init__(self, potential: Potential) -> None:
            super().__init__()
            self._device = potential.device
            self._dtype = potential.position_dtype
            self._compute_forces = True
            self._compute_stress = True
            self._memory_scales_with = "n_atoms_x_density"
            self.potential = potential

        @interface.compute_stress.setter
        def compute_stress(self, value: bool) -> None:
            self._compute_stress = value

        @interface.compute_forces.setter
        def compute_forces(self, value: bool) -> None:
            self._compute_forces = value

        def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
            """Energy (n_systems,), forces (n_atoms, 3) and stress (n_systems, 3, 3)."""
            batch, is_periodic = _batch(self.potential, state)
            dtype = self._dtype
            if self._compute_stress and is_periodic:
                energy, forces, stress = self.potential.batch_energy_forces_and_stress(batch)
                result = {"stress": stress.detach().to(dtype)}
            else:
                energy, forces = self.potential.batch_energy_and_forces(batch)
                zeros = energy.new_zeros(batch.n_structures, 3, 3)
                result = {"stress": zeros.to(dtype)} if self._compute_stress else {}
            result["energy"] = energy.detach().to(dtype)
            if self._compute_forces:
                result["forces"] = forces.detach().to(dtype)
            return result

    return StableMDModel(potential)


def _batch(potential: Potential, state: Any) -> tuple[Batch, bool]:
    """TorchSim's state as a batch: systems may differ in size and cell."""
    names = ("positions", "atomic_numbers", "system_idx", "cell", "pbc")
    is_dict = isinstance(state, dict)
    given: dict[str, Any] = {
        name: state.get(name) if is_dict else getattr(state, name, None) for name in names
    }
    positions, numbers, cells = given["positions"], given["atomic_numbers"], given["cell"]
    index = given["system_idx"]
    index = torch.zeros(len(positions), dtype=torch.int64) if index is None else index
    pbc = torch.as_tensor(False if given["pbc"] is None else given["pbc"]).broadcast_to(3).cpu()
    parts = []
    for k in range(int(index.max()) + 1):
        mine = index == k
        cell = None if cells is None else cells[k].mT.detach().cpu().double()
        system = System.create(numbers[mine], cell=cell, pbc=pbc.numpy())
        parts.append(potential.batch(system.to(positions.device), positions[mine][None].detach()))
    return Batch.concatenate(parts), bool(pbc.any())


def _pbc(system: System) -> Any:
    """TorchSim takes one truth value, and newer versions one per direction."""
    flags = system.pbc.tolist()
    if len(set(flags)) == 1:
        return flags[0]
    return system.pbc
