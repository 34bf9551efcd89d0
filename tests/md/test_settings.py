from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError

from stablemd import units
from stablemd.md import INTEGRATORS
from stablemd.md.integrators import (
    BAOAB,
    CSVR,
    NoseHooverChain,
    StochasticCellRescaling,
    VelocityVerlet,
)
from stablemd.md.settings import DynamicsSettings
from stablemd.stability import BondLength, KineticTemperature, NonFinite
from stablemd.system import System

WATER = System.create(["O", "H", "H"], bonds=[[0, 1], [0, 2]], bond_lengths=[0.96, 0.96])


def settings(**changes: Any) -> DynamicsSettings:
    base: dict[str, Any] = {
        "temperature_k": 350.0, "dt_fs": 0.7, "integrator": "langevin", "friction_per_ps": 3.0,
        "tau_fs": 40.0, "check_every": 5, "bond_threshold": 0.3, "max_temperature_k": None,
    }  # fmt: skip
    return DynamicsSettings(**{**base, **changes})


def test_every_integrator_can_be_chosen() -> None:
    names = get_args(DynamicsSettings.model_fields["integrator"].annotation)
    assert set(names) == set(INTEGRATORS)
    for name in names:
        integrator = settings(integrator=name).make_integrator()
        assert type(integrator) is INTEGRATORS[name]
        assert integrator.dt_fs == 0.7


def test_options_reach_the_integrator() -> None:
    langevin = settings().make_integrator()
    assert isinstance(langevin, BAOAB)
    assert (langevin.temperature_k, langevin.friction_per_ps) == (350.0, 3.0)
    chain = settings(integrator="nose_hoover").make_integrator()
    assert isinstance(chain, NoseHooverChain)
    assert (chain.temperature_k, chain.tau_fs) == (350.0, 40.0)
    csvr = settings(integrator="csvr").make_integrator()
    assert isinstance(csvr, CSVR) and csvr.tau_fs == 40.0
    npt = settings(
        integrator="cell_rescaling", pressure_bar=-3.0, barostat_tau_fs=7.0,
        compressibility_per_bar=1e-4, coupling="anisotropic",
    ).make_integrator()  # fmt: skip
    assert isinstance(npt, StochasticCellRescaling) and npt.tau_fs == 40.0
    assert (npt.pressure_bar, npt.barostat_tau_fs, npt.compressibility_per_bar, npt.coupling) == (
        -3.0, 7.0, 1e-4, "anisotropic",
    )  # fmt: skip
    assert isinstance(settings(integrator="nve").make_integrator(), VelocityVerlet)


def test_detectors_stand_in_the_order_of_blame() -> None:
    """A NaN is not blamed on a bond, and a torn bond not on the heat that it sets free."""
    kinds = [type(d) for d in settings().make_detectors(WATER).detectors]
    assert kinds == [NonFinite, BondLength, KineticTemperature]
    bare = System.create(["O", "H", "H"])
    assert [type(d) for d in settings().make_detectors(bare).detectors] == [
        NonFinite, KineticTemperature,
    ]  # fmt: skip


def failed(how: DynamicsSettings, stretch: float = 0.0, temperature_k: float = 0.0) -> bool:
    """Whether a water molecule with one stretched bond at a kinetic temperature fails."""
    positions = torch.zeros(1, 3, 3, dtype=torch.float64)
    positions[0, 1, 0], positions[0, 2, 1] = 0.96 + stretch, 0.96
    momenta = torch.zeros_like(positions)
    momenta[0, 0, 0] = (9.0 * units.KB * temperature_k * float(WATER.masses[0])) ** 0.5
    energies = torch.zeros(1, dtype=torch.float64)
    return bool(how.make_detectors(WATER).detect(positions, momenta, energies).failed)


def test_the_bond_threshold_is_the_limit() -> None:
    assert not failed(settings(), stretch=0.299) and failed(settings(), stretch=0.301)
    assert not failed(settings(), stretch=-0.299) and failed(settings(), stretch=-0.301)


def test_the_temperature_limit_follows_the_temperature_unless_it_is_given() -> None:
    assert not failed(settings(), temperature_k=20 * 350.0 - 1.0)
    assert failed(settings(), temperature_k=20 * 350.0 + 1.0)
    given = settings(max_temperature_k=900.0)
    assert not failed(given, temperature_k=899.0) and failed(given, temperature_k=901.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature_k": 0.0},
        {"dt_fs": 0.0},
        {"dt_fs": 10.5},
        {"integrator": "verlet"},
        {"pressure_bar": float("inf")},
        {"coupling": "semi"},
        {"friction_per_ps": -1.0},
        {"tau_fs": 0.0},
        {"check_every": 0},
        {"bond_threshold": 0.0},
        {"max_temperature_k": 0.0},
        {"temperature_k": float("nan")},
        {"timestep": 1.0},
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        settings(**changes)
