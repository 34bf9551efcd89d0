"""Stock models, trained by the packages' own programs on the structures of an example."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from stablemd.data import Frames, write_frames

NEQUIP_CONFIG = """
run: [train]
seed: 1
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 1
  train_file_path: {train}
  val_file_path: {validation}
  transforms:
    - _target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper
      model_type_names: [H, C, O]
    - _target_: nequip.data.transforms.NeighborListTransform
      r_max: 4.0
  train_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 5, shuffle: true}}
  val_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 25}}
  stats_manager:
    _target_: nequip.data.CommonDataStatisticsManager
    type_names: [H, C, O]
    dataloader_kwargs: {{batch_size: 5}}
trainer:
  _target_: lightning.Trainer
  accelerator: cpu
  max_epochs: {epochs}
  logger: false
  enable_progress_bar: false
  callbacks:
    - _target_: lightning.pytorch.callbacks.ModelCheckpoint
      dirpath: {folder}
      filename: ethanol
training_module:
  _target_: nequip.train.EMALightningModule
  ema_decay: 0.98
  loss:
    _target_: nequip.train.EnergyForceLoss
    per_atom_energy: true
    coeffs: {{total_energy: 1.0, forces: 1.0}}
  val_metrics:
    _target_: nequip.train.EnergyForceMetrics
    coeffs: {{total_energy_mae: 1.0, forces_mae: 1.0}}
  optimizer: {{_target_: torch.optim.Adam, lr: 0.01}}
  model:
    _target_: nequip.model.NequIPGNNModel
    seed: 1
    model_dtype: float32
    type_names: [H, C, O]
    r_max: 4.0
    num_layers: 2
    l_max: 1
    parity: false
    num_features: 8
    radial_mlp_depth: 1
    radial_mlp_width: 16
    avg_num_neighbors: ${{training_data_stats:num_neighbors_mean}}
    per_type_energy_scales: ${{training_data_stats:per_type_forces_rms}}
    per_type_energy_shifts: {{H: {H}, C: {C}, O: {O}}}
global_options: {{allow_tf32: false}}
"""


def train_stock(
    package: str,
    train: Frames,
    validation: Frames,
    energies: dict[int, float],
    folder: Path,
    epochs: int,
) -> Path:
    """A model in the package's own format, by the package's own training program.

    Args:
        package: ``nequip`` or ``mace``.
        train: structures to fit.
        validation: structures that choose among epochs.
        energies: constant energy of each element in eV, by atomic number.
        folder: everything is written there.
        epochs: of the training.

    Returns:
        ``ethanol.ckpt`` or ``ethanol.model`` in that folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, frames in (("train", train), ("validation", validation)):
        files[name] = (folder / f"{name}.extxyz").resolve()
        write_frames(files[name], frames)
    if package == "nequip":
        return _nequip(files, energies, folder.resolve(), epochs)
    return _mace(files, energies, folder.resolve(), epochs)


def _nequip(files: dict[str, Path], energies: dict[int, float], folder: Path, epochs: int) -> Path:
    (folder / "config.yaml").write_text(
        NEQUIP_CONFIG.format(
            **files, folder=folder, epochs=epochs, H=energies[1], C=energies[6], O=energies[8]
        )
    )
    _run(["-m", "nequip.scripts.train", "-cp", str(folder), "-cn", "config"], folder)
    return folder / "ethanol.ckpt"


def _mace(files: dict[str, Path], energies: dict[int, float], folder: Path, epochs: int) -> Path:
    options = {
        "name": "ethanol",
        "train_file": files["train"],
        "valid_file": files["validation"],
        "energy_key": "energy",
        "forces_key": "forces",
        "E0s": str(energies),
        "model": "MACE",
        "r_max": 4.0,
        "num_channels": 8,
        "max_L": 1,
        "max_ell": 2,
        "correlation": 2,
        "MLP_irreps": "8x0e",
        "radial_MLP": "[16, 16]",
        "batch_size": 5,
        "valid_batch_size": 25,
        "max_num_epochs": epochs,
        "eval_interval": 5,
        "default_dtype": "float32",
        "seed": 1,
        "plot": False,
    }
    arguments = [f"--{key}={value}" for key, value in options.items()]
    _run(["-m", "mace.cli.run_train", *arguments], folder)
    return folder / "ethanol.model"


def _run(arguments: list[str], folder: Path) -> None:
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        raise SystemExit(f"{arguments[1]} failed:\n{(ended.stdout + ended.stderr)[-3000:]}")
