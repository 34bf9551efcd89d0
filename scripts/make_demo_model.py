"""Train the demo's starting model: SchNet on 25 frames, as users with little data have it.

    python scripts/make_demo_model.py

It writes ``src/stablemd/demo/data/ethanol_schnet.pt`` (about two minutes on one core).
The split is that of the demo's configuration, so that the model has seen exactly the
frames that the demo calls training frames.
"""

from __future__ import annotations

from typing import Any

import torch

from stablemd.data import read_frames, split
from stablemd.demo import DATA_PATH, MODEL_PATH
from stablemd.potentials import SchNet
from stablemd.potentials.files import save_potential
from stablemd.system import System
from stablemd.training.label_errors import energy_and_force_mae
from stablemd.training.pretrain import PretrainSettings, pretrain, set_energy_scale

SETTINGS = PretrainSettings(
    max_epochs=867, batch_size=5, plateau_patience=60, early_stopping=400, seed=0
)


def main() -> None:
    torch.set_num_threads(1)
    frames = read_frames(DATA_PATH)
    parts = split(frames, n_train=25, n_validation=50, seed=0)
    torch.manual_seed(0)
    potential = SchNet(n_features=24, n_filters=24, n_interactions=3, n_gaussians=40, cutoff=5.0)
    set_energy_scale(potential, parts.train)

    def report(record: dict[str, Any]) -> None:
        if record["epoch"] % 50 == 0:
            print(f"epoch {record['epoch']}: {record['force_mae_ev_per_angstrom']:.4f} eV/Å")

    result = pretrain(potential, parts.train, parts.validation, SETTINGS, on_epoch=report)
    errors = energy_and_force_mae(potential, System.create(frames.numbers), parts.require_test())
    print(f"best epoch {result.best_epoch}, test errors {errors}")
    save_potential(potential, MODEL_PATH)


if __name__ == "__main__":
    main()
