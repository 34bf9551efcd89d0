"""Reference data from the semi-empirical method GFN2-xTB, through tblite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from stablemd.data.frames import Frames
from stablemd.data.generate.langevin import Array, LangevinPlan, record_frames
from stablemd.errors import DataError, MissingDependencyError, SimulationError
from stablemd.units import BOHR, HARTREE


class Gfn2Xtb:
    """GFN2-xTB energies and forces of one non-periodic structure.

    Args:
        numbers: atomic numbers, (N,).
        charge: total charge in elementary charges.

    Raises:
        MissingDependencyError: tblite is not installed.

    Source: C. Bannwarth, S. Ehlert, S. Grimme, J. Chem. Theory Comput. 2019, 15, 1652.
    """

    def __init__(self, numbers: object, *, charge: float = 0.0) -> None:
        self._numbers = np.asarray(numbers, dtype=np.int64)
        self._charge = charge
        self._interface = _import_tblite()
        self._calculator: Any = None
        self._density: Any = None

    def energy_and_forces(self, positions: Array) -> tuple[float, Array]:
        """Energy in eV and forces (N, 3) in eV/Å at ``positions`` (N, 3) in Å.

        Starts from the density of the structure before, if there is one.

        Raises:
            SimulationError: the self-consistent cycle did not converge.
        """
        bohr = np.ascontiguousarray(positions / BOHR, dtype=np.float64)
        try:
            with _one_thread():
                self._solve(bohr)
        except RuntimeError as error:
            raise SimulationError(
                f"GFN2-xTB did not converge for a structure of {len(self._numbers)} atoms "
                f"({error}); check the start structure, or use a smaller dt_fs"
            ) from error
        energy = float(self._density.get("energy")) * HARTREE
        return energy, -np.asarray(self._density.get("gradient")) * (HARTREE / BOHR)

    def forget(self) -> None:
        """Start the next structure from the method's own guess of the density."""
        self._density = None

    def _solve(self, bohr: Array) -> None:
        if self._calculator is None:
            self._calculator = self._interface.Calculator(
                "GFN2-xTB", self._numbers, bohr, charge=self._charge
            )
            self._calculator.set("verbosity", 0)
        else:
            self._calculator.update(bohr)
        self._density = self._calculator.singlepoint(self._density)


def method_name() -> str:
    """Name and program version of the method, for provenance."""
    _import_tblite()
    return f"GFN2-xTB (tblite {version('tblite')})"


def generate_xtb(
    atoms: Atoms | str | Path | Sequence[Atoms],
    *,
    temperature_k: float = 500.0,
    n_frames: int = 1000,
    stride: int = 50,
    dt_fs: float = 0.5,
    friction_per_ps: float = 10.0,
    equilibration_steps: int = 4000,
    seed: int = 0,
    n_trajectories: int = 1,
    checkpoint: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    max_seconds: float | None = None,
) -> Frames:
    """Sample a molecule by Langevin dynamics on the GFN2-xTB potential energy surface.

    Args:
        atoms: start structure: ASE ``Atoms``, the name of a molecule known to
            ``ase.build.molecule``, or a file that ASE reads (its last structure); or several
            structures of the same atoms, with which the trajectories begin in turn.
        temperature_k: temperature in K.
        n_frames: structures in all, a multiple of ``n_trajectories``.
        stride: steps between two recorded structures.
        dt_fs: time step in fs.
        friction_per_ps: Langevin friction in 1/ps.
        equilibration_steps: steps discarded at the beginning of each trajectory.
        seed: seed of all random numbers.
        n_trajectories: independent trajectories, one after the other in the result.
        checkpoint: file that keeps the partial result; if it exists the run continues there,
            with the same result as an uninterrupted one.
        progress: called with (strides done, strides in all).
        max_seconds: wall time after which it stops with the frames it has; with a
            ``checkpoint`` the next call goes on there.

    Returns:
        Labelled frames (eV, eV/Å), in order of time within each trajectory; fewer than
        ``n_frames`` where the time was used up.

    Raises:
        MissingDependencyError: tblite is not installed.
        ConfigError: a parameter is out of range.
        DataError: the start structure is unknown or periodic, structures differ in their
            atoms, or the time was used up before the first frame.
        CheckpointError: the checkpoint belongs to another run.
        SimulationError: the dynamics or the self-consistent cycle failed.
    """
    given = [atoms] if isinstance(atoms, Atoms | str | Path) else list(atoms)
    starts = [start_structure(one) for one in given]
    start = starts[0]
    if any(list(other.numbers) != list(start.numbers) for other in starts):
        raise DataError(
            "the start structures hold different atoms "
            f"({', '.join(sorted({str(a.symbols) for a in starts}))}); give the same atoms in "
            "the same order"
        )
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
    run = record_frames(
        Gfn2Xtb(start.numbers),
        plan,
        np.stack([a.positions for a in starts]),
        start.get_masses(),
        checkpoint=checkpoint,
        progress=progress,
        max_seconds=max_seconds,
    )
    n = run.n_recorded
    return Frames(
        numbers=torch.from_numpy(start.numbers.astype(np.int64)),
        positions=torch.from_numpy(run.positions[:n]),
        energies=torch.from_numpy(run.energies[:n]),
        forces=torch.from_numpy(run.forces[:n]),
        source=f"{method_name()}, Langevin {temperature_k:g} K",
    )


def start_structure(atoms: Atoms | str | Path) -> Atoms:
    """The start structure from ASE ``Atoms``, a molecule's name, or a file.

    Raises:
        DataError: neither a known molecule nor a readable file, or periodic.
    """
    if not isinstance(atoms, Atoms):
        atoms = _read_structure(atoms)
    if atoms.pbc.any():
        raise DataError(
            f"the start structure {atoms.get_chemical_formula()} is periodic "
            f"(pbc={atoms.pbc.tolist()}); GFN2-xTB data are generated for isolated molecules only"
        )
    return atoms


def _read_structure(name: str | Path) -> Atoms:
    from ase.build import molecule
    from ase.io import read

    path = Path(name)
    if path.is_file():
        structure = read(path)
        assert isinstance(structure, Atoms)
        return structure
    try:
        return molecule(str(name))
    except KeyError as error:
        raise DataError(
            f"{str(name)!r} is neither a file nor a molecule known to ase.build.molecule; give "
            "a structure file, or one of the names in ase.collections.g2.names"
        ) from error


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run OpenMP with one thread: for small molecules more of them are up to ten times slower.

    tblite shares the OpenMP library that torch has loaded, so torch's setting is the one that
    counts; the environment variable is no longer read by then.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _import_tblite() -> Any:
    try:
        import tblite.interface as interface
    except ImportError as error:
        raise MissingDependencyError(
            "reference data from GFN2-xTB need the package tblite, which is not installed; "
            "install it with: pip install 'stablemd[tblite]'"
        ) from error
    return interface
