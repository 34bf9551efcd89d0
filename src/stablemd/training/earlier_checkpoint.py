"""Checkpoints of trainings from before there were several state points."""

from __future__ import annotations

from typing import Any

from stablemd.errors import CheckpointError

_OF_DYNAMICS = ("learning_start", "origin", "memory")
_OF_POINT = ("errors", "start_errors", "anchor_positions", "anchor_forces", "anchor_cells")


def with_points(payload: dict[str, Any], n_points: int) -> dict[str, Any]:
    """The payload of a training, in the present layout.

    Args:
        payload: of ``StableRun.payload``, in its present or its earlier layout.
        n_points: state points of the run that is to go on.

    Raises:
        CheckpointError: it is of a training with another number of state points.
    """
    if "dynamics" not in payload:
        payload = _of_one_point(payload)
    found = len(payload["dynamics"])
    if found != n_points:
        raise CheckpointError(
            f"the checkpoint is of a training with {found} state points, and there are "
            f"{n_points} now; continue it with the same state points, or begin anew"
        )
    return payload


def _of_one_point(payload: dict[str, Any]) -> dict[str, Any]:
    counters = dict(payload["counters"])
    objective = dict(payload["objective"])
    point = {name: objective.pop(name, None) for name in _OF_POINT}
    dynamics = {name: payload.get(name) for name in _OF_DYNAMICS}
    # The layout had no count of failures: a learning phase, or a next one, follows some.
    dynamics |= {"md_step": counters.pop("_md_step"), "n_failed": 1}
    rest = {k: v for k, v in payload.items() if k not in (*_OF_DYNAMICS, "counters", "objective")}
    return {
        **rest,
        "counters": counters,
        "objective": {**objective, "points": [point]},
        "dynamics": [dynamics],
    }
