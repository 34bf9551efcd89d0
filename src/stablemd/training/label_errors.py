"""Energy and force errors of a potential on labelled reference structures."""

from __future__ import annotations

from typing import NamedTuple

import torch

from stablemd.data.frames import Frames
from stablemd.errors import DataError
from stablemd.potentials.base import Potential
from stablemd.system import System


class LabelErrors(NamedTuple):
    """Mean absolute errors against the reference labels.

    Attributes:
        energy_mae_ev: over structures, total energy, eV.
        force_mae_ev_per_angstrom: over structures, atoms and Cartesian
            components, eV/Å.
    """

    energy_mae_ev: float
    force_mae_ev_per_angstrom: float


def energy_and_force_mae(
    potential: Potential, system: System, frames: Frames, chunk: int = 64
) -> LabelErrors:
    """Energy and force MAE of a potential, independent of the chunk.

    Args:
        potential: evaluated on its own device and in its own precision.
        system: the atoms of the frames.
        frames: structures with energies (eV) and forces (eV/Å).
        chunk: structures per call, which bounds the memory.

    Raises:
        DataError: labels are missing, the atoms differ, the chunk is not
            positive, or a prediction is not finite.
    """
    energies, forces = frames.require_labels()
    if not torch.equal(frames.numbers.cpu(), system.numbers.cpu()):
        raise DataError(
            f"{frames.source}: the frames' atoms {frames.numbers.tolist()} are not those of the "
            f"system {system.numbers.tolist()}; give frames of the same atoms in the same order"
        )
    if chunk < 1:
        raise DataError(f"chunk is {chunk}; give a number of structures per call from 1 on")
    energy_sum, force_sum = 0.0, 0.0
    for start in range(0, len(frames), chunk):
        part = slice(start, start + chunk)
        predicted_energies, predicted_forces = potential.energy_and_forces(
            system, *frames.select(part).geometry(potential.device)
        )
        # Sums in float64: total energies may be thousands of eV.
        energy_error = predicted_energies.to("cpu", torch.float64) - energies[part].cpu()
        force_error = predicted_forces.to("cpu", torch.float64) - forces[part].cpu()
        energy_sum += float(energy_error.abs().sum())
        force_sum += float(force_error.abs().sum())
    result = LabelErrors(energy_sum / len(frames), force_sum / forces.numel())
    if not all(torch.isfinite(torch.tensor(result))):
        raise DataError(
            f"{frames.source}: the potential's errors are not finite (energy {result[0]} eV, "
            f"force {result[1]} eV/Å); its weights or these structures are damaged"
        )
    return result
