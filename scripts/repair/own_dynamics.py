"""Dynamics in ASE with the package's own calculator, until the time is over or a bond breaks."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.md.langevin import Langevin

from stablemd.system import System

CHECK_EVERY = 10


@dataclass(frozen=True)
class OwnDynamics:
    """How far a simulation in ASE came.

    Attributes:
        calculator: class of the package's calculator.
        length_ps: what it was to run.
        reached_ps: how far it came before a failure.
        failure: the bond that broke, or None.
        n_steps: steps that were made.
        cpu_s: processor time.
    """

    calculator: str
    length_ps: float
    reached_ps: float
    failure: str | None
    n_steps: int
    cpu_s: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def own_calculator(package: str, path: Path) -> Any:
    """The package's ASE calculator of one of its files."""
    if package == "mace":
        from mace.calculators import MACECalculator

        return MACECalculator(str(path), device="cpu", default_dtype="float32")
    from nequip.integrations.ase import NequIPCalculator

    return NequIPCalculator._from_saved_model(str(path), chemical_species_to_atom_type_map=True)


def run_in_ase(
    package: str,
    path: Path,
    system: System,
    positions: np.ndarray,
    *,
    length_ps: float,
    temperature_k: float,
    dt_fs: float,
    friction_per_ps: float,
    bond_threshold: float,
    seed: int,
) -> OwnDynamics:
    """Langevin dynamics of one molecule with the package's calculator.

    Args:
        package: ``nequip`` or ``mace``.
        path: file of the package.
        system: atoms, bonds and their mean lengths.
        positions: start structure in Å, (N, 3).
        length_ps: time to simulate.
        temperature_k: of start velocities and bath.
        dt_fs: time step in fs.
        friction_per_ps: of the bath in 1/ps.
        bond_threshold: a bond this far from its mean length in Å has failed.
        seed: of start velocities and noise.
    """
    before = torch.get_default_dtype()
    calculator = own_calculator(package, path)
    generator = np.random.default_rng(seed)
    atoms = Atoms(system.numbers.numpy(), positions)
    atoms.set_masses(system.masses.numpy())
    width = np.sqrt(units.kB * temperature_k * atoms.get_masses())
    atoms.set_momenta(width[:, None] * generator.normal(size=positions.shape))
    atoms.calc = calculator
    dynamics = Langevin(
        atoms,
        dt_fs * units.fs,
        temperature_K=temperature_k,
        friction=friction_per_ps / (1000.0 * units.fs),
        rng=generator,
        fixcm=False,
    )
    n_steps, done, failure = round(length_ps * 1000.0 / dt_fs), 0, None
    begin = time.process_time()
    while done < n_steps and failure is None:
        dynamics.run(CHECK_EVERY)
        done += CHECK_EVERY
        failure = _broken(system, atoms.positions, bond_threshold)
    torch.set_default_dtype(before)
    return OwnDynamics(
        calculator=f"{type(calculator).__module__}.{type(calculator).__name__}",
        length_ps=length_ps,
        reached_ps=done * dt_fs / 1000.0,
        failure=failure,
        n_steps=done,
        cpu_s=time.process_time() - begin,
    )


def _broken(system: System, positions: np.ndarray, threshold: float) -> str | None:
    i, j = system.bonds.numpy().T
    lengths = np.linalg.norm(positions[i] - positions[j], axis=1)
    off = np.abs(lengths - system.bond_lengths.numpy())
    if np.isfinite(off).all() and off.max() < threshold:
        return None
    worst = int(np.argmax(np.where(np.isfinite(off), off, np.inf)))
    return f"bond {system.bond_name(worst)} at {lengths[worst]:.2f} Å"
