"""One training at two temperatures, from the results that scripts/state_points_study.py left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from scripts.state_points_study import RUNS
from stablemd.errors import DataError

TRAININGS = ("both", "500 K", "700 K")
TEMPERATURES = ("500 K", "700 K")


def measure() -> list[dict[str, Any]]:
    """The start model, and one row for every training that is there.

    Raises:
        DataError: there is none.
    """
    start = RUNS / "start.json"
    paths = [p for at in TRAININGS for p in sorted(RUNS.glob(f"{at.replace(' ', '')}_*.json"))]
    if not start.exists() or not paths:
        raise DataError(f"no results under {RUNS}; run python -m scripts.state_points_study first")
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    return [{"at": "start", **json.loads(start.read_text(encoding="utf-8"))}, *rows]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Failed replicas and force errors at both temperatures, of every model."""
    head = ["trained at", "seed"]
    head += [f"{what} at {at}" for what in ("failed", "force MAE, eV/Å,") for at in TEMPERATURES]
    head += ["optimizer steps", "force evaluations, thousands", "ended"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        found = [row["measured"][at] for at in TEMPERATURES]
        cells = ["(start model)" if row["at"] == "start" else row["at"], str(row.get("seed", ""))]
        cells += [f"{m['n_failed']} of {m['n_replicas']}" for m in found]
        cells += [f"{m['force_mae_ev_per_angstrom']:.4f}" for m in found]
        if row["at"] == "start":
            cells += ["", "", ""]
        else:
            stable = row["stop_reason"].startswith("stable:")
            cells += [
                str(row["optimizer_steps"]),
                f"{row['force_evaluations'] / 1000:.0f}",
                "stable" if stable else row["stop_reason"],
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *_sums(rows)])


def _sums(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Failures of all seeds together, for each kind of training."""
    sums = []
    for name in TRAININGS:
        own = [row for row in rows if row["at"] == name]
        if not own:
            continue
        parts = [
            f"{sum(r['measured'][at]['n_failed'] for r in own)} of "
            f"{sum(r['measured'][at]['n_replicas'] for r in own)} replicas at {at}"
            for at in TEMPERATURES
        ]
        sums.append(f"- {name}, {len(own)} seeds: {' and '.join(parts)} failed.")
    return sums
