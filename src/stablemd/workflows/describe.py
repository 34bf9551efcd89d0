"""``stablemd info``: what a file or a folder is."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from stablemd.data import Frames, read_frames, system_from_frames
from stablemd.errors import CheckpointError, DataError, PotentialError
from stablemd.evaluation.report_text import headline
from stablemd.potentials.files import load_potential
from stablemd.rundir import RunDirectory
from stablemd.stages import MODEL_SUFFIXES
from stablemd.versions import collect_versions
from stablemd.workflows.evaluate import PURPOSES

WEIGHT_SUFFIXES = (*MODEL_SUFFIXES, ".pth")

Facts = dict[str, str]


def describe_machine() -> Facts:
    """Versions and hardware."""
    return {key: _words(value) for key, value in collect_versions().items()}


def describe(path: Path, *, energy_unit: str | None = None) -> tuple[str, Facts]:
    """What kind of thing a path is, and facts about it.

    Args:
        path: a model file, a file of reference structures, or a run directory.
        energy_unit: of the structures' energies, where the file does not say.

    Raises:
        DataError: it does not exist, or can't be read as structures.
        PotentialError: it can't be read as a model.
        CheckpointError: it is a folder, but not of a run.
    """
    if path.is_dir():
        return f"run directory {path}", describe_run(path)
    if not path.exists():
        raise DataError(
            f"{path} does not exist; give a model, reference data, or the folder of a run"
        )
    if path.name.lower().endswith(WEIGHT_SUFFIXES):
        return f"model {path}", describe_model(path)
    return f"reference data {path}", describe_data(path, energy_unit)


def describe_model(path: Path) -> Facts:
    """Architecture, hyper-parameters and size of a model file."""
    try:
        potential = load_potential(path)
    except PotentialError as error:
        if _is_checkpoint(path):
            raise PotentialError(
                f"{path} is a checkpoint of a whole run, which only --resume reads; models are "
                "pretrained.pt, start.pt, stable.pt and control.pt"
            ) from error
        raise
    return {
        "architecture": type(potential).__name__,
        **{key: _words(value) for key, value in potential.hyperparameters.items()},
        "parameters": f"{potential.n_parameters:,}",
        "precision": str(potential.dtype).removeprefix("torch."),
        "atomic energies": "yes" if potential.has_local_energies else "no",
        "file size": f"{path.stat().st_size / 1e6:.2f} MB",
    }


def describe_data(path: Path, energy_unit: str | None = None) -> Facts:
    """Molecule, labels and spreads of a file of reference structures."""
    frames = read_frames(path, energy_unit=energy_unit)
    system = system_from_frames(frames)
    names = [system.bond_name(b) for b in range(len(system.bonds))]
    lengths = [f"{name} {r:.3f} Å" for name, r in zip(names, system.bond_lengths, strict=True)]
    return {
        "structures": f"{len(frames):,}",
        "molecule": f"{system.formula}, {system.n_atoms} atoms",
        "periodic": "yes" if system.is_periodic else "no",
        "molecules": _words(int(system.molecule_ids.max()) + 1),
        **_describe_labels(frames),
        "bonds": f"{len(names)}: {', '.join(lengths)}" if names else "none",
    }


def describe_run(path: Path) -> Facts:
    """What ran in a run directory, and the result."""
    directory = RunDirectory(path)
    if not directory.is_run:
        raise CheckpointError(
            f"{path} is a folder, but not of a run (it has no config.yaml); give an --out folder"
        )
    facts: Facts = {
        name: f"{status['state']} (begun {status['started']}, last change {status['updated']})"
        for name, status in directory.stages().items()
    }
    models = sorted(p.name for p in path.iterdir() if p.name.endswith(MODEL_SUFFIXES))
    facts["models"] = ", ".join(models) or "none"
    facts["log"] = f"{len(directory.log)} records"
    metrics = directory.read_metrics()
    roles = {role: metrics[role] for role in PURPOSES if role in metrics}
    if roles:
        facts["result"] = " ".join(headline(roles))
    return facts


def _describe_labels(frames: Frames) -> Facts:
    facts: Facts = {}
    if frames.energies is not None:
        low, high = float(frames.energies.min()), float(frames.energies.max())
        spread = float(frames.energies.std(correction=0))
        facts["energies"] = f"{low:.3f} to {high:.3f} eV, standard deviation {spread:.4f} eV"
    if frames.forces is not None:
        rms = float(frames.forces.square().mean().sqrt())
        facts["forces"] = f"root mean square component {rms:.3f} eV/Å"
    missing = [name for name in ("energies", "forces") if getattr(frames, name) is None]
    if missing:
        facts["missing"] = ", ".join(missing)
    return facts


def _is_checkpoint(path: Path) -> bool:
    from stablemd.training.checkpoint import FORMAT

    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [n for n in archive.namelist() if n.endswith("data.pkl")]
            return any(FORMAT.encode() in archive.read(name) for name in pickles)
    except (OSError, zipfile.BadZipFile):
        return False


def _words(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(str(v) for v in value)
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)
