"""What reweighting saves: training with and without the reuse of frames, side by side.

python -m scripts.reuse_study scripts/reuse/demo.yaml --out runs/reuse_demo
python -m scripts.reuse_study scripts/reuse/md17_ethanol.yaml --out runs/reuse_md17 \
    --start runs/md17_ethanol/pretrained.pt

For every seed the same model is trained twice.  "Reused": several optimizer steps
for each simulated window, until training ends by its own rule.  "On policy": one
step for each window, as in the paper, with so many more epochs in a learning phase
that it may take as many steps there, until it ends by the same rule or has spent
LIMIT times the force evaluations of the first.  Both models are then run from the
same structures with the same noise.  Force evaluations are those of the dynamics
of all phases.  What is finished is read, not run again; the page takes the seeds
that are there (python -m scripts.make_estimator_page --only reuse).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from stablemd.config import RunConfig
from stablemd.config_file import load_config
from stablemd.rundir import RunDirectory
from stablemd.stages import TRAIN
from stablemd.strict_json import write_json
from stablemd.workflows.evaluate import evaluate_model
from stablemd.workflows.experiment import prepare
from stablemd.workflows.models import load_model
from stablemd.workflows.reporter import SILENT
from stablemd.workflows.run_log import stage_records
from stablemd.workflows.train import run_train

LIMIT = 3.0
"""On-policy training ends once it has spent so many times the force evaluations."""

STABLE = "stable:"
"""How the reason begins with which a training ends that found its model stable."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="start model, where the configuration has none")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--steps-per-epoch", type=int, default=8, help="of the reused training")
    parser.add_argument("--reused-only", action="store_true", help="for a choice of settings")
    options = parser.parse_args()
    torch.set_num_threads(1)
    common = [] if options.start is None else [f"potential.path={options.start.resolve()}"]
    for seed in options.seeds:
        result = options.out / f"seed_{seed}.json"
        if result.exists():
            continue
        steps = options.steps_per_epoch
        reused = train(
            options.config,
            options.out / f"reused_{seed}",
            seed,
            [*common, f"stable.steps_per_epoch={steps}"],
        )
        start = options.out / "start.json"
        if not start.exists():
            write_json(start, start_of(options.config, common, options.out, seed))
        print(seed, "reused", json.dumps({k: v for k, v in reused.items() if k != "phases"}))
        if options.reused_only:
            continue
        epochs = steps * load_config(options.config).stable.max_learning_epochs
        on_policy = train(
            options.config,
            options.out / f"on_policy_{seed}",
            seed,
            [*common, "stable.steps_per_epoch=1", f"stable.max_learning_epochs={epochs}"],
            limit=round(LIMIT * reused["force_evaluations"]),
        )
        print(seed, "on policy", json.dumps({k: v for k, v in on_policy.items() if k != "phases"}))
        write_json(
            result,
            {"seed": seed, "steps_per_epoch": steps, "reused": reused, "on_policy": on_policy},
        )


def train(
    config: Path, folder: Path, seed: int, overrides: list[str], *, limit: int | None = None
) -> dict[str, Any]:
    """One training with its evaluation, cycle by cycle until it ends or has spent ``limit``."""
    directory = RunDirectory(folder)
    last = load_config(config).stable.max_cycles
    for cycles in range(1, last + 1):
        settings = load_config(
            config,
            overrides=[*overrides, f"stable.max_cycles={last if limit is None else cycles}"],
            seed=seed,
            out=folder,
        )
        metrics = run_train(settings, resume=True)
        done = phases(stage_records(directory, TRAIN))
        spent = done[-1]["force_evaluations"]
        if metrics["stop_reason"].startswith(STABLE) or limit is None or spent >= limit:
            break
    return {
        "force_evaluations": spent,
        "learning_force_evaluations": in_learning(stage_records(directory, TRAIN)),
        "optimizer_steps": metrics["optimizer_steps"],
        "stop_reason": metrics["stop_reason"],
        "found_stable": metrics["stop_reason"].startswith(STABLE),
        "phases": done,
        **measured(settings, directory.model("stable")),
    }


def in_learning(records: list[dict[str, Any]]) -> int:
    """Force evaluations of the windows that optimizer steps were taken on."""
    return sum(int(r["n_force_evaluations"]) for r in records if r.get("phase") == "learn")


def start_of(config: Path, overrides: list[str], out: Path, seed: int) -> dict[str, Any]:
    """Stability and errors of the start model, which all seeds have in common."""
    settings = load_config(config, overrides=overrides, seed=seed, out=out)
    return measured(settings, RunDirectory(out / f"reused_{seed}").model("start"))


def measured(settings: RunConfig, model: Path) -> dict[str, Any]:
    """Failed replicas and errors of a model in an evaluation."""
    experiment = prepare(settings)
    potential = load_model(model, settings, experiment.system.n_atoms)
    result = evaluate_model(experiment, "model", potential, {}, SILENT)
    return {
        "n_failed": int(result.stable_time.n_failed),
        "n_replicas": int(result.stable_time.n_replicas),
        "force_mae_ev_per_angstrom": result.metrics.to_json()["force_mae_ev_per_angstrom"],
    }


def phases(records: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Of every simulation phase: force evaluations so far, optimizer steps, failed share."""
    found, spent = [], 0
    for record in records:
        spent += int(record.get("n_force_evaluations", 0))
        if record.get("phase") == "simulate":
            found.append(
                {
                    "cycle": record["cycle"],
                    "force_evaluations": spent,
                    "optimizer_steps": record["optimizer_steps"],
                    "failed_fraction": record["failed_fraction"],
                }
            )
    return found


if __name__ == "__main__":
    main()
