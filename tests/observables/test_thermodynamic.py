"""Pressure and heat capacity of systems whose values are exact."""

from __future__ import annotations

import pytest
import torch

from stablemd import units
from stablemd.errors import DataError
from stablemd.observables import (
    THERMODYNAMIC_OBSERVABLES,
    HeatCapacity,
    Pressure,
    ThermodynamicSamples,
)

N_ATOMS, T = 20, 350.0


def harmonic(n: int, seed: int) -> ThermodynamicSamples:
    """Independent frames of 3N harmonic degrees of freedom, energies far from zero."""
    generator = torch.Generator().manual_seed(seed)
    kt = units.KB * T
    u = 0.5 * kt * torch.randn(n, 3 * N_ATOMS, generator=generator, dtype=torch.float64).square()
    k = 0.5 * kt * torch.randn(n, 3 * N_ATOMS, generator=generator, dtype=torch.float64).square()
    return ThermodynamicSamples(
        u.sum(dim=1) - 1e4, T, N_ATOMS, kinetic_energies=k.sum(dim=1),
        volumes=torch.full((n,), 900.0, dtype=torch.float64),
        stress=torch.zeros(n, 3, 3, dtype=torch.float64),
    )  # fmt: skip


def test_harmonic_oscillators_hold_three_kb_per_atom() -> None:
    """Dulong and Petit, within an error bar that is right."""
    estimates = [HeatCapacity().estimate(harmonic(1000, seed)) for seed in range(20)]
    deviations = torch.tensor([(e.value - 3.0) / e.stderr for e in estimates])
    assert 0.5 < float(deviations.square().mean().sqrt()) < 1.5
    assert max(e.stderr for e in estimates) < 0.15
    assert all(e.unit == "k_B per atom" and e.n_eff > 500 for e in estimates)


def test_an_ideal_gas_has_its_pressure_and_stress_takes_from_it() -> None:
    samples = harmonic(2000, seed=50)
    ideal = N_ATOMS * 1.380649e-23 * T / 900.0e-30 * 1e-5  # Nk_BT/V in bar
    found = Pressure().estimate(samples)
    assert abs(found.value - ideal) < 4.0 * found.stderr
    assert 0.0 < found.stderr < 0.02 * ideal
    # without kinetic energies their average stands in, without noise
    stress = torch.diag(torch.tensor([0.01, 0.02, 0.03])).double().expand(2000, 3, 3)
    cold = ThermodynamicSamples(
        samples.potential_energies, T, N_ATOMS, volumes=samples.volumes, stress=stress
    )
    gigapascal = 160.21766208  # one eV/Å³
    assert Pressure().estimate(cold).value == pytest.approx(ideal - 0.02 * gigapascal * 1e4)


@pytest.mark.parametrize("name", sorted(THERMODYNAMIC_OBSERVABLES))
def test_every_one_says_what_it_needs(name: str) -> None:
    made = THERMODYNAMIC_OBSERVABLES[name]()
    assert made.name == name and made.unit
    bare = ThermodynamicSamples(torch.zeros(4, dtype=torch.float64), T, N_ATOMS)
    if name == "pressure":
        with pytest.raises(DataError, match="no volumes and no stress"):
            made.estimate(bare)
    else:
        assert made.estimate(bare).value == pytest.approx(1.5)
