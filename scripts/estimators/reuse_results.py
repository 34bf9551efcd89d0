"""What the reuse of frames saved, from the results that scripts/reuse_study.py left."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import fisher_exact

from stablemd.errors import DataError

RUNS = Path(__file__).resolve().parents[2] / "runs"
FOLDERS = {
    "ethanol of the demo": "reuse_demo",
    "ethanol of the demo, on policy with windows of 48 replicas": "reuse_demo_small",
    "ethanol of MD17": "reuse_md17",
    "ethanol of MD17, on policy with windows of 48 replicas": "reuse_md17_small",
}

LEVEL = 0.05
"""A model counts as less stable where chance would give its failures more rarely than this."""

MARGIN = 0.2
"""All seeds count as equally stable up to this part of the start model's failed share."""

Model = dict[str, Any]
"""One model with its evaluation, as scripts/reuse_study.py writes it."""


def measure() -> list[dict[str, Any]]:
    """One row for every seed that is there.

    Raises:
        DataError: there is none.
    """
    rows = []
    for system, name in FOLDERS.items():
        folder = RUNS / name
        if not (folder / "start.json").exists():
            continue
        start = json.loads((folder / "start.json").read_text(encoding="utf-8"))
        for path in sorted(folder.glob("seed_*.json")):
            found = json.loads(path.read_text(encoding="utf-8"))
            rows.append({"system": system, "start": start, **found})
    if not rows:
        raise DataError(
            f"no results of scripts/reuse_study.py in {', '.join(FOLDERS.values())} under "
            f"{RUNS}; run it with --out runs/<one of these> first"
        )
    return rows


def less_stable(model: Model, other: Model) -> bool:
    """Whether a model fails more often than another by more than chance (Fisher's exact test)."""
    counts = [[m["n_failed"], m["n_replicas"] - m["n_failed"]] for m in (model, other)]
    return bool(fisher_exact(counts, alternative="greater").pvalue < LEVEL)


def result(training: dict[str, Any], start: Model) -> Model:
    """The model that a training gave back: its last one, or the start if none was better.

    The start then stands for everything that was spent without getting beyond it.
    """
    kept: Model = training["models"][-1] if training["models"] else dict(start, optimizer_steps=0)
    return {"force_evaluations": training["force_evaluations"], **kept}


def reached(training: dict[str, Any], start: Model, goal: Model) -> Model | None:
    """The first model of a training that is as stable as ``goal``, up to chance, if any."""
    for model in training["models"] or [result(training, start)]:
        if not less_stable(model, goal):
            return dict(model)
    return None


def ratio(row: dict[str, Any]) -> float:
    """Force evaluations to the on-policy result's stability, reused over on policy."""
    goal = result(row["on_policy"], row["start"])
    model = reached(row["reused"], row["start"], goal)
    other = reached(row["on_policy"], row["start"], goal)
    if model is None or other is None:
        return float("inf")
    return float(model["force_evaluations"] / other["force_evaluations"])


def share_of_all(row: dict[str, Any]) -> float:
    """Force evaluations of the reused training to that stability, over all of on-policy training.

    The second gave back its result when it had ended, and not before.
    """
    model = reached(row["reused"], row["start"], result(row["on_policy"], row["start"]))
    if model is None:
        return float("inf")
    return float(model["force_evaluations"] / row["on_policy"]["force_evaluations"])


def whole_ratio(row: dict[str, Any]) -> float:
    """Force evaluations of whole trainings, with all tests of stability, reused over on policy."""
    ends = [result(row[way], row["start"]) for way in ("reused", "on_policy")]
    if less_stable(*ends):
        return float("inf")
    return float(row["reused"]["force_evaluations"] / row["on_policy"]["force_evaluations"])


def excess(pairs: Sequence[tuple[Model, Model]]) -> tuple[float, float]:
    """How much more often the first of each pair fails: share of all replicas, upper 95 % bound."""
    shares, variance = [], 0.0
    for models in zip(*pairs, strict=True):
        n = sum(m["n_replicas"] for m in models)
        failed = sum(m["n_failed"] for m in models)
        shares.append(failed / n)
        # One failure more and one success more: a share of zero is not known exactly.
        smoothed = (failed + 1) / (n + 2)
        variance += smoothed * (1.0 - smoothed) / (n + 2)
    difference = shares[0] - shares[1]
    return difference, difference + 1.645 * variance**0.5


def table(rows: list[dict[str, Any]]) -> str:
    """The numbers as a Markdown table, and their summary in words."""
    lines = [
        "| | seed | force evaluations to that stability, thousands: reused / on policy | ratio "
        "| of the whole training | ratio | in its learning windows | ratio "
        "| optimizer steps of these models | replicas failed: start / reused, then, at the end "
        "/ on policy | force MAE: start / reused, then, at the end / on policy, eV/Å |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_line(row) for row in rows),
    ]
    systems = list(dict.fromkeys(row["system"] for row in rows))
    return (
        "\n".join(lines)
        + "\n\n"
        + "\n".join(
            _summary(name, [row for row in rows if row["system"] == name]) for name in systems
        )
    )


def _line(row: dict[str, Any]) -> str:
    start, reused, other = row["start"], row["reused"], row["on_policy"]
    end, goal = result(reused, start), result(other, start)
    first = reached(other, start, goal) or goal
    success = reached(reused, start, goal)
    then = success or end
    shown = (start, then, end, goal)
    to_it = _pair(then["force_evaluations"], first["force_evaluations"])
    costs = [
        to_it if success else to_it.rsplit("|", 1)[0] + "| not reached",
        *(
            _pair(reused[kind], other[kind])
            for kind in ("force_evaluations", "learning_force_evaluations")
        ),
    ]
    failed = "{} / {}, {} / {}".format(*(m["n_failed"] for m in shown))
    errors = "{:.4f} / {:.4f}, {:.4f} / {:.4f}".format(
        *(m["force_mae_ev_per_angstrom"] for m in shown)
    )
    ended = "" if other["found_stable"] else " (stopped)"
    return (
        f"| {row['system']} | {row['seed']} | {' | '.join(costs)} "
        f"| {then['optimizer_steps']} / {first['optimizer_steps']}{ended} "
        f"| {failed} of {goal['n_replicas']} | {errors} |"
    )


def _pair(reused: int, other: int) -> str:
    return f"{reused / 1000:.0f} / {other / 1000:.0f} | {reused / other:.2f}"


def _summary(name: str, rows: list[dict[str, Any]]) -> str:
    start = rows[0]["start"]
    goals = [result(row["on_policy"], start) for row in rows]
    ends = [result(row["reused"], start) for row in rows]
    first = [reached(row["reused"], start, goal) for row, goal in zip(rows, goals, strict=True)]
    then = [model or end for model, end in zip(first, ends, strict=True)]
    margin = MARGIN * start["n_failed"] / start["n_replicas"]
    windows = statistics.median(
        row["reused"]["learning_force_evaluations"] / row["on_policy"]["learning_force_evaluations"]
        for row in rows
    )
    growth = [
        max(m["force_mae_ev_per_angstrom"] for m in models) / start["force_mae_ev_per_angstrom"]
        for models in (then, ends, goals)
    ]
    stopped = sum(not row["on_policy"]["found_stable"] for row in rows)
    return (
        f"- {name}, {len(rows)} seeds: median ratio to the on-policy result's stability "
        f"{_shown(statistics.median(map(ratio, rows)))} (reached by "
        f"{sum(m is not None for m in first)} of {len(rows)}); to that stability over all that "
        f"on-policy training spent {_shown(statistics.median(map(share_of_all, rows)))}; of whole "
        f"trainings, with all tests of stability, "
        f"{_shown(statistics.median(map(whole_ratio, rows)))}; of their "
        f"learning windows alone {windows:.2f}. All seeds together, "
        f"{_compared(then, goals, margin)} when it was reached, and "
        f"{_compared(ends, goals, margin)} at the end. Largest force MAE over that of the start, "
        f"on test structures: {growth[0]:.2f} (reused, when reached), {growth[1]:.2f} (at the "
        f"end), {growth[2]:.2f} (on policy). On-policy trainings stopped at the limit: {stopped}."
    )


def _compared(models: Sequence[Model], goals: Sequence[Model], margin: float) -> str:
    difference, bound = excess(list(zip(models, goals, strict=True)))
    failed = [sum(m["n_failed"] for m in group) for group in (models, goals)]
    n = sum(m["n_replicas"] for m in goals)
    verdict = "equally stable" if bound <= margin else "not shown to be equally stable"
    return (
        f"{failed[0]} (reused) and {failed[1]} (on policy) of {n} replicas failed, "
        f"{100 * difference:+.2f} % with an upper bound of {100 * bound:+.2f} % where "
        f"{100 * margin:.2f} % are allowed: {verdict}"
    )


def _shown(value: float) -> str:
    return "none" if value == float("inf") else f"{value:.2f}"
