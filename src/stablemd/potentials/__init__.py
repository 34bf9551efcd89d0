"""Potentials: the contract, the architectures of this package, and adapters."""

from __future__ import annotations

from typing import Any

from stablemd.errors import PotentialError
from stablemd.potentials.adapters.nequip import NequIP
from stablemd.potentials.base import Potential, SamplingForm
from stablemd.potentials.batch import Batch
from stablemd.potentials.classical import ZBL, HarmonicBonds, LennardJones
from stablemd.potentials.composition import SumPotential
from stablemd.potentials.function import FunctionPotential
from stablemd.potentials.gemnet_t import GemNetT
from stablemd.potentials.schnet import SchNet

POTENTIALS: dict[str, type[Potential]] = {
    "gemnet_t": GemNetT,
    "harmonic_bonds": HarmonicBonds,
    "lennard_jones": LennardJones,
    "nequip": NequIP,
    "schnet": SchNet,
    "zbl": ZBL,
}
"""Architectures and classical terms by the name used in configurations and files."""


def make_potential(name: str, **hyperparameters: Any) -> Potential:
    """An untrained potential by name.

    Raises:
        PotentialError: the name or a hyper-parameter is unknown.
    """
    if name not in POTENTIALS:
        raise PotentialError(f"unknown potential {name!r}; available: {sorted(POTENTIALS)}")
    try:
        return POTENTIALS[name](**hyperparameters)
    except TypeError as error:
        raise PotentialError(f"potential {name!r}: {error}") from error


__all__ = [
    "POTENTIALS",
    "ZBL",
    "Batch",
    "FunctionPotential",
    "GemNetT",
    "HarmonicBonds",
    "LennardJones",
    "NequIP",
    "Potential",
    "SamplingForm",
    "SchNet",
    "SumPotential",
    "make_potential",
]
