"""What the reuse of frames saved, from the results that scripts/reuse_study.py left."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from stablemd.errors import DataError

RUNS = Path(__file__).resolve().parents[2] / "runs"
FOLDERS = {"ethanol of the demo": "reuse_demo", "ethanol of MD17": "reuse_md17"}


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


def ratio(row: dict[str, Any]) -> float:
    """Force evaluations of the reused training over the other's; inf if it is less stable."""
    reused, other = row["reused"], row["on_policy"]
    if reused["n_failed"] > other["n_failed"]:
        return float("inf")
    return float(reused["force_evaluations"]) / float(other["force_evaluations"])


def table(rows: list[dict[str, Any]]) -> str:
    """The numbers as a Markdown table, and their summary in words."""
    lines = [
        "| | seed | force evaluations, reused / on policy, thousands | ratio "
        "| in learning windows alone | ratio "
        "| optimizer steps | replicas failed: start / reused / on policy "
        "| force MAE: start / reused / on policy, eV/Å |",
        "|---|---|---|---|---|---|---|---|---|",
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
    share = reused["force_evaluations"] / other["force_evaluations"]
    learning = [m["learning_force_evaluations"] for m in (reused, other)]
    failed = " / ".join(str(m["n_failed"]) for m in (start, reused, other))
    errors = " / ".join(f"{m['force_mae_ev_per_angstrom']:.4f}" for m in (start, reused, other))
    ended = "" if other["found_stable"] else " (stopped)"
    return (
        f"| {row['system']} | {row['seed']} | {reused['force_evaluations'] / 1000:.0f} / "
        f"{other['force_evaluations'] / 1000:.0f}{ended} | {share:.2f} "
        f"| {learning[0] / 1000:.0f} / {learning[1] / 1000:.0f} | {learning[0] / learning[1]:.2f} "
        f"| {reused['optimizer_steps']} / {other['optimizer_steps']} "
        f"| {failed} of {reused['n_replicas']} | {errors} |"
    )


def _summary(name: str, rows: list[dict[str, Any]]) -> str:
    ratios = [ratio(row) for row in rows]
    median = statistics.median(ratios)
    failed = {way: sum(row[way]["n_failed"] for row in rows) for way in ("reused", "on_policy")}
    n_replicas = sum(row["reused"]["n_replicas"] for row in rows)
    learning = statistics.median(
        row["reused"]["learning_force_evaluations"] / row["on_policy"]["learning_force_evaluations"]
        for row in rows
    )
    tested = statistics.median(
        1.0 - row["reused"]["learning_force_evaluations"] / row["reused"]["force_evaluations"]
        for row in rows
    )
    shown = "none, since it was less stable" if median == float("inf") else f"{median:.2f}"
    return (
        f"- {name}, {len(rows)} seeds: median ratio {shown}, counting a seed without ratio where "
        f"the reused training ended less stable; it was at least as stable with "
        f"{sum(r < float('inf') for r in ratios)} of them; failed in all {failed['reused']} "
        f"(reused) and {failed['on_policy']} (on policy) of {n_replicas} replicas. Learning "
        f"windows alone: median ratio {learning:.2f}, whatever the stability; simulation phases "
        f"took {100.0 * tested:.0f} % of the reused training's force evaluations (median)."
    )
