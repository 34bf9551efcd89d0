"""Reference data of liquid water from a flexible force field, through OpenMM."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_masses
from numpy.typing import NDArray

from stablemd.data.frames import Frames
from stablemd.data.generate.langevin import Array, LangevinPlan, record_frames
from stablemd.errors import ConfigError, MissingDependencyError

KJ_PER_MOL = 0.01036426965268556
"""One kJ/mol in eV."""

NM = 10.0
"""One nm in Å."""

KCAL = 4.184
"""One kcal in kJ."""

BOND_LENGTH, BOND_ENERGY = 1.012, 1059.162
"""Å, and kcal/mol/Å² in E = k (r - r0)²."""

ANGLE, ANGLE_ENERGY = math.radians(113.24), 75.90
"""rad, and kcal/mol/rad² in E = k (θ - θ0)²."""

SIGMA, EPSILON = 3.165492, 0.1554253
"""Lennard-Jones parameters of O–O, Å and kcal/mol."""

CHARGE = 0.41
"""Of a hydrogen, elementary charges; an oxygen has twice as much of the other sign."""

EDGE_OF_64 = 12.44287777
"""Edge of the cubic cell of 64 molecules, Å; other numbers have the same density."""

CUTOFF = 6.0
"""Of Lennard-Jones and of the direct part of the Ewald sum, Å."""

EWALD_TOLERANCE = {"CPU": 1e-4, "Reference": 1e-6}
"""Relative error of forces by platform."""


class FlexibleWater:
    """Energies and forces of periodic SPC/Fw water.

    Harmonic bonds and angles, Lennard-Jones between oxygens (truncated at 6 Å, without a tail
    correction) and point charges with particle-mesh Ewald sums; the charges within a molecule
    do not interact.  Molecules must be whole, atoms in the order O H H.

    Args:
        n_molecules: number of molecules.
        exact: double precision, slow (OpenMM's Reference platform); otherwise single, on one
            CPU core.

    Raises:
        MissingDependencyError: OpenMM is not installed.
        ConfigError: the cell would be too small for the cutoff.

    Source: Y. Wu, H. L. Tepper, G. A. Voth, J. Chem. Phys. 124, 024503 (2006).
    """

    def __init__(self, n_molecules: int, *, exact: bool = False) -> None:
        self.n_molecules = n_molecules
        self.edge = EDGE_OF_64 * (n_molecules / 64.0) ** (1.0 / 3.0)
        if self.edge < 2.0 * CUTOFF:
            raise ConfigError(
                f"{n_molecules} molecules of water fill a cell of {self.edge:.2f} Å, and the "
                f"force field's cutoff of {CUTOFF:g} Å needs twice its length; give 58 or more"
            )
        self._openmm = import_openmm()
        self._platform = "Reference" if exact else "CPU"
        self._context: Any = None

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Atomic numbers, (N,) int64."""
        return np.tile(np.array([8, 1, 1], dtype=np.int64), self.n_molecules)

    def energy_and_forces(self, positions: Array) -> tuple[float, Array]:
        """Energy in eV and forces (N, 3) in eV/Å at ``positions`` (N, 3) in Å."""
        context = self._start()
        context.setPositions(np.ascontiguousarray(positions, dtype=np.float64) / NM)
        return _read(context.getState(getEnergy=True, getForces=True))

    def minimized(self, positions: Array, *, max_iterations: int = 50) -> Array:
        """Positions (N, 3) in Å near a minimum of the energy."""
        context = self._start()
        context.setPositions(np.ascontiguousarray(positions, dtype=np.float64) / NM)
        self._openmm.LocalEnergyMinimizer.minimize(context, maxIterations=max_iterations)
        found = context.getState(getPositions=True).getPositions(asNumpy=True)
        return np.asarray(found._value, dtype=np.float64) * NM

    def forget(self) -> None:
        """Drop the lists of neighbours, whose order shows in the last bits."""
        if self._context is not None and self._platform == "CPU":
            self._context.reinitialize()

    def _start(self) -> Any:
        if self._context is None:
            mm = self._openmm
            platform = mm.Platform.getPlatformByName(self._platform)
            options = {"Threads": "1", "DeterministicForces": "true"}
            # The integrator is never stepped.
            self._context = mm.Context(
                self._system(), mm.VerletIntegrator(1e-3), platform,
                options if self._platform == "CPU" else {},
            )  # fmt: skip
        return self._context

    def _system(self) -> Any:
        mm, edge = self._openmm, self.edge / NM
        system = mm.System()
        for number in self.numbers:
            system.addParticle(float(atomic_masses[number]))
        system.setDefaultPeriodicBoxVectors(*(edge * np.eye(3)))
        bonds, angles, pairs = (
            mm.HarmonicBondForce(), mm.HarmonicAngleForce(), mm.NonbondedForce()
        )  # fmt: skip
        # OpenMM's harmonic terms have a factor of one half.
        stiffness = 2.0 * BOND_ENERGY * KCAL * NM**2
        bending = 2.0 * ANGLE_ENERGY * KCAL
        for first in range(0, 3 * self.n_molecules, 3):
            o, h1, h2 = first, first + 1, first + 2
            for h in (h1, h2):
                bonds.addBond(o, h, BOND_LENGTH / NM, stiffness)
            angles.addAngle(h1, o, h2, ANGLE, bending)
            pairs.addParticle(-2.0 * CHARGE, SIGMA / NM, EPSILON * KCAL)
            pairs.addParticle(CHARGE, 0.1, 0.0)
            pairs.addParticle(CHARGE, 0.1, 0.0)
            for i, j in ((o, h1), (o, h2), (h1, h2)):
                pairs.addException(i, j, 0.0, 0.1, 0.0)
        pairs.setNonbondedMethod(mm.NonbondedForce.PME)
        pairs.setCutoffDistance(CUTOFF / NM)
        pairs.setEwaldErrorTolerance(EWALD_TOLERANCE[self._platform])
        pairs.setUseDispersionCorrection(False)
        for force in (bonds, angles, pairs):
            system.addForce(force)
        return system


def method_name() -> str:
    """Name and program version of the method, for provenance."""
    return f"SPC/Fw water (OpenMM {import_openmm().__version__})"


def generate_water(
    *,
    n_molecules: int = 64,
    temperature_k: float = 300.0,
    n_frames: int = 1000,
    stride: int = 200,
    dt_fs: float = 0.5,
    friction_per_ps: float = 1.0,
    equilibration_steps: int = 100_000,
    seed: int = 0,
    n_trajectories: int = 1,
    checkpoint: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    max_seconds: float | None = None,
) -> Frames:
    """Sample liquid water by Langevin dynamics with the SPC/Fw force field.

    The trajectories begin with molecules of random orientation on a grid, after a minimisation.
    Every recorded structure is labelled in double precision.

    Args:
        n_molecules: 58 or more, in a cube of water's density.
        temperature_k: temperature in K.
        n_frames: structures in all, a multiple of ``n_trajectories``.
        stride: steps between two recorded structures.
        dt_fs: time step in fs.
        friction_per_ps: Langevin friction in 1/ps.
        equilibration_steps: steps discarded at the beginning of each trajectory.
        seed: seed of all random numbers.
        n_trajectories: independent trajectories, one after the other in the result.
        checkpoint: file that keeps the partial result; if it exists the run continues there.
        progress: called with (strides done, strides in all).
        max_seconds: wall time after which it stops with the frames it has; with a
            ``checkpoint`` the next call goes on there.

    Returns:
        Labelled frames (eV, eV/Å) with unwrapped positions and whole molecules, in order of
        time within each trajectory; fewer than ``n_frames`` where the time was used up.

    Raises:
        MissingDependencyError: OpenMM is not installed.
        ConfigError: a parameter is out of range.
        DataError: the time was used up before the first frame.
        CheckpointError: the checkpoint belongs to another run.
        SimulationError: the dynamics failed.
    """
    plan = LangevinPlan.of_frames(
        n_frames,
        n_trajectories,
        temperature_k=temperature_k,
        stride=stride,
        dt_fs=dt_fs,
        friction_per_ps=friction_per_ps,
        equilibration_steps=equilibration_steps,
        seed=seed,
    )
    fast, exact = FlexibleWater(n_molecules), FlexibleWater(n_molecules, exact=True)
    grids = [water_grid(n_molecules, exact.edge, (seed, k)) for k in range(n_trajectories)]
    starts = np.stack([fast.minimized(grid) for grid in grids])
    run = record_frames(
        fast,
        plan,
        starts,
        atomic_masses[exact.numbers],
        checkpoint=checkpoint,
        progress=progress,
        max_seconds=max_seconds,
    )
    n = run.n_recorded
    labels = [exact.energy_and_forces(x) for x in run.positions[:n]]
    return Frames(
        numbers=torch.from_numpy(exact.numbers),
        positions=torch.from_numpy(run.positions[:n]),
        energies=torch.tensor([energy for energy, _ in labels], dtype=torch.float64),
        forces=torch.from_numpy(np.stack([forces for _, forces in labels])),
        cell=torch.from_numpy(np.tile(exact.edge * np.eye(3), (n, 1, 1))),
        pbc=torch.ones(3, dtype=torch.bool),
        source=f"{method_name()}, Langevin {temperature_k:g} K",
    )


def water_grid(n_molecules: int, edge: float, seed: tuple[int, int]) -> Array:
    """Molecules of random orientation on a cubic grid, (3 n_molecules, 3) in Å."""
    rng = np.random.default_rng(seed)
    per_edge = math.ceil(n_molecules ** (1.0 / 3.0) - 1e-9)
    grid = np.stack(np.meshgrid(*[np.arange(per_edge)] * 3, indexing="ij"), axis=-1)
    sites = (grid.reshape(-1, 3) + 0.5) * (edge / per_edge)
    half = 0.5 * ANGLE
    shape = BOND_LENGTH * np.array(
        [[0, 0, 0], [math.sin(half), 0, math.cos(half)], [-math.sin(half), 0, math.cos(half)]]
    )
    turns, triangles = np.linalg.qr(rng.normal(size=(n_molecules, 3, 3)))
    # Without these signs some orientations would be more likely than others.
    turns *= np.sign(np.diagonal(triangles, axis1=1, axis2=2))[:, None, :]
    positions: Array = (sites[:n_molecules, None] + shape @ turns).reshape(-1, 3)
    return positions


def import_openmm() -> Any:
    """The package.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import openmm
    except ImportError as error:
        raise MissingDependencyError(
            "reference data of water need the package openmm, which is not installed; install it "
            "with: pip install 'stablemd[openmm]'"
        ) from error
    return openmm


def _read(state: Any) -> tuple[float, Array]:
    energy = float(state.getPotentialEnergy()._value) * KJ_PER_MOL
    forces = np.asarray(state.getForces(asNumpy=True)._value, dtype=np.float64)
    return energy, forces * (KJ_PER_MOL / NM)
