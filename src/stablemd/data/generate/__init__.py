"""Generators of reference data, each behind an optional dependency."""

from stablemd.data.generate.water import FlexibleWater, generate_water
from stablemd.data.generate.xtb import Gfn2Xtb, generate_xtb

__all__ = ["FlexibleWater", "Gfn2Xtb", "generate_water", "generate_xtb"]
