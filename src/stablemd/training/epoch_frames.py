"""The frames that the steps of one learning epoch share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stablemd.estimators import SampledFrames, boltzmann_weights, n_eff_kish


@dataclass
class EpochFrames:
    """The frames of one learning epoch and their energies at the present parameters.

    Attributes:
        frames: those with finite numbers.
        energies: U at the present parameters in eV, (n,).
        n_dropped: recorded frames with numbers that are not finite.
    """

    frames: SampledFrames
    energies: Tensor
    n_dropped: int = 0

    def n_eff_share(self, energies: Tensor, beta: float) -> float:
        """Effective share of the frames at parameters that give these energies."""
        weights = boltzmann_weights(energies, self.frames.reference_energies, beta)
        return n_eff_kish(weights) / len(weights)
