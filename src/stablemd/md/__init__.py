"""Molecular dynamics of many replicas with detection of failures in the loop."""

from __future__ import annotations

from stablemd.md.integrators import INTEGRATORS, Integrator, make_integrator
from stablemd.md.recording import RecordedFrames
from stablemd.md.sharding import simulate
from stablemd.md.simulate import SimulationResult, initial_state
from stablemd.md.state import State

__all__ = [
    "INTEGRATORS",
    "Integrator",
    "RecordedFrames",
    "SimulationResult",
    "State",
    "initial_state",
    "make_integrator",
    "simulate",
]
