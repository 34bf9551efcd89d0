from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stablemd.errors import SimulationError
from stablemd.md import initial_state, make_integrator, simulate
from stablemd.stability import make_detectors
from stablemd.system import System

R = 5
RUN = {"n_steps": 60, "seed": 4, "check_every": 10}
POSITIONS = torch.linspace(-0.2, 0.2, R * 9, dtype=torch.float64).reshape(R, 3, 3)


def test_impossible_arguments_are_refused(cliff, atoms):
    form = cliff()
    detectors = make_detectors({"nonfinite": {}}, atoms)
    state = initial_state(atoms, POSITIONS, form, temperature_k=50.0, seed=4)
    nve = make_integrator("nve", dt_fs=2.0, temperature_k=50.0)
    for bad in ({"n_steps": 0}, {"check_every": 0}, {"record_every": -1}, {"rewind_steps": 1.5}):
        with pytest.raises(SimulationError, match=f"{next(iter(bad))} must be an integer"):
            simulate(form, state, nve, detectors, atoms, **{**RUN, **bad})
    with pytest.raises(SimulationError, match="state.positions must be float64 of shape"):
        simulate(form, state, nve, detectors, System.create(["H"]), **RUN)
    broken = replace(state, energies=state.energies + torch.tensor([0, 0, torch.nan, 0, 0]))
    with pytest.raises(SimulationError, match=r"start energies of 1 of 5 .*replicas: \[2\]"):
        simulate(form, broken, nve, detectors, atoms, **RUN)


def test_impossible_starts_are_refused(cliff, atoms):
    form = cliff()
    positions = POSITIONS.clone()
    settings = {"temperature_k": 50.0, "seed": 4}
    with pytest.raises(SimulationError, match=r"shape \(replicas, 3, 3\)"):
        initial_state(atoms, positions[0], form, **settings)
    for ids in (torch.zeros(R, dtype=torch.int64), torch.arange(R) - 1):
        with pytest.raises(SimulationError, match="different non-negative"):
            initial_state(atoms, positions, form, **settings, replica_ids=ids)
    with pytest.raises(SimulationError, match="replica_ids must have shape"):
        initial_state(atoms, positions, form, **settings, replica_ids=torch.arange(2))
    positions[1, 0, 0] = torch.inf
    with pytest.raises(SimulationError, match="start positions of 1 of 5"):
        initial_state(atoms, positions, form, **settings)
