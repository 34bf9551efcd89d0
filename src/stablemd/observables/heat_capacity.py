"""Heat capacity from energy fluctuations."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd import units
from stablemd.observables.thermodynamic import ThermodynamicObservable, ThermodynamicSamples


class HeatCapacity(ThermodynamicObservable):
    """C_V / (N k_B) = (⟨U²⟩ - ⟨U⟩²) / (N (k_B T)²) + 3/2, per atom and in units of k_B.

    The kinetic part is the exact 3/2 of classical atoms; the fluctuations are
    those of the potential energy at constant volume, in the canonical ensemble
    (not under velocity Verlet, and not with a drifting energy).

    Reference: Allen and Tildesley (2017), eq. 2.80.
    """

    name = "heat_capacity"
    unit = "k_B per atom"

    def moments(self, samples: ThermodynamicSamples) -> Tensor:
        u = samples.potential_energies.to(torch.float64)
        shifted = u - u[torch.isfinite(u)].mean()  # squares of large energies would lose digits
        return torch.stack([shifted, shifted.square()], dim=1)

    def of_moments(self, mean: Tensor, samples: ThermodynamicSamples) -> Tensor:
        kt = units.KB * samples.temperature_k
        return (mean[1] - mean[0].square()) / (samples.n_atoms * kt**2) + 1.5
