"""The constant in a model's energies, which no force sees."""

from __future__ import annotations

from stablemd.data import Frames
from stablemd.potentials.base import Potential, SamplingForm
from stablemd.system import System

MAX_FRAMES = 64


def centre_energies(
    potential: Potential, system: System, train: Frames, form: SamplingForm | None = None
) -> None:
    """Remove the mean energy error on (at most 64) training frames.

    Changes of the parameters shift all energies alike far more than they change
    their differences; the shift is undone in closed form instead of by steps of
    the optimizer.  A potential without an adjustable constant stays as it is.
    ``form`` is the potential's sampling form at its present parameters, if there is one.
    """
    frames = train.select(slice(0, MAX_FRAMES))
    labels, _ = frames.require_labels()
    form = form or potential.for_sampling(system)
    energies = form.energies(*frames.geometry(potential.device))
    potential.shift_energies(float((labels - energies.cpu()).mean()) / frames.n_atoms)
