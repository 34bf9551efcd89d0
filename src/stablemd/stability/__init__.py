"""Stability detectors by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from stablemd.errors import ConfigError
from stablemd.stability.base import Detection, Detector
from stablemd.stability.bond_length import BondLength
from stablemd.stability.coordination import Coordination
from stablemd.stability.detector_set import DetectorSet, SetDetection
from stablemd.stability.distance_window import DistanceWindow
from stablemd.stability.energy_drift import EnergyDrift
from stablemd.stability.intermolecular_distance import IntermolecularDistance
from stablemd.stability.max_force import MaximumForce
from stablemd.stability.nonfinite import NonFinite
from stablemd.stability.rdf_drift import RdfDrift
from stablemd.stability.temperature import KineticTemperature
from stablemd.stability.thresholds import ReferenceStructures, Threshold
from stablemd.system import System

DETECTORS: dict[str, type[Detector]] = {
    "nonfinite": NonFinite,
    "bond_length": BondLength,
    "temperature": KineticTemperature,
    "intermolecular_distance": IntermolecularDistance,
    "distance_window": DistanceWindow,
    "coordination": Coordination,
    "max_force": MaximumForce,
    "energy_drift": EnergyDrift,
    "rdf_drift": RdfDrift,
}
"""Every detector by its name."""


def make_detector(name: str, system: System, **options: Any) -> Detector:
    """The detector of that name for a system.

    Args:
        name: a key of ``DETECTORS``.
        system: the atoms.
        options: the detector's own options, e.g. ``threshold`` of "bond_length".

    Raises:
        ConfigError: the name or an option is unknown, or a value is impossible.
    """
    if name not in DETECTORS:
        raise ConfigError(f"unknown detector {name!r}; choose one of {sorted(DETECTORS)}")
    kind = DETECTORS[name]
    known = sorted(set(inspect.signature(kind).parameters) - {"system"})
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"detector {name!r} has no option {unknown}; it takes {known}")
    build: Any = kind
    detector: Detector = build(system, **options)
    return detector


def make_detectors(options: Mapping[str, Mapping[str, Any]], system: System) -> DetectorSet:
    """A set of detectors from ``name -> options``, tested in the order given.

    Args:
        options: e.g. ``{"nonfinite": {}, "bond_length": {"threshold": 0.5}}``.
        system: the atoms.

    Raises:
        ConfigError: no detector, an unknown name or option, or an impossible value.
    """
    return DetectorSet([make_detector(name, system, **opts) for name, opts in options.items()])


__all__ = [
    "DETECTORS",
    "BondLength",
    "Coordination",
    "Detection",
    "Detector",
    "DetectorSet",
    "DistanceWindow",
    "EnergyDrift",
    "IntermolecularDistance",
    "KineticTemperature",
    "MaximumForce",
    "NonFinite",
    "RdfDrift",
    "ReferenceStructures",
    "SetDetection",
    "Threshold",
    "make_detector",
    "make_detectors",
]
