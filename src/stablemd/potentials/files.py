"""Potentials as files: architecture, hyper-parameters and weights, without code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from stablemd.errors import PotentialError
from stablemd.potentials import POTENTIALS, Potential, make_potential
from stablemd.potentials.schnet_weights import schnet_from_weights

FORMAT = "stablemd-potential"
VERSION = 1


def save_potential(potential: Potential, path: str | Path) -> None:
    """Write a potential so that ``load_potential`` gives the same numbers back.

    The file is replaced in one step: an interrupted write leaves the old one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [name for name, kind in POTENTIALS.items() if type(potential) is kind]
    if not names:
        raise PotentialError(
            f"{type(potential).__name__} is not a registered potential and can't be saved by "
            f"name; save its state_dict, or register it (known: {sorted(POTENTIALS)})"
        )
    payload = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": names[0],
        "hyperparameters": dict(potential.hyperparameters),
        "dtype": str(potential.dtype).removeprefix("torch."),
        "state_dict": {k: v.detach().cpu() for k, v in potential.state_dict().items()},
    }
    partial = path.with_name(path.name + ".partial")
    torch.save(payload, partial)
    os.replace(partial, path)


def load_potential(
    path: str | Path, *, device: str | torch.device = "cpu", n_atoms: int | None = None
) -> Potential:
    """Read a potential written by this package, or SchNet weights of another program.

    Args:
        path: a file of ``save_potential``, a torch_geometric SchNet state dict,
            or an MDsim SchNet checkpoint.
        device: where to put it.
        n_atoms: needed for checkpoints that normalize total energies.

    Raises:
        PotentialError: the file is missing, holds code, or is of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise PotentialError(f"{path}: no such file; give a potential written by stablemd")
    try:
        payload: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise PotentialError(
            f"{path}: can't be read as tensors ({error}); stablemd never executes code from a "
            "model file, so save a state dict or use save_potential"
        ) from error
    if not isinstance(payload, dict):
        raise PotentialError(f"{path}: holds a {type(payload).__name__}, expected a dictionary")
    if payload.get("format") != FORMAT:
        return schnet_from_weights(payload, n_atoms=n_atoms).to(device)
    if payload["version"] > VERSION:
        raise PotentialError(
            f"{path}: written by a newer stablemd (file version {payload['version']}, this one "
            f"reads up to {VERSION}); update stablemd"
        )
    potential = make_potential(payload["architecture"], **payload["hyperparameters"])
    potential.to(getattr(torch, payload["dtype"]))
    potential.load_state_dict(payload["state_dict"])
    return potential.to(device)
