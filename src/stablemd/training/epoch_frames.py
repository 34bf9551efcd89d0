"""The frames that the steps of one learning epoch share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stablemd.estimators import Neighbourhoods, SampledFrames, n_eff_kish
from stablemd.md import sharding
from stablemd.potentials.base import SamplingForm

MIN_COVERED = 16
"""With fewer samples in the covered region the effective share is that of all samples."""


@dataclass
class EpochFrames:
    """The frames of one learning epoch and their energies at the present parameters.

    With the localized estimator a sample is a pair of frame and neighbourhood, which is
    weighed by the neighbourhood's own energy; else it is a frame.

    Attributes:
        frames: those with finite numbers.
        energies: at the present parameters in eV: U (n,), or with neighbourhoods
            the atomic ones (n, N).
        n_dropped: recorded frames with numbers that are not finite.
        covered: whether a sample is of a kind that the reference structures know, (n,) or
            (n, K) bool; None if that can't be told.
        around: the neighbourhoods of the localized estimator.
    """

    frames: SampledFrames
    energies: Tensor
    n_dropped: int = 0
    covered: Tensor | None = None
    around: Neighbourhoods | None = None

    @property
    def total_energies(self) -> Tensor:
        """U at the present parameters in eV, (n,)."""
        return self.energies if self.around is None else self.energies.sum(dim=1)

    def finite(self) -> EpochFrames:
        """The frames with finite numbers; the others are counted."""
        keep = self.frames.finite_mask()
        if bool(keep.all()):
            return self
        index = torch.nonzero(keep).flatten()
        return replace(
            self,
            frames=self.frames.select(keep),
            energies=self.energies[keep],
            n_dropped=self.n_dropped + int((~keep).sum()),
            covered=None if self.covered is None else self.covered[keep],
            around=None if self.around is None else self.around.select_frames(index),
        )

    def by_neighbourhood(self, around: Neighbourhoods, form: SamplingForm) -> EpochFrames:
        """These frames with the atomic energies that weigh their neighbourhoods.

        Args:
            around: neighbourhoods of the frames.
            form: at the parameters that sampled the frames.
        """
        local = replace(self, around=around)
        atomic = local.energies_of(form)
        frames = replace(self.frames, reference_atomic_energies=atomic)
        return replace(local, frames=frames, energies=atomic)

    def energies_of(self, form: SamplingForm) -> Tensor:
        """Energies of these frames from a sampling form, of the kind that weighs them."""
        if not len(self.frames):
            return self.energies.new_zeros(
                self.frames.positions.shape[: 1 if self.around is None else 2]
            )
        evaluate = sharding.energies if self.around is None else sharding.atomic_energies
        return evaluate(form, self.frames.positions, self.frames.cells)

    def n_eff_share(self, energies: Tensor, beta: float) -> float:
        """Effective share of the samples at parameters that give these energies.

        It is that of the kind of neighbourhoods with the smallest one.  Samples that the
        reference does not know, on the way to a failure, are left out where enough others
        remain: a step is meant to take their weight away, and a hole that is a hundred kT
        deep would otherwise fill by one kT a step.
        """
        return min(_kish_share(-beta * changes) for changes in self._changes(energies))

    def _changes(self, energies: Tensor) -> Iterator[Tensor]:
        """Changes of energy since the sampling, of the samples of each kind."""
        if self.around is None:
            changes = energies.double() - self.frames.reference_energies.double()
            yield _known(changes, self.covered)
            return
        reference = self.frames.reference_atomic_energies
        assert reference is not None
        local = self.around.energy_changes(energies.double(), reference)
        for label in range(self.around.n_kinds):
            alike = self.around.kind == label
            yield _known(local[:, alike], None if self.covered is None else self.covered[:, alike])


def _known(changes: Tensor, covered: Tensor | None) -> Tensor:
    if covered is not None and int(covered.sum()) >= MIN_COVERED:
        return changes[covered]
    return changes.flatten()


def _kish_share(exponents: Tensor) -> float:
    weights = torch.softmax(exponents, dim=0)
    return n_eff_kish(weights) / len(weights)
