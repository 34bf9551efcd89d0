"""Measure what docs/potentials.md says about the architectures, and write the page.

    python -m scripts.write_potentials_page [--part forces] ...

It needs the reference data beside the repository (``../shared/data``).  Parts
that are not measured anew keep their numbers in ``docs/potentials.json``.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from scripts.potentials_page.cost import force_cost, triplet_cost
from scripts.potentials_page.training import LEARNING_RATE, MODELS, TASKS, train
from stablemd.versions import collect_versions

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "potentials.md"
RESULTS = ROOT / "docs" / "potentials.json"
PROSE = Path(__file__).resolve().parent / "potentials_page" / "prose.md"
TRAININGS = {f"{task}: {model}": (task, model) for task in TASKS for model in MODELS}
BY_AUTOGRAD = ", by autograd"
PARTS = (*TRAININGS, "forces", "triplets")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all")
    parser.add_argument("--page-only", action="store_true", help="measure nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.page_only:
        if not DATA.is_dir():
            raise SystemExit(f"{DATA}: the reference data are not at hand")
        for part in options.part or PARTS:
            measured = {"rows": _measure(part), **_where_and_when()}
            results = {**_results(), part: measured}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    missing = [part for part in ("forces", "triplets") if part not in _results()]
    if missing:
        print(f"{RESULTS} is kept; the page needs also: {', '.join(missing)}")
        return
    PAGE.write_text(page(_results()), "utf-8")


def _results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    return found


def _measure(part: str) -> list[dict[str, Any]]:
    if part in TRAININGS:
        task, model = TRAININGS[part]
        return [train(model, TASKS[task], DATA)]
    return force_cost(DATA) if part == "forces" else triplet_cost(DATA)


def _where_and_when() -> dict[str, str]:
    versions = collect_versions()
    return {
        "hardware": f"{versions['cpu']}, one core",
        "torch": str(versions["torch"]),
        "date": datetime.now(UTC).date().isoformat(),
    }


def page(results: dict[str, Any]) -> str:
    """The page: the prose with the tables put in."""
    text = PROSE.read_text("utf-8")
    tables = {
        "training": _training_table(results),
        "forces": _force_table(results["forces"]["rows"]),
        "triplets": _triplet_table(results["triplets"]["rows"]),
        "conditions": _conditions(results),
    }
    for name, table in tables.items():
        text = text.replace(f"<!-- {name} -->", table)
    return text


def _training_table(results: dict[str, Any]) -> str:
    lines = [
        "| trained on | model | parameters | CPU s | epochs | force MAE, eV/Å | of the mean "
        "absolute force | energy MAE, meV/atom |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for part, (task, model) in TRAININGS.items():
        if part not in results:
            lines.append(f"| {TASKS[task].title} | {model} | not measured | | | | | |")
            continue
        (r,) = results[part]["rows"]
        mae = r["force_mae_ev_per_angstrom"]
        share = mae / r["mean_absolute_force_ev_per_angstrom"]
        lines.append(
            f"| {TASKS[task].title} | {model} | {r['parameters']:,} | {r['cpu_s']:.0f} | "
            f"{r['epochs']} | {mae:.4f} | {100 * share:.1f} % | "
            f"{r['energy_mae_mev_per_atom']:.2f} |"
        )
    return "\n".join(lines)


def _force_table(rows: list[dict[str, Any]]) -> str:
    models = [k for k in rows[0] if k != "system" and not k.endswith(BY_AUTOGRAD)]
    lines = [f"| system | {' | '.join(models)} |", "|---|" + "--:|" * len(models)]
    lines += [f"| {r['system']} | {' | '.join(_cost(r, m) for m in models)} |" for r in rows]
    return "\n".join(lines)


def _cost(row: dict[str, Any], model: str) -> str:
    """The time and, where it was measured beside it, how many times longer autograd takes."""
    slow = row.get(model + BY_AUTOGRAD)
    return f"{row[model]:.0f}" + ("" if slow is None else f" (× {slow / row[model]:.1f})")


def _triplet_table(rows: list[dict[str, Any]]) -> str:
    names = [k for k in rows[0] if k not in ("cutoff", "neighbours")]
    lines = [
        f"| cutoff, Å | neighbours | triplets per atom | {' | '.join(names)} |",
        "|--:|--:|--:|" + "--:|" * len(names),
    ]
    for r in rows:
        k = r["neighbours"]
        values = " | ".join(f"{r[n]:.1f}" for n in names)
        lines.append(f"| {r['cutoff']:g} | {k:.0f} | {k * (k - 1):.0f} | {values} |")
    return "\n".join(lines)


def _conditions(results: dict[str, Any]) -> str:
    parts = sorted(
        {f"{r['hardware']}, PyTorch {r['torch']}, {r['date']}" for r in results.values()}
    )
    return (
        f"Adam at {LEARNING_RATE:g}; processor time, since the machine was shared with other "
        "work, which also slows the memory. " + "; ".join(parts) + "."
    )


if __name__ == "__main__":
    main()
