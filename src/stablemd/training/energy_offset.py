"""The constant in a model's energies, which no force sees."""

from __future__ import annotations

from collections.abc import Sequence

from stablemd.data import Frames
from stablemd.potentials.base import Potential, SamplingForm
from stablemd.system import System
from stablemd.training.training_point import TrainingPoint

MAX_FRAMES = 64


def centre_energies(
    potential: Potential,
    points: Sequence[TrainingPoint],
    forms: Sequence[SamplingForm] | None = None,
) -> None:
    """Remove the mean energy error on (at most 64) training frames of the first point's molecule.

    Changes of the parameters shift all energies alike far more than they change their
    differences; the shift is undone in closed form instead of by steps of the optimizer.
    A potential without an adjustable constant stays as it is.

    A potential has one constant per atom, which can be right for one composition only.
    It is set by the first point and by those further ones that hold the same atoms (at
    other temperatures), each counting alike.  Points of other molecules keep the constant
    that the model gives them: no force, no weight of a frame and no loss or budget here
    depends on it, and a compromise would take the first molecule's energies away from
    their labels too, by hundreds of eV where a model was trained on that one alone.

    Args:
        potential: shifted in place, once.
        points: the main one first.
        forms: their sampling forms at the present parameters, if there are.
    """
    given = [None for _ in points] if forms is None else forms
    errors = [
        _error_per_atom(potential, point.system.to(potential.device), point.train, form)
        for point, form in zip(points, given, strict=True)
        if point.is_same_molecule(points[0])
    ]
    potential.shift_energies(sum(errors) / len(errors))


def _error_per_atom(
    potential: Potential, system: System, train: Frames, form: SamplingForm | None
) -> float:
    """Mean of label less energy in eV, over the number of atoms."""
    frames = train.select(slice(0, MAX_FRAMES))
    labels, _ = frames.require_labels()
    form = form or potential.for_sampling(system)
    energies = form.energies(*frames.geometry(potential.device))
    return float((labels - energies.cpu()).mean()) / frames.n_atoms
