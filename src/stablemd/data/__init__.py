"""Reference structures: reading, writing, splitting, bonds, and generated data."""

from stablemd.data.ase_formats import frames_from_ase, frames_to_ase
from stablemd.data.atomic_energies import fit_atomic_energies
from stablemd.data.frames import Frames
from stablemd.data.readers import read_frames
from stablemd.data.splits import Split, contiguous_split, split
from stablemd.data.topology import find_bonds, system_from_frames
from stablemd.data.writers import write_frames

__all__ = [
    "Frames",
    "Split",
    "contiguous_split",
    "find_bonds",
    "fit_atomic_energies",
    "frames_from_ase",
    "frames_to_ase",
    "read_frames",
    "split",
    "system_from_frames",
    "write_frames",
]
