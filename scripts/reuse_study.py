"""What reweighting saves: training with and without the reuse of frames, side by side.

python -m scripts.reuse_study scripts/reuse/demo.yaml --out runs/reuse_demo
python -m scripts.reuse_study scripts/reuse/md17_ethanol.yaml --out runs/reuse_md17 \
    --start runs/md17_ethanol/pretrained.pt

For every seed the same model is trained twice.  "Reused": several optimizer steps
for each simulated window, until training ends by its own rule.  "On policy": one
step for each window, as in the paper, with up to ON_POLICY_EPOCHS windows in a learning
phase, until it ends by the same rule or has spent LIMIT times the force evaluations
of the first.  The model that a training would give
back if it ended after a cycle is run from the same structures with the same noise,
for every cycle of both, so that one can tell when each had reached a stability.

Force evaluations are those of the dynamics of all phases; those of an evaluation do
not count.  What is finished is read, not run again; the page takes the seeds that are
there (python -m scripts.make_estimator_page --only reuse).

The same reused trainings against on-policy training by other settings:

python -m scripts.reuse_study scripts/reuse/demo.yaml --out runs/reuse_demo_small \
    --reused-from runs/reuse_demo --set stable.learning_replicas=48

A choice of settings, on seeds that the comparison does not use:

python -m scripts.reuse_study scripts/reuse/demo.yaml --out runs/reuse_choice/NAME/demo \
    --seeds 10 11 12 --set stable.max_failed=0.25
"""

from __future__ import annotations

import argparse
import json
import shutil
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
"""On-policy training ends after a cycle that has spent so many times the force evaluations."""

ON_POLICY_EPOCHS = 16
"""Windows of a learning phase of on-policy training at most."""

STABLE = "stable:"
"""How the reason begins with which a training ends that found its model stable."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="start model, where the configuration has none")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(40, 48)))
    parser.add_argument("--reused-from", type=Path, help="earlier results with its trainings")
    parser.add_argument("--steps-per-epoch", type=int, default=24, help="of the reused training")
    parser.add_argument("--set", nargs="+", default=[], help="other settings, KEY=VALUE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    common = [] if options.start is None else [f"potential.path={options.start.resolve()}"]
    common += options.set
    for seed in options.seeds:
        result = options.out / f"seed_{seed}.json"
        if result.exists():
            continue
        found = {"seed": seed, "steps_per_epoch": options.steps_per_epoch, "settings": options.set}
        found["reused"] = reused = (
            reused_training(options, common, seed)
            if options.reused_from is None
            else read(options.reused_from / result.name)["reused"]
        )
        if options.reused_from is not None:
            write_json(options.out / "start.json", read(options.reused_from / "start.json"))
        found["on_policy"] = train(
            options.config,
            options.out / f"on_policy_{seed}",
            seed,
            [
                *common,
                "stable.steps_per_epoch=1",
                f"stable.max_learning_epochs={ON_POLICY_EPOCHS}",
            ],
            limit=round(LIMIT * reused["force_evaluations"]),
        )
        write_json(result, found)
        print(json.dumps(found), flush=True)


def reused_training(options: argparse.Namespace, common: list[str], seed: int) -> dict[str, Any]:
    """The training with reuse, and the numbers of its start model where they are not there yet."""
    folder = options.out / f"reused_{seed}"
    several = f"stable.steps_per_epoch={options.steps_per_epoch}"
    reused = train(options.config, folder, seed, [*common, several])
    if not (options.out / "start.json").exists():
        settings = load_config(options.config, overrides=common, seed=seed, out=options.out)
        write_json(
            options.out / "start.json", measured(settings, RunDirectory(folder).model("start"))
        )
    return reused


def read(path: Path) -> dict[str, Any]:
    """An earlier result."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def train(
    config: Path, folder: Path, seed: int, overrides: list[str], *, limit: int | None = None
) -> dict[str, Any]:
    """One training with the evaluation of its model after every cycle, until it ends.

    Returns:
        ``models``: every model that was the best so far, in order, with the force
        evaluations up to its last optimizer step, and what an evaluation found.  The last
        is the one that the training kept.  The rest is about the training as a whole.
    """
    shutil.rmtree(folder, ignore_errors=True)  # an unfinished one has not measured every cycle
    directory = RunDirectory(folder)
    models: list[dict[str, Any]] = []
    for cycles in range(1, load_config(config, overrides=overrides).stable.max_cycles + 1):
        settings = load_config(
            config, overrides=[*overrides, f"stable.max_cycles={cycles}"], seed=seed, out=folder
        )
        metrics = run_train(settings, resume=True)
        records = stage_records(directory, TRAIN)
        steps = metrics["chosen_steps"]
        if steps and (not models or models[-1]["optimizer_steps"] != steps):
            models.append(
                {
                    "optimizer_steps": steps,
                    "force_evaluations": up_to_step(records, steps),
                    **measured(settings, directory.model("stable")),
                }
            )
        spent = sum(int(r.get("n_force_evaluations", 0)) for r in records)
        found_stable = metrics["stop_reason"].startswith(STABLE)
        if found_stable or (limit is not None and spent >= limit):
            break
    return {
        "force_evaluations": spent,
        "learning_force_evaluations": in_learning(records),
        "optimizer_steps": metrics["optimizer_steps"],
        "stop_reason": metrics["stop_reason"],
        "found_stable": found_stable,
        "models": models,
    }


def in_learning(records: list[dict[str, Any]]) -> int:
    """Force evaluations of the windows of learning phases."""
    return sum(int(r["n_force_evaluations"]) for r in records if r.get("phase") == "learn")


def up_to_step(records: list[dict[str, Any]], n_steps: int) -> int:
    """Force evaluations up to the window of the last of so many optimizer steps, that included."""
    spent, found = 0, 0
    for record in records:
        spent += int(record.get("n_force_evaluations", 0))
        if record.get("phase") == "learn" and record["steps"]:
            if record["optimizer_steps"] > n_steps:
                break
            found = spent
    return found


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


if __name__ == "__main__":
    main()
