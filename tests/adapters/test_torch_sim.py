"""TorchSim's models here, and potentials from here in TorchSim."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials import LennardJones, SchNet
from stablemd.potentials.adapters import FORMATS
from stablemd.potentials.adapters.packages import TORCH_SIM
from stablemd.potentials.adapters.torch_sim import TorchSimPotential, torch_sim_model
from stablemd.system import System

pytestmark = pytest.mark.skipif(
    not TORCH_SIM.is_installed, reason="torch-sim-atomistic is not installed here"
)

SIGMA, EPSILON = 3.4, 0.0103
ARGUMENTS = {
    "sigma": SIGMA,
    "epsilon": EPSILON,
    "cutoff": 50.0,
    "dtype": torch.float64,
    "use_neighbor_list": False,
    "compute_forces": True,
}


def cluster() -> tuple[System, Tensor]:
    base = torch.tensor([[0, 0, 0], [3.7, 0, 0], [0, 3.8, 0], [0, 0, 3.9]], dtype=torch.float64)
    noise = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return System.create(["Ar"] * 4), base + 0.1 * noise


def foreign() -> TorchSimPotential:
    options = {
        "model": "torch_sim.models.lennard_jones:LennardJonesModel",
        "arguments": ARGUMENTS,
    }
    potential = FORMATS["torch-sim"].load(None, options)
    assert isinstance(potential, TorchSimPotential)
    return potential


def test_its_numbers_are_those_of_torch_sim_itself() -> None:
    """Replicas in one call, against TorchSim's own state of each; the energy is the formula."""
    import torch_sim
    from ase import Atoms

    system, positions = cluster()
    potential = foreign()
    energy, forces = potential.energy_and_forces(system, positions)
    for k in range(len(positions)):
        atoms = Atoms("Ar4", positions[k].numpy())
        state = torch_sim.io.atoms_to_state([atoms], torch.device("cpu"), torch.float64)
        own = potential.model(state)
        torch.testing.assert_close(energy[k], own["energy"][0], rtol=1e-12, atol=0)
        torch.testing.assert_close(forces[k], own["forces"], rtol=0, atol=1e-12)
    i, j = torch.triu_indices(4, 4, offset=1)
    r = (positions[:, i] - positions[:, j]).norm(dim=2)
    expected = (4 * EPSILON * ((SIGMA / r) ** 12 - (SIGMA / r) ** 6)).sum(dim=1)
    torch.testing.assert_close(energy, expected, rtol=0, atol=1e-7)


def test_it_samples_and_a_broken_replica_stays_alone() -> None:
    system, positions = cluster()
    form = foreign().for_sampling(system)
    energy, forces = form(positions)
    broken = positions.clone()
    broken[2, 0, 0] = float("nan")
    energy_broken, forces_broken = form(broken)
    assert bool(torch.isnan(energy_broken[2]))
    keep = [0, 1, 3, 4]
    torch.testing.assert_close(energy_broken[keep], energy[keep], rtol=1e-12, atol=0)
    torch.testing.assert_close(forces_broken[keep], forces[keep], rtol=0, atol=1e-12)


def test_training_it_is_an_error_that_says_why() -> None:
    system, positions = cluster()
    with pytest.raises(PotentialError, match="not trained: TorchSim's models detach"):
        foreign().energy_and_forces(system, positions, create_graph=True)
    with pytest.raises(PotentialError, match="not trained"):
        foreign().require_trainable()


def test_exported_potentials_pass_torch_sim_own_validation() -> None:
    from torch_sim.models.interface import validate_model_outputs

    torch.manual_seed(0)
    model = torch_sim_model(SchNet(n_features=8, n_filters=8, n_interactions=1).double())
    validate_model_outputs(model, torch.device("cpu"), torch.float64)


def test_exported_and_taken_back_it_is_the_same(ethanol: System, ethanol_positions: Tensor) -> None:
    torch.manual_seed(0)
    potential = SchNet(n_features=8, n_filters=8, n_interactions=1).double()
    back = TorchSimPotential(torch_sim_model(potential))
    energy, forces = back.energy_and_forces(ethanol, ethanol_positions)
    expected, forces_expected = potential.energy_and_forces(ethanol, ethanol_positions)
    torch.testing.assert_close(energy, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(forces, forces_expected, rtol=0, atol=1e-12)


def test_stress_of_an_exported_crystal_is_that_of_the_potential() -> None:
    import torch_sim

    atoms = bulk("Ar", "fcc", a=5.2, cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.set_cell(atoms.cell + np.array([[0, 0.3, 0], [0, 0, 0.2], [0, 0, 0]]), scale_atoms=True)
    potential = LennardJones({"Ar": (3.4, 0.0103)}, cutoff=7.0).double()
    state = torch_sim.io.atoms_to_state([atoms], torch.device("cpu"), torch.float64)
    result = torch_sim_model(potential)(state)
    system = System.create(atoms.numbers, cell=atoms.cell.array, pbc=True)
    x = torch.from_numpy(atoms.positions)[None]
    energy, forces, stress = potential.energy_forces_and_stress(system, x)
    torch.testing.assert_close(result["energy"], energy, rtol=1e-10, atol=0)
    torch.testing.assert_close(result["forces"], forces[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(result["stress"], stress, rtol=0, atol=1e-10)


def test_torch_sim_runs_dynamics_with_it() -> None:
    import torch_sim

    torch.manual_seed(0)
    model = torch_sim_model(SchNet(n_features=8, n_filters=8, n_interactions=1).double())
    final = torch_sim.integrate(
        system=[molecule("CH3CH2OH")] * 2,
        model=model,
        integrator=torch_sim.integrators.nvt_langevin
        if not hasattr(torch_sim, "Integrator")
        else torch_sim.Integrator.nvt_langevin,
        n_steps=3,
        temperature=300,
        timestep=0.0005,
    )
    assert bool(torch.isfinite(final.energy).all())
