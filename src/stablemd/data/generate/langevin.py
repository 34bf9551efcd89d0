"""Langevin sampling of one structure at a time with an expensive reference method."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stablemd.errors import CheckpointError, ConfigError, DataError, SimulationError
from stablemd.units import FS, KB

Array = NDArray[np.float64]


class ReferenceMethod(Protocol):
    """A source of energies and forces, e.g. a quantum-chemistry program."""

    def energy_and_forces(self, positions: Array) -> tuple[float, Array]:
        """Energy in eV and forces (N, 3) in eV/Å at ``positions`` (N, 3) in Å."""
        ...

    def forget(self) -> None:
        """Drop what is remembered of earlier structures (e.g. a converged density)."""
        ...


@dataclass(frozen=True)
class LangevinPlan:
    """What to sample, in full: the same plan always gives the same frames.

    Attributes:
        temperature_k: temperature in K.
        n_trajectories: independent trajectories from the same start structure.
        frames_per_trajectory: recorded structures of each.
        stride: steps between two recorded structures.
        dt_fs: time step in fs.
        friction_per_ps: Langevin friction in 1/ps.
        equilibration_steps: steps before the first stride, rounded up to whole strides.
        seed: seed of all random numbers.
    """

    temperature_k: float
    n_trajectories: int
    frames_per_trajectory: int
    stride: int
    dt_fs: float
    friction_per_ps: float
    equilibration_steps: int
    seed: int

    def __post_init__(self) -> None:
        bounds = {
            "temperature_k": 0.0,
            "n_trajectories": 1,
            "frames_per_trajectory": 1,
            "stride": 1,
            "friction_per_ps": 0.0,
            "equilibration_steps": 0,
            "seed": 0,
        }
        for name, lowest in bounds.items():
            value = getattr(self, name)
            if not value >= lowest:
                raise ConfigError(f"{name} is {value!r}; give a number >= {lowest}")
        if not 0 < self.dt_fs <= 5.0:
            raise ConfigError(f"dt_fs is {self.dt_fs!r}; give a time step within (0, 5] fs")

    @classmethod
    def of_frames(cls, n_frames: int, n_trajectories: int, **settings: Any) -> LangevinPlan:
        """A plan of ``n_frames`` in all, with the other attributes as ``settings``.

        Raises:
            ConfigError: not a multiple of the trajectories, or a setting is out of range.
        """
        if n_trajectories < 1 or n_frames < 1 or n_frames % n_trajectories:
            raise ConfigError(
                f"n_frames={n_frames} must be a positive multiple of "
                f"n_trajectories={n_trajectories}"
            )
        each = n_frames // n_trajectories
        return cls(n_trajectories=n_trajectories, frames_per_trajectory=each, **settings)

    @property
    def equilibration_blocks(self) -> int:
        return -(-self.equilibration_steps // self.stride)

    @property
    def blocks_per_trajectory(self) -> int:
        return self.equilibration_blocks + self.frames_per_trajectory

    @property
    def n_frames(self) -> int:
        return self.n_trajectories * self.frames_per_trajectory


@dataclass
class LangevinRun:
    """A run in progress: the frames recorded so far and where it stands.

    Attributes:
        plan: what is sampled.
        start: start structures in Å, (S, N, 3); trajectory k begins at number k modulo S.
        masses: amu, (N,).
        positions: recorded structures in Å, (n_frames, N, 3); centre of mass at the start's.
        energies: eV, (n_frames,).
        forces: eV/Å, (n_frames, N, 3).
        blocks_done: strides completed, over all trajectories.
        state: positions and momenta of the running trajectory, (2, N, 3).
    """

    plan: LangevinPlan
    start: Array
    masses: Array
    positions: Array
    energies: Array
    forces: Array
    blocks_done: int
    state: Array

    @classmethod
    def new(cls, plan: LangevinPlan, start: Array, masses: Array) -> LangevinRun:
        """A run that has not begun; ``start`` is (N, 3) or (S, N, 3)."""
        n, shape = plan.n_frames, start.shape[-2:]
        return cls(
            plan=plan,
            start=start.astype(np.float64).reshape(-1, *shape),
            masses=masses.astype(np.float64),
            positions=np.zeros((n, *shape)),
            energies=np.zeros(n),
            forces=np.zeros((n, *shape)),
            blocks_done=0,
            state=np.zeros((2, *shape)),
        )

    @property
    def n_blocks(self) -> int:
        return self.plan.n_trajectories * self.plan.blocks_per_trajectory

    @property
    def n_recorded(self) -> int:
        """Structures recorded so far; they are the first ones of the arrays."""
        trajectory, block = divmod(self.blocks_done, self.plan.blocks_per_trajectory)
        within = max(0, block - self.plan.equilibration_blocks)
        return trajectory * self.plan.frames_per_trajectory + within

    def save(self, path: Path) -> None:
        """Write the run to ``path`` in one atomic replacement."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            np.savez(
                file,
                **self._identity(),
                positions=self.positions,
                energies=self.energies,
                forces=self.forces,
                blocks_done=self.blocks_done,
                state=self.state,
            )
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Continue from ``path``.

        Raises:
            CheckpointError: the file is damaged or belongs to another plan or structure.
        """
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                stored = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise CheckpointError(
                f"{path} can't be read as a sampling checkpoint ({error}); delete it to start anew"
            ) from error
        for name, value in self._identity().items():
            if name not in stored or not np.array_equal(stored[name], value):
                raise CheckpointError(
                    f"{path} belongs to another run: {name} is {stored.get(name)!r} there and "
                    f"{value!r} here; use another checkpoint path, or delete it to start anew"
                )
        self.positions, self.energies = stored["positions"], stored["energies"]
        self.forces, self.state = stored["forces"], stored["state"]
        self.blocks_done = int(stored["blocks_done"])

    def _identity(self) -> dict[str, Any]:
        plan = {name: np.asarray(value) for name, value in asdict(self.plan).items()}
        return {**plan, "start": self.start, "masses": self.masses}


def sample_langevin(
    method: ReferenceMethod,
    run: LangevinRun,
    *,
    checkpoint: Path | None = None,
    checkpoint_every: int = 100,
    progress: Callable[[int, int], None] | None = None,
    max_seconds: float | None = None,
) -> LangevinRun:
    """Bring ``run`` to its end by BAOAB Langevin dynamics.

    Random numbers belong to (seed, trajectory, stride), and the method forgets earlier
    structures at the beginning of each stride, so that an interrupted and resumed run gives
    the same bits as an uninterrupted one.

    Args:
        method: energies and forces.
        run: a new run, or one that was loaded from a checkpoint.
        checkpoint: file written every ``checkpoint_every`` strides and on interruption.
        checkpoint_every: strides between two checkpoints.
        progress: called with (strides done, strides in all) after each.
        max_seconds: wall time after which no further stride begins; None: no limit.

    Returns:
        The same run, complete unless the time was used up.

    Raises:
        SimulationError: the dynamics is no longer finite.

    Source: B. Leimkuhler and C. Matthews, Appl. Math. Res. Express 2013, 34 (BAOAB).
    """
    begin = time.monotonic()
    try:
        while run.blocks_done < run.n_blocks:
            if max_seconds is not None and time.monotonic() - begin >= max_seconds:
                break
            _advance(method, run)
            if checkpoint is not None and run.blocks_done % checkpoint_every == 0:
                run.save(checkpoint)
            if progress is not None:
                progress(run.blocks_done, run.n_blocks)
    finally:
        if checkpoint is not None:
            run.save(checkpoint)
    return run


def record_frames(
    method: ReferenceMethod,
    plan: LangevinPlan,
    starts: Array,
    masses: Array,
    *,
    checkpoint: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    max_seconds: float | None = None,
) -> LangevinRun:
    """``sample_langevin`` from the beginning, or from a checkpoint that is there.

    Args:
        starts: structures with which the trajectories begin in turn, Å, (S, N, 3).
        masses: amu, (N,).

    Returns:
        The run with one frame at least; fewer than planned where the time was used up.

    Raises:
        DataError: the time was used up before the first frame.
        CheckpointError: the checkpoint belongs to another run.
        SimulationError: the dynamics failed.
    """
    run = LangevinRun.new(plan, starts, masses)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.exists():
        run.load(path)
    sample_langevin(method, run, checkpoint=path, progress=progress, max_seconds=max_seconds)
    if run.n_recorded == 0:
        raise DataError(
            f"the {max_seconds:g} s were used up before the first structure was recorded; allow "
            "more time, or use fewer equilibration_steps"
        )
    return run


def _advance(method: ReferenceMethod, run: LangevinRun) -> None:
    """One stride of the running trajectory, recorded once equilibrated."""
    plan = run.plan
    trajectory, block = divmod(run.blocks_done, plan.blocks_per_trajectory)
    rng = np.random.default_rng([plan.seed, trajectory, block])
    start = run.start[trajectory % len(run.start)]
    masses = run.masses[:, None]
    kt = KB * plan.temperature_k
    if block == 0:
        x, p = start.copy(), rng.normal(size=start.shape) * np.sqrt(kt * masses)
    else:
        x, p = run.state.copy()
    dt = plan.dt_fs * FS
    keep = np.exp(-plan.friction_per_ps * plan.dt_fs * 1e-3)
    kick = np.sqrt((1.0 - keep**2) * kt * masses)
    method.forget()
    energy, forces = method.energy_and_forces(x)
    for _ in range(plan.stride):
        p += 0.5 * dt * forces
        x += 0.5 * dt * p / masses
        p = keep * p + kick * rng.normal(size=p.shape)
        x += 0.5 * dt * p / masses
        energy, forces = method.energy_and_forces(x)
        p += 0.5 * dt * forces
    if not (np.isfinite(energy) and np.isfinite(x).all() and np.isfinite(p).all()):
        raise SimulationError(
            f"trajectory {trajectory} is not finite after {(block + 1) * plan.stride} steps of "
            f"{plan.dt_fs} fs at {plan.temperature_k} K; use a smaller dt_fs or another start"
        )
    recorded = block - plan.equilibration_blocks
    if recorded >= 0:
        index = trajectory * plan.frames_per_trajectory + recorded
        drift = (masses * (x - start)).sum(axis=0) / masses.sum()
        run.positions[index] = x - drift
        run.energies[index] = energy
        run.forces[index] = forces
    run.state = np.stack([x, p])
    run.blocks_done += 1
