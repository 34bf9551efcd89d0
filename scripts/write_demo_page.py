"""Write docs/demo.md and docs/demo.json from finished demos with different seeds.

for seed in 0 1 2; do stablemd demo --out runs/demo$seed --seed $seed; done
python scripts/write_demo_page.py runs/demo0 runs/demo1 runs/demo2
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stablemd.evaluation.metrics import compare
from stablemd.rundir import RunDirectory
from stablemd.strict_json import write_json

ROLES = ("before", "control", "after")
KEPT = ("stable_time_ps", "force_mae_ev_per_angstrom", "energy_mae_ev")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished demos")
    parser.add_argument("--out", type=Path, default=Path("docs/demo.md"))
    options = parser.parse_args()
    numbers = [read(path) for path in options.runs]
    write_json(options.out.with_suffix(".json"), {"runs": numbers})
    options.out.write_text(page(numbers), encoding="utf-8")
    print(f"written: {options.out}, {options.out.with_suffix('.json')}")


def read(path: Path) -> dict[str, Any]:
    """The numbers of one demo that stand on the page."""
    run = RunDirectory(path)
    metrics = run.read_metrics()
    config, versions = run.read_config(), run.read_versions()
    return {
        "seed": config["seed"],
        **{role: {key: metrics[role][key] for key in KEPT} for role in ROLES},
        "comparison": compare(metrics["before"], metrics["after"], metrics["control"]),
        "distance_distribution": {
            role: metrics[role]["observables"]["distance_distribution"] for role in ROLES
        },
        "wall_s": metrics["wall_s"],
        "learning": learning_times(run),
        "versions": versions,
    }


def learning_times(run: RunDirectory) -> dict[str, dict[str, float]]:
    """Seconds of all learning epochs: the MD, the gradient phase, gradient and steps together."""
    epochs = [r for r in run.log.read() if r.get("phase") == "learn"]
    return {
        kind: {part: sum(e[kind][part] for e in epochs) for part in epochs[0][kind]}
        for kind in ("wall_s", "cpu_s")
        if epochs
    }


def page(runs: list[dict[str, Any]]) -> str:
    """The page in Markdown."""
    versions = runs[0]["versions"]
    stable = runs[0]["before"]["stable_time_ps"]
    lines = [
        "# The demo with several seeds",
        "",
        "Written by `scripts/write_demo_page.py` from `stablemd demo --seed N`; the numbers are "
        "in [demo.json](demo.json). The seed changes start structures, velocities and noise of "
        "training and evaluation; data and start model are those of the package.",
        "",
        f"{stable['n_replicas']} replicas of up to {stable['length_ps']:g} ps. MTTF: mean time "
        "to failure. Settings were chosen on other seeds (0 to 2, 11 to 13; 3 to 10 ran with "
        "earlier states of the code and had 0 to 2 failures after training) and on ethanol, "
        "aspirin and 3BPA with models of other sizes; the budget of 1.06 dates from an earlier "
        "version, whose first run with 1.1 had a test force MAE of 1.099 times the start. The "
        "start model was chosen among five "
        "for failing often. Ratios with the lower "
        "95 % bound; no failure after training leaves the ratio "
        "open and gives the bound alone. Energies of `control` and `after` have their constant "
        "set on training frames.",
        "",
        "| seed | failed before / control / after | MTTF before, ps | MTTF after / before | "
        "MTTF after / control | force MAE before → after, eV/Å | ratio | "
        "energy MAE before / control / after, eV | h(r) MAE before → after | "
        "gradient phase / MD, processor time | the same, wall time | wall time, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(run) for run in runs]
    lines += [
        "",
        "Gradient phase / MD: time of the gradient phase (observables, energies that the steps and "
        "their limits need, backward passes, error bars) over that of the learning epochs' MD, "
        "which uses all cores, where most of the gradient phase uses one. "
        "The MAE of h(r) is the integral of the absolute difference from the test structures, "
        "with one standard error.",
        "",
        f"{versions.get('cpu')}, {versions.get('cores')} cores, torch {versions.get('torch')}, "
        "shared with other work while it ran: wall times are upper bounds.",
        "",
    ]
    return "\n".join(lines)


def _row(run: dict[str, Any]) -> str:
    failed = " / ".join(str(run[role]["stable_time_ps"]["n_failed"]) for role in ROLES)
    energies = " / ".join(f"{run[role]['energy_mae_ev']:.3f}" for role in ROLES)
    ratios = run["comparison"]["mean_time_to_failure_ratio"]
    wall, cpu = (run["learning"][kind] for kind in ("wall_s", "cpu_s"))
    forces = [run[role]["force_mae_ev_per_angstrom"] for role in ("before", "after")]
    return (
        f"| {run['seed']} | {failed} | "
        f"{run['before']['stable_time_ps']['mean_time_to_failure']:.2f} | "
        f"{_ratio(ratios['after_over_before'])} | {_ratio(ratios['after_over_control'])} | "
        f"{forces[0]:.4f} → {forces[1]:.4f} | {forces[1] / forces[0]:.3f} | {energies} | "
        f"{_distances(run)} | {cpu['estimator'] / cpu['sample']:.3f} | "
        f"{wall['estimator'] / wall['sample']:.3f} | "
        f"{run['wall_s']['total']:.0f} |"
    )


def _distances(run: dict[str, Any]) -> str:
    before, after = (run["distance_distribution"][role] for role in ("before", "after"))
    return " → ".join(f"{m['mae']:.3f} ± {m['stderr']:.3f}" for m in (before, after))


def _ratio(estimate: dict[str, Any]) -> str:
    bound = f"≥ {estimate['lower']:.1f}"
    return bound if estimate["ratio"] is None else f"{estimate['ratio']:.0f} ({bound})"


if __name__ == "__main__":
    main()
