"""The frames that the steps of one learning epoch share."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stablemd.estimators import SampledFrames, boltzmann_weights, n_eff_kish

MIN_COVERED = 16
"""With fewer frames in the covered region the effective share is that of all frames."""


@dataclass
class EpochFrames:
    """The frames of one learning epoch and their energies at the present parameters.

    Attributes:
        frames: those with finite numbers.
        energies: U at the present parameters in eV, (n,).
        n_dropped: recorded frames with numbers that are not finite.
        covered: whether a frame is of a kind that the reference structures know, (n,) bool;
            None if that can't be told.
    """

    frames: SampledFrames
    energies: Tensor
    n_dropped: int = 0
    covered: Tensor | None = None

    def select(self, keep: Tensor, n_dropped: int) -> EpochFrames:
        """The frames at a mask; ``n_dropped`` were left out."""
        covered = None if self.covered is None else self.covered[keep]
        return EpochFrames(self.frames.select(keep), self.energies[keep], n_dropped, covered)

    def n_eff_share(self, energies: Tensor, beta: float) -> float:
        """Effective share of the frames at parameters that give these energies.

        Frames that the reference does not know, on the way to a failure, are left out where
        enough others remain: a step is meant to take their weight away, and a hole that is a
        hundred kT deep would otherwise fill by one kT a step.
        """
        reference = self.frames.reference_energies
        if self.covered is not None and int(self.covered.sum()) >= MIN_COVERED:
            energies, reference = energies[self.covered], reference[self.covered]
        weights = boltzmann_weights(energies, reference, beta)
        return n_eff_kish(weights) / len(weights)
