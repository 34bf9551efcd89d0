"""What the log says about a simulation phase and a learning epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stablemd.training.objective import StableObjective
from stablemd.training.point_dynamics import PhaseOutcome
from stablemd.training.point_objective import PointObjective
from stablemd.training.stopwatch import Stopwatch, times_by_part


def simulation_record(
    objective: StableObjective, index: int, cycle: int, outcome: PhaseOutcome
) -> dict[str, Any]:
    """The record of one state point's simulation phase, which is named among several.

    Args:
        objective: at the parameters that were simulated.
        index: of the state point.
        cycle: of the training.
        outcome: what was found.
    """
    point = objective.points[index]
    named = {"state_point": point.point.name} if len(objective.points) > 1 else {}
    return {
        "phase": "simulate",
        "cycle": cycle,
        **named,
        "failed_fraction": outcome.n_failed / point.point.settings.n_replicas,
        "replica_time_ps": outcome.time_ps,
        "failures": outcome.reasons[:8],
        "n_force_evaluations": outcome.n_force_evaluations,
        **_errors(point),
        "optimizer_steps": objective.steps_done,
    }


def learning_record(
    objective: StableObjective,
    *,
    cycle: int,
    epoch: int,
    failed: Mapping[int, float],
    steps: Sequence[Mapping[str, Any]],
    end_of_phase: str | None,
    n_force_evaluations: int,
    watches: Mapping[str, Stopwatch],
) -> dict[str, Any]:
    """The record of a learning epoch.

    Of several state points the failed fraction is the largest one, and the errors are those
    of the point that has used most of its budget; each point's own stand under its name.

    Args:
        objective: after the steps.
        cycle: of the training.
        epoch: of the learning phase.
        failed: failed fraction of every state point that sampled, by its index.
        steps: records of the optimizer steps.
        end_of_phase: the rule that ended the phase with this epoch.
        n_force_evaluations: of the sampling.
        watches: by part.
    """
    several = len(objective.points) > 1
    points = {
        point.point.name: {"failed_fraction": failed.get(index), **_errors(point)}
        for index, point in enumerate(objective.points)
    }
    return {
        "phase": "learn",
        "cycle": cycle,
        "epoch": epoch,
        "failed_fraction": max(failed.values()),
        "learning_rate": objective.learning_rate,
        "steps": list(steps),
        "end_of_phase": end_of_phase,
        **_errors(objective.tightest),
        **({"points": points} if several else {}),
        "n_force_evaluations": n_force_evaluations,
        "optimizer_steps": objective.steps_done,
        **times_by_part(**watches),
    }


def _errors(point: PointObjective) -> dict[str, float]:
    return {
        "force_mae_ev_per_angstrom": point.errors.force_mae_ev_per_angstrom,
        "energy_mae_ev": point.errors.energy_mae_ev,
        "budget_used": point.budget_used,
    }
