"""Generators of reference data, each behind an optional dependency."""

from stablemd.data.generate.xtb import Gfn2Xtb, generate_xtb

__all__ = ["Gfn2Xtb", "generate_xtb"]
