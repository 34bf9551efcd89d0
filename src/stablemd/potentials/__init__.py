"""Potentials: the contract, the architectures of this package, and adapters."""

from __future__ import annotations

from typing import Any

from stablemd.errors import PotentialError
from stablemd.potentials.base import Potential, SamplingForm
from stablemd.potentials.batch import Batch
from stablemd.potentials.gemnet_t import GemNetT
from stablemd.potentials.schnet import SchNet

POTENTIALS: dict[str, type[Potential]] = {
    "gemnet_t": GemNetT,
    "schnet": SchNet,
}
"""Architectures by the name used in configurations and files."""


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
    "Batch",
    "GemNetT",
    "Potential",
    "SamplingForm",
    "SchNet",
    "make_potential",
]
