"""Frames as the structures that detectors learn their limits from."""

from __future__ import annotations

import torch

from stablemd.data import Frames
from stablemd.stability import ReferenceStructures


def reference_structures(frames: Frames, device: torch.device | str) -> ReferenceStructures:
    """Positions, cells and, where known, forces of frames on a device."""
    positions, cells = frames.geometry(device)
    forces = None if frames.forces is None else frames.forces.to(device)
    return ReferenceStructures(positions, cells, forces, frames.source)
