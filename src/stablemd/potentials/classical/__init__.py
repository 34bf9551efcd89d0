"""Classical terms, to be added to a model: ``model + ZBL()``."""

from stablemd.potentials.classical.harmonic_bonds import HarmonicBonds
from stablemd.potentials.classical.lennard_jones import LennardJones
from stablemd.potentials.classical.zbl import ZBL

__all__ = ["ZBL", "HarmonicBonds", "LennardJones"]
