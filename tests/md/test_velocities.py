from __future__ import annotations

import pytest
import torch

from stablemd import units
from stablemd.errors import SimulationError
from stablemd.md.velocities import (
    degrees_of_freedom,
    kinetic_temperature,
    maxwell_boltzmann_momenta,
)

T = 350.0
IDS = torch.arange(4000)


def test_every_atom_carries_kt_half_per_component(atoms):
    momenta = maxwell_boltzmann_momenta(atoms, T, 1, IDS, remove_com=False)
    twice = momenta.square() / atoms.masses[:, None] / (units.KB * T)
    # Each is chi-squared with one degree of freedom: mean 1, variance 2.
    assert bool(((twice.mean(0) - 1.0).abs() < 4.0 * (2.0 / len(IDS)) ** 0.5).all())


def test_the_total_momentum_is_zero_and_the_temperature_right_with_3n_minus_3(atoms):
    momenta = maxwell_boltzmann_momenta(atoms, T, 2, IDS)
    assert float(momenta.sum(1).abs().max()) < 1e-14 * float(momenta.abs().max()) * 10
    n_dof = degrees_of_freedom(3, com_fixed=True)
    assert n_dof == 6
    temperature = kinetic_temperature(momenta, atoms.masses, n_dof)
    # 2K / kT is chi-squared with n_dof: relative variance 2 / n_dof.
    error = T * (2.0 / n_dof / len(IDS)) ** 0.5
    assert abs(float(temperature.mean()) - T) < 4.0 * error
    assert float(temperature.std()) == pytest.approx(T * (2.0 / n_dof) ** 0.5, rel=0.05)


def test_momenta_belong_to_the_replica_not_to_the_batch(atoms):
    whole = maxwell_boltzmann_momenta(atoms, T, 3, torch.arange(17))
    alone = maxwell_boltzmann_momenta(atoms, T, 3, torch.tensor([13]))
    assert torch.equal(alone[0], whole[13])
    later = maxwell_boltzmann_momenta(atoms, T, 3, torch.tensor([13]), step=1)
    assert not bool((later == alone).any())


def test_impossible_temperatures_are_refused(atoms):
    with pytest.raises(SimulationError, match="temperature_k"):
        maxwell_boltzmann_momenta(atoms, -1.0, 1, IDS)
    with pytest.raises(SimulationError, match="degree of freedom"):
        kinetic_temperature(torch.zeros(1, 1, 3), torch.ones(1), 0)
