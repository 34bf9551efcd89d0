"""Thermodynamic observables of an evaluation: pressure and heat capacity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.evaluation.keys import unused
from stablemd.geometry.lattice import volumes
from stablemd.md import RecordedFrames
from stablemd.observables import ThermodynamicSamples
from stablemd.observables.thermodynamic_settings import (
    PressureSettings,
    ThermodynamicObservableSettings,
)
from stablemd.potentials.base import SamplingForm
from stablemd.system import System


def check_thermodynamic(
    choices: Sequence[ThermodynamicObservableSettings],
    system: System,
    form: SamplingForm,
    positions: Tensor,
    cells: Tensor | None,
) -> None:
    """Find out before a simulation whether everything can be had after it.

    Args:
        choices: what will be measured.
        system: the atoms.
        form: what will be simulated with.
        positions: start structures (R, N, 3) in Å.
        cells: their cells (R, 3, 3) in Å, or None.

    Raises:
        ConfigError: a pressure is asked for, and the system has no volume.
        PotentialError: the form gives no stress.
    """
    if any(choice.needs_stress for choice in choices):
        if not bool(system.pbc.all()) or cells is None:
            raise ConfigError(
                "evaluation.thermodynamic asks for the pressure, and the system "
                f"{system.formula} is not periodic in three directions; leave it out, or give "
                "data with a cell"
            )
        form.with_stress(positions[:1], cells[:1])


def evaluate_thermodynamic(
    choices: Sequence[ThermodynamicObservableSettings],
    system: System,
    form: SamplingForm,
    frames: RecordedFrames,
    temperature_k: float,
) -> dict[str, Any]:
    """Every thermodynamic observable by name: value, error, N_eff, reference and unit, as JSON.

    Args:
        choices: what to measure.
        system: the atoms.
        form: what was simulated with; gives the stress.
        frames: recorded frames.
        temperature_k: of the simulation in K.
    """
    found: dict[str, Any] = {}
    for choice in choices:
        observable = choice.build()
        content: dict[str, Any] = {"value": None, "stderr": None, "unit": observable.unit}
        if len(frames) < 2:
            content["why"] = "every replica failed before a frame could be used"
        else:
            samples = _samples(choice, system, form, frames, temperature_k)
            estimate = observable.estimate(samples)
            content |= {
                "value": estimate.value,
                "stderr": estimate.stderr,
                "n_eff": estimate.n_eff,
                "n_frames": len(samples.potential_energies),
            }
        found[unused(choice.name, found)] = {**content, "reference": choice.reference}
    return found


def _samples(
    choice: ThermodynamicObservableSettings,
    system: System,
    form: SamplingForm,
    frames: RecordedFrames,
    temperature_k: float,
) -> ThermodynamicSamples:
    volume = stress = None
    if isinstance(choice, PressureSettings):
        frames = _thinned(frames, choice.max_frames)
        assert frames.cells is not None  # check_thermodynamic has seen to it
        volume = volumes(frames.cells)
        pieces = [
            form.with_stress(x.contiguous(), h.contiguous())[2].to(torch.float64)
            for x, h in zip(frames.positions.split(64), frames.cells.split(64), strict=True)
        ]
        stress = torch.cat(pieces).cpu()
        volume = volume.cpu()
    return ThermodynamicSamples(
        frames.energies.cpu(),
        temperature_k,
        system.n_atoms,
        replica=frames.replica.cpu(),
        volumes=volume,
        stress=stress,
    )


def _thinned(frames: RecordedFrames, most: int) -> RecordedFrames:
    """The frames of every k-th recorded time, with the smallest k that leaves ``most`` or fewer."""
    times, index = frames.step.unique(return_inverse=True)
    for every in range(1, len(times) + 1):
        # Counted from the last, so that the times farthest from the start stay.
        keep = (len(times) - 1 - index) % every == 0
        if int(keep.sum()) <= most:
            return frames.select(keep)
    return frames.select(torch.arange(len(frames) - most, len(frames)))
