"""What reweighting saves: training with and without the reuse of frames, side by side.

python -m scripts.reuse_study config.yaml --out runs/reuse [--seeds 5]

For every seed the same model is trained twice: "on policy" with one optimizer
step for each simulated window, as in the paper, and "reused" with several.
Both are evaluated from the same structures with fresh replicas.  Force
evaluations are those of the dynamics of all phases, as the training log counts
them.  "Enough" is the first simulation phase in which the reused training is at
least as stable as the model that the on-policy training kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

from stablemd.config_file import load_config
from stablemd.rundir import RunDirectory
from stablemd.stages import TRAIN
from stablemd.strict_json import write_json
from stablemd.workflows.evaluate import run_evaluate
from stablemd.workflows.run_log import stage_records
from stablemd.workflows.train import run_train

EPOCH_FACTOR = 3
"""On policy, a learning phase may take so many times more epochs: one step each."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps-per-epoch", type=int, default=4, help="of the reused training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = []
    for seed in range(options.seeds):
        pair = {
            mode: run(options.config, options.out, seed, mode, options.steps_per_epoch)
            for mode in ("on_policy", "reused")
        }
        pairs.append(pair | {"seed": seed, **compare(pair)})
        write_json(options.out / "reuse.json", {"pairs": pairs, **summary(pairs)})
        print(json.dumps(summary(pairs), indent=1))


def run(config: Path, out: Path, seed: int, mode: str, steps: int) -> dict[str, Any]:
    """One training with its evaluation, in a folder of its own; one that is finished is read."""
    folder = out / f"{mode}_{seed}"
    overrides = ["control=false", f"stable.steps_per_epoch={steps}"]
    if mode == "on_policy":
        epochs = EPOCH_FACTOR * load_config(config).stable.max_learning_epochs
        overrides[1:] = ["stable.steps_per_epoch=1", f"stable.max_learning_epochs={epochs}"]
    settings = load_config(config, overrides=overrides, seed=seed, out=folder)
    directory = RunDirectory(settings.out)
    if not directory.is_finished(TRAIN):
        run_train(settings, resume=True)
    metrics = directory.read_metrics()
    if "after" not in metrics:
        metrics = run_evaluate(settings, overwrite=True)
    records = stage_records(directory, TRAIN)
    return {
        "phases": phases(records),
        "training": metrics["train"],
        "after": metrics["after"],
        "before": metrics.get("before"),
    }


def phases(records: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Of every simulation phase: force evaluations so far, optimizer steps, failure rate."""
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
                    "replica_time_ps": record["replica_time_ps"],
                    "force_mae": record["force_mae_ev_per_angstrom"],
                }
            )
    return found


def compare(pair: dict[str, Any]) -> dict[str, Any]:
    """Force evaluations of the reused training over those of the on-policy one."""
    chosen = pair["on_policy"]["training"]["chosen_cycle"]
    ends = [p for p in pair["on_policy"]["phases"] if p["cycle"] == chosen]
    goal = min(p["failed_fraction"] for p in ends)
    spent = ends[0]["force_evaluations"]
    enough = [
        p["force_evaluations"] for p in pair["reused"]["phases"] if p["failed_fraction"] <= goal
    ]
    return {
        "on_policy_force_evaluations": spent,
        "reused_force_evaluations": enough[0] if enough else None,
        "ratio": enough[0] / spent if enough else None,
    }


def summary(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """The median ratio; a training that did not get there counts as infinitely long."""
    ratios = [float("inf") if p["ratio"] is None else p["ratio"] for p in pairs]
    median = statistics.median(ratios)
    return {
        "n_seeds": len(pairs),
        "n_reached": sum(p["ratio"] is not None for p in pairs),
        "median_ratio": median if median != float("inf") else None,
    }


if __name__ == "__main__":
    main()
