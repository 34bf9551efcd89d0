"""Results of shares of the replicas as one result."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stablemd.md.recording import RecordedFrames
from stablemd.md.result import SimulationResult
from stablemd.md.state import State


def join_results(
    state: State, shares: list[Tensor], results: list[SimulationResult]
) -> SimulationResult:
    """One result with the replicas in their places."""
    final = _with_thermostat(state, results[0].state)
    rewound = None if results[0].rewind_state is None else final
    failed_step = torch.full((state.n_replicas,), -1, dtype=torch.int64)
    reasons: list[str | None] = [None] * state.n_replicas
    details: list[str | None] = [None] * state.n_replicas
    frames = []
    for share, result in zip(shares, results, strict=True):
        final = final.scatter(share, result.state)
        if rewound is not None and result.rewind_state is not None:
            rewound = rewound.scatter(share, result.rewind_state)
        failed_step[share] = result.failed_step
        for index, reason, detail in zip(
            share.tolist(), result.reasons, result.details, strict=True
        ):
            reasons[index], details[index] = reason, detail
        frames.append(replace(result.frames, replica=share[result.frames.replica]))
    if rewound is not None:
        rewound = replace(rewound, alive=torch.ones_like(rewound.alive))
    joined = RecordedFrames.concatenate(frames)
    order = torch.argsort(joined.step * state.n_replicas + joined.replica)
    return SimulationResult(
        state=final,
        rewind_state=rewound,
        failed_step=failed_step,
        reasons=reasons,
        details=details,
        frames=joined.select(order),
        n_force_evaluations=sum(r.n_force_evaluations for r in results),
        wall_s={k: sum(r.wall_s[k] for r in results) for k in results[0].wall_s},
    )


def _with_thermostat(state: State, like: State) -> State:
    """``state`` with room for the thermostat variables that ``like`` has."""
    n = state.n_replicas
    missing = {
        name: value.new_zeros((n, *value.shape[1:]))
        for name, value in like.thermostat.items()
        if name not in state.thermostat
    }
    return replace(state, thermostat={**state.thermostat, **missing}) if missing else state
