"""Ethanol made stable at 500 K and at 700 K by one training, beside trainings at one of them.

The labelled structures at 700 K (about five minutes), and then

stablemd data generate CH3CH2OH --out runs/ethanol_gfn2_700K.npz --temperature-k 700 \
    --frames 2000 --trajectories 8 --seed 1
python -m scripts.state_points_study

Every model is run at both temperatures from the same structures with the same noise.  What
is finished is read, not run again; the page takes the seeds that are there
(python -m scripts.make_estimator_page --only state_points).
"""

from __future__ import annotations

import argparse
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

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "examples" / "ethanol_two_temperatures.yaml"
RUNS = ROOT / "runs" / "state_points"
HOT = "hot"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RUNS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    both = load_config(CONFIG)
    start = options.out / "start.json"
    if not start.exists():
        assert both.potential.path is not None
        write_json(start, measured(both, both.potential.path))
    for seed in options.seeds:
        trainings = {"both": both, "500 K": both.model_copy(update={"state_points": ()})}
        trainings["700 K"] = both.at(HOT)
        for name, config in trainings.items():
            place = f"{name.replace(' ', '')}_{seed}"
            result = options.out / f"{place}.json"
            if not result.exists():
                found = trained(config, options.out / place, seed)
                model = RunDirectory(options.out / place).model("stable")
                write_json(result, {"seed": seed, "at": name, **found, **measured(both, model)})
                print(f"{place}: done", flush=True)


def trained(config: RunConfig, folder: Path, seed: int) -> dict[str, Any]:
    """Train into a folder, and say what it took."""
    stable = config.stable.model_copy(update={"seed": seed})
    config = config.model_copy(update={"stable": stable, "out": folder})
    metrics = run_train(config, resume=folder.exists())
    records = stage_records(RunDirectory(folder), TRAIN)
    return {
        "force_evaluations": sum(int(r["n_force_evaluations"]) for r in records),
        "optimizer_steps": metrics["optimizer_steps"],
        "stop_reason": metrics["stop_reason"],
    }


def measured(config: RunConfig, model: Path) -> dict[str, Any]:
    """Failed replicas and force errors of a model at both temperatures."""
    found = {}
    for name, at in (("500 K", config), ("700 K", config.at(HOT))):
        experiment = prepare(at)
        potential = load_model(model, at, experiment.system.n_atoms)
        metrics = evaluate_model(experiment, "model", potential, {}, SILENT).metrics.to_json()
        found[name] = {
            "n_failed": metrics["stable_time_ps"]["n_failed"],
            "n_replicas": metrics["stable_time_ps"]["n_replicas"],
            "force_mae_ev_per_angstrom": metrics["force_mae_ev_per_angstrom"],
        }
    return {"measured": found}


if __name__ == "__main__":
    main()
