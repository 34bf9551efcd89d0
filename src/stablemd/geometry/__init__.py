"""Distances and molecules under periodic boundary conditions, triclinic cells included."""

from stablemd.geometry.lattice import (
    cells_of,
    frame_cells,
    heights,
    image_shifts,
    inscribed_radius,
    lattice_offsets,
    minimum_image,
    reciprocal_rows,
    rounded_image,
    unwrap,
    volumes,
)
from stablemd.geometry.molecules import MoleculeUnfolding
from stablemd.geometry.pairs import PairSelection, pair_type_name

__all__ = [
    "MoleculeUnfolding",
    "PairSelection",
    "cells_of",
    "frame_cells",
    "heights",
    "image_shifts",
    "inscribed_radius",
    "lattice_offsets",
    "minimum_image",
    "pair_type_name",
    "reciprocal_rows",
    "rounded_image",
    "unwrap",
    "volumes",
]
