"""Distances and molecules under periodic boundary conditions, triclinic cells included."""

from stablemd.geometry.lattice import (
    frame_cells,
    image_shifts,
    inscribed_radius,
    perpendicular_heights,
    reciprocal_rows,
    rounded_image,
    unwrap,
)
from stablemd.geometry.molecules import MoleculeUnfolding
from stablemd.geometry.pairs import PairSelection, pair_type_name

__all__ = [
    "MoleculeUnfolding",
    "PairSelection",
    "frame_cells",
    "image_shifts",
    "inscribed_radius",
    "pair_type_name",
    "perpendicular_heights",
    "reciprocal_rows",
    "rounded_image",
    "unwrap",
]
