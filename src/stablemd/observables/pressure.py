"""Pressure."""

from __future__ import annotations

import torch
from ase import units as ase_units
from torch import Tensor

from stablemd import units
from stablemd.observables.thermodynamic import ThermodynamicObservable, ThermodynamicSamples

BAR = float(ase_units.bar)
"""One bar in eV/Å³."""


class Pressure(ThermodynamicObservable):
    """P = (2 ⟨K⟩ / 3 - ⟨V tr σ⟩ / 3) / V of every frame, averaged, in bar.

    σ is the static stress (1/V) ∂U/∂ε.  Where kinetic energies are not given
    they are replaced by 3 N k_B T / 2, which has less noise.

    Reference: Allen and Tildesley (2017), section 2.4.
    """

    name = "pressure"
    unit = "bar"

    def moments(self, samples: ThermodynamicSamples) -> Tensor:
        samples.require("volumes", "stress")
        assert samples.volumes is not None and samples.stress is not None
        kinetic = samples.kinetic_energies
        if kinetic is None:
            thermal = 1.5 * samples.n_atoms * units.KB * samples.temperature_k
            kinetic = torch.full_like(samples.volumes, thermal)
        static = samples.stress.diagonal(dim1=1, dim2=2).sum(dim=1) / 3.0
        pressure = 2.0 * kinetic / (3.0 * samples.volumes) - static
        return (pressure / BAR).to(torch.float64)[:, None]

    def of_moments(self, mean: Tensor, samples: ThermodynamicSamples) -> Tensor:
        return mean[0]
