"""One state point of a training: a system under its conditions, with its structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stablemd.data import Frames
from stablemd.errors import ConfigError, DataError, PotentialError
from stablemd.potentials.base import Potential
from stablemd.system import System
from stablemd.training.stable_settings import StableSettings

MAIN_POINT = "main"
"""Name of the state point that a training has in any case."""


@dataclass(frozen=True)
class TrainingPoint:
    """A system at one temperature (and pressure, or in one box) that a training simulates.

    Attributes:
        name: in the log and in messages.
        system: the atoms, with bonds for the bond-length criterion.
        train: labelled frames; start structures and regularizer.
        validation: labelled frames that the error budget of this point refers to.
        reference: structures that define the targets of the observables.
        settings: dynamics, observables and seed are this point's own; all else is
            that of the main one.
    """

    name: str
    system: System
    train: Frames
    validation: Frames
    reference: Frames
    settings: StableSettings

    def require_same_atoms(self) -> None:
        """Raise if some of the frames hold other atoms than the system.

        Raises:
            DataError: they do.
        """
        parts = (("train", self.train), ("validation", self.validation))
        for name, frames in (*parts, ("reference", self.reference)):
            if not torch.equal(frames.numbers, self.system.numbers.cpu()):
                raise DataError(
                    f"{name} frames ({frames.source}) hold other atoms than the system "
                    f"{self.system.formula}; give the same atoms in the same order"
                )

    def is_same_molecule(self, other: TrainingPoint) -> bool:
        """Whether both hold the same atoms in the same order."""
        return torch.equal(self.system.numbers.cpu(), other.system.numbers.cpu())


def require_trainable_together(potential: Potential, points: Sequence[TrainingPoint]) -> None:
    """Check, before anything runs, that one potential can be trained at all of the points.

    Raises:
        ConfigError: two points have the same name.
        DataError: frames of a point hold other atoms than its system.
        PotentialError: the potential was made for one system and there are several.
    """
    names = [point.name for point in points]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ConfigError(
            f"several state points have the name {', '.join(twice)}; give each its own"
        )
    for point in points:
        point.require_same_atoms()
        if not (potential.is_transferable or point.is_same_molecule(points[0])):
            raise PotentialError(
                f"{type(potential).__name__} was made for {points[0].system.formula}, and state "
                f"point {point.name} is {point.system.formula}; train other systems with a "
                "potential that depends on elements and not on the numbering of atoms, or each "
                "in a run of its own"
            )
