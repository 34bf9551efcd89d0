"""From a model trained by NequIP or MACE to a repaired one, run by the package itself.

    python scripts/write_repair_study.py --package nequip --folder runs/repair

Runs in the environment of the package (``make test-adapters`` makes them). The package's
own program trains a small model of ethanol; ``stablemd train examples/<package>.yaml``
repairs it; then the package's own ASE calculator simulates with both files. The numbers
go to docs/adapters.json, and their table into docs/adapters.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from repair.own_dynamics import run_in_ase
from repair.stock import train_stock

from stablemd.atomic import write_atomic
from stablemd.config_file import load_config
from stablemd.data import fit_atomic_energies
from stablemd.evaluation.report_text import number
from stablemd.rundir import RunDirectory
from stablemd.strict_json import write_json
from stablemd.versions import collect_versions
from stablemd.workflows.experiment import Experiment, prepare

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "adapters.md"
RESULTS = ROOT / "docs" / "adapters.json"
BEGIN, END = "<!-- repair study -->", "<!-- end of repair study -->"
SUFFIX = {"nequip": ".ckpt", "mace": ".model"}
EPOCHS = {"nequip": 14, "mace": 50}
"""Of the stock models: so few that their dynamics fails within picoseconds."""

DISTRIBUTION = {"nequip": "nequip", "mace": "mace-torch"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--package", choices=SUFFIX)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "repair")
    parser.add_argument(
        "--epochs", type=int, help=f"of the package's own training; by default {EPOCHS}"
    )
    parser.add_argument("--length-ps", type=float, default=10.0, help="of a simulation in ASE")
    parser.add_argument("--n-start", type=int, default=1, help="simulations in ASE of each model")
    parser.add_argument("--page-only", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.page_only:
        if options.package is None:
            parser.error("name the --package")
        torch.set_num_threads(1)
        measured = study(
            options.package,
            options.folder / options.package,
            epochs=options.epochs or EPOCHS[options.package],
            length_ps=options.length_ps,
            n_start=options.n_start,
        )
        write_json(RESULTS, {**results(), options.package: measured})
    text = PAGE.read_text("utf-8")
    head, rest = text.split(BEGIN)
    write_atomic(PAGE, head + BEGIN + "\n" + section(results()) + END + rest.split(END)[1])


def results() -> dict[str, Any]:
    """What was measured so far, by package."""
    found: dict[str, Any] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    return found


def study(
    package: str, folder: Path, *, epochs: int, length_ps: float, n_start: int
) -> dict[str, Any]:
    """Train, repair and run one package's model.

    Args:
        package: ``nequip`` or ``mace``.
        folder: everything is written there; a stock model that is there is taken.
        epochs: of the package's own training.
        length_ps: of the simulations in ASE.
        n_start: simulations of each model, from the first test structures.
    """
    example = f"examples/{package}.yaml"
    stock, out = folder / f"ethanol{SUFFIX[package]}", folder / "run"
    experiment = prepare(load_config(ROOT / example, overrides=("potential.path=null",)))
    cpu: dict[str, float] = {}
    if not stock.is_file():
        begin = _children_cpu_s()
        energies = fit_atomic_energies(experiment.train)
        train_stock(package, experiment.train, experiment.validation, energies, folder, epochs)
        cpu["stock"] = _children_cpu_s() - begin
    cpu["repair"] = _repair(ROOT / example, stock, out)
    run = RunDirectory(out)
    files = {"before": stock, "after": run.model("stable")}
    trained = run.read_metrics()["train"]
    return {
        "package": f"{DISTRIBUTION[package]} {_version(package)}",
        "epochs": epochs,
        "command": f"stablemd train {example}",
        "files": {role: path.name for role, path in files.items()},
        "chosen_cycle": trained["chosen_cycle"],
        "optimizer_steps": trained["optimizer_steps"],
        "stop_reason": trained["stop_reason"],
        "candidates": trained["candidates"],
        "n_replicas": run.read_config()["stable"]["n_replicas"],
        "seconds": cpu,
        "own_dynamics": {
            role: _own_dynamics(package, path, experiment, length_ps, n_start)
            for role, path in files.items()
        },
        "hardware": f"{collect_versions()['cpu']}, one core",
        "torch": str(torch.__version__),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _repair(example: Path, stock: Path, out: Path) -> float:
    """The one command; its CPU time in seconds."""
    begin = _children_cpu_s()
    program = [sys.executable, "-c", "from stablemd.cli import main; main()"]
    arguments = ["train", str(example), "--out", str(out), "--overwrite"]
    subprocess.run([*program, *arguments, "--set", f"potential.path={stock}"], check=True)
    return _children_cpu_s() - begin


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _own_dynamics(
    package: str, path: Path, experiment: Experiment, length_ps: float, n_start: int
) -> list[dict[str, Any]]:
    dynamics = experiment.config.stable.dynamics
    starts = experiment.require_test().positions[:n_start].numpy()
    return [
        run_in_ase(
            package,
            path,
            experiment.system,
            start,
            length_ps=length_ps,
            temperature_k=dynamics.temperature_k,
            dt_fs=dynamics.dt_fs,
            friction_per_ps=dynamics.friction_per_ps,
            bond_threshold=dynamics.bond_threshold,
            seed=seed,
        ).to_json()
        for seed, start in enumerate(starts)
    ]


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(DISTRIBUTION[package])


def section(measured: dict[str, Any]) -> str:
    """Markdown of what was measured."""
    if not measured:
        return "The study has not been run at full length yet, so no numbers stand here.\n"
    lines = []
    for package, m in measured.items():
        first = m["candidates"][0]
        chosen = next(c for c in m["candidates"] if c["cycle"] == m["chosen_cycle"])
        calculator = m["own_dynamics"]["after"][0]["calculator"]
        lines += [
            f"**{m['package']}** ({m['epochs']} epochs of its own training program). "
            f"`{m['command']}` made `{m['files']['after']}` of `{m['files']['before']}` with "
            f"{m['optimizer_steps']} optimizer steps in {number(m['seconds']['repair'])} s of CPU "
            f"time. In stablemd's own simulation phases {first['n_failed']} of {m['n_replicas']} "
            f"replicas failed within {number(first['time_ps'])} ps of replica time before, and "
            f"{chosen['n_failed']} of {m['n_replicas']} within {number(chosen['time_ps'])} ps "
            f"after. Then `{calculator.rpartition('.')[2]}` in ASE, from the same start structures "
            "with the same velocities and noise:",
            "",
            f"| {package} in its own calculator | reached | failure | ms per step |",
            "|---|---|---|---|",
        ]
        for role, name in (("before", "stock file"), ("after", "repaired file")):
            for d in m["own_dynamics"][role]:
                lines.append(
                    f"| {name} | {number(d['reached_ps'])} of {number(d['length_ps'])} ps | "
                    f"{d['failure'] or 'none'} | {number(1e3 * d['cpu_s'] / d['n_steps'])} |"
                )
        lines += ["", f"{m['hardware']}, torch {m['torch']}, {m['date']}.", ""]
    for package in DISTRIBUTION:
        if package not in measured:
            lines += [f"The study has not been run with {DISTRIBUTION[package]} yet.", ""]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
