"""``stablemd data generate``: labelled structures from a reference method's own dynamics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import read

from stablemd.data import write_frames
from stablemd.data.frames import Frames
from stablemd.data.generate import water, xtb
from stablemd.data.generate.xtb import start_structure
from stablemd.errors import ConfigError, DataError
from stablemd.workflows.reporter import SILENT, Reporter

WATER = "water"
"""What stands for the liquid in place of a start structure."""


@dataclass(frozen=True)
class GenerateRequest:
    """What to sample and where it goes.

    Attributes:
        start: file of start structures, a molecule's name, or ``"water"`` for the liquid.
        out: file of the frames (.npz, .h5 or .extxyz).
        temperature_k: temperature in K.
        n_frames: structures in all.
        n_trajectories: independent trajectories.
        stride: steps between two recorded structures.
        dt_fs: time step in fs.
        friction_per_ps: Langevin friction in 1/ps.
        equilibration_steps: steps discarded at the beginning of each trajectory.
        seed: of velocities and noise.
        max_minutes: wall time at most; None: no limit.
        n_molecules: molecules of liquid water.
    """

    start: str
    out: Path
    temperature_k: float
    n_frames: int
    n_trajectories: int
    stride: int
    dt_fs: float
    friction_per_ps: float
    equilibration_steps: int
    seed: int
    max_minutes: float | None
    n_molecules: int = 64

    @property
    def is_water(self) -> bool:
        """Whether liquid water is wanted, not a molecule."""
        return self.start == WATER


def run_generate(request: GenerateRequest, *, reporter: Reporter = SILENT) -> dict[str, str]:
    """Sample, or go on sampling, and write the frames at hand.

    Args:
        request: what to sample.
        reporter: told of progress.

    Returns:
        Facts about the frames, in words.

    Raises:
        ConfigError: a number is out of range, or the file exists and is complete.
        DataError: the start structures can't be used.
        MissingDependencyError: tblite, or OpenMM for water, is not installed.
        CheckpointError: the partial file belongs to another request.
    """
    if request.out.suffix.lower() not in (".npz", ".h5", ".hdf5", ".extxyz"):
        raise ConfigError(f"{request.out}: frames are written to .npz, .h5, .hdf5 or .extxyz files")
    partial = request.out.with_name(request.out.name + ".partial")
    if request.out.exists() and not partial.exists():
        raise ConfigError(
            f"{request.out} exists and nothing is left to generate for it; give another --out, "
            "or remove it"
        )
    method = water.method_name() if request.is_water else xtb.method_name()
    starts = [] if request.is_water else start_structures(request.start, request.n_trajectories)
    what = (
        f"{request.n_molecules} molecules of water"
        if request.is_water
        else starts[0].get_chemical_formula()
    )
    reporter.begin(
        f"Sampling {what} with {method}",
        f"{request.n_frames} structures from {request.n_trajectories} trajectories at "
        f"{request.temperature_k:g} K.",
    )

    def progress(done: int, total: int) -> None:
        reporter.progress(f"{done} of {total} strides", done / total)

    frames = _sample(request, starts, partial, progress)
    reporter.end()
    per_trajectory = request.n_frames // request.n_trajectories
    metadata = {
        "method": method,
        "temperature_k": request.temperature_k,
        "dt_fs": request.dt_fs,
        "friction_per_ps": request.friction_per_ps,
        "frame_interval_fs": request.stride * request.dt_fs,
        "seed": request.seed,
        "trajectory": np.arange(len(frames)) // per_trajectory,
    }
    is_extxyz = request.out.suffix.lower() == ".extxyz"
    write_frames(request.out, frames, metadata=None if is_extxyz else metadata)
    complete = len(frames) == request.n_frames
    if complete:
        partial.unlink()
    energies, forces = frames.require_labels()
    facts = {
        "file": str(request.out),
        "structures": f"{len(frames)} of {request.n_frames}",
        "energy": f"{float(energies.mean()):.4f} ± {float(energies.std(correction=0)):.4f} eV",
        "forces": f"root mean square component {float(forces.square().mean().sqrt()):.4f} eV/Å",
    }
    if not complete:
        facts["to go on"] = "run the same command again"
    return facts


def _sample(
    request: GenerateRequest,
    starts: list[Atoms],
    checkpoint: Path,
    progress: Callable[[int, int], None],
) -> Frames:
    plan: dict[str, Any] = {
        name: getattr(request, name)
        for name in (
            "temperature_k", "n_frames", "n_trajectories", "stride", "dt_fs", "friction_per_ps",
            "equilibration_steps", "seed",
        )
    }  # fmt: skip
    plan["checkpoint"], plan["progress"] = checkpoint, progress
    plan["max_seconds"] = None if request.max_minutes is None else 60.0 * request.max_minutes
    if request.is_water:
        return water.generate_water(n_molecules=request.n_molecules, **plan)
    return xtb.generate_xtb(starts, **plan)


def start_structures(name: str, n_trajectories: int) -> list[Atoms]:
    """Start structures of the trajectories, spread evenly over a file, or one by name.

    Raises:
        DataError: neither a readable file nor a known molecule.
    """
    path = Path(name)
    if not path.is_file():
        return [start_structure(name)]
    try:
        found = read(path, index=":")
    except Exception as error:
        raise DataError(
            f"{path}: ASE can't read structures from it ({type(error).__name__}: {error}); give "
            "an xyz, extxyz or other structure file"
        ) from error
    if not isinstance(found, list) or not found:
        raise DataError(f"{path}: holds no structure; give a file with at least one")
    n = min(len(found), max(n_trajectories, 1))
    return [found[(k * len(found)) // n] for k in range(n)]
