"""Any ASE calculator, for evaluating the stability of models that no adapter knows."""

from __future__ import annotations

import functools
import multiprocessing
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from stablemd.errors import PotentialError, SimulationError
from stablemd.potentials.adapters.named_objects import make_named
from stablemd.potentials.adapters.untrainable import UntrainablePotential
from stablemd.system import System
from stablemd.versions import available_cores

CalculatorFactory = Callable[[], Any]
"""Makes an ASE calculator; called once in every process."""

Array = NDArray[np.float64]

_calculator: Any = None


class ASEPotential(UntrainablePotential):
    """An ASE calculator that evaluates replicas one by one, shared out among processes.

    Args:
        factory: makes the calculator; it must be picklable for more than one process (a
            class, a function of a module, or ``functools.partial`` of one).
        n_processes: how many processes; 1: in this one.  By default all cores.

    Raises:
        PotentialError: the number of processes is not positive.
    """

    why = "a calculator gives energies and forces without their dependence on parameters"

    def __init__(self, factory: CalculatorFactory, *, n_processes: int | None = None) -> None:
        super().__init__()
        n = available_cores() if n_processes is None else n_processes
        if n < 1:
            raise PotentialError(f"n_processes is {n}; give 1 or more")
        self._factory = factory
        self._n_processes = n
        self._pool: ProcessPoolExecutor | None = None
        self._own: Any = None
        self.hyperparameters = {"calculator": _name_of(factory), "n_processes": n}

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        *,
        calculator: str,
        arguments: Mapping[str, Any] | None = None,
        n_processes: int | None = None,
    ) -> ASEPotential:
        """A calculator by its name.

        Args:
            path: not read; calculators get their files as arguments.
            calculator: ``module:name`` of its class or of a function that makes it.
            arguments: by name.
            n_processes: how many processes.

        Raises:
            PotentialError: it can't be made.
        """
        factory = functools.partial(
            make_named, calculator, dict(arguments or {}), "potential.options.calculator"
        )
        potential = cls(factory, n_processes=n_processes)
        potential._own = factory()  # so that a mistake shows at once
        potential.hyperparameters["calculator"] = calculator
        return potential

    def evaluate(
        self, system: System, positions: Tensor, cells: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Energies (R,) in eV and forces (R, N, 3) in eV/Å; not a number for broken structures."""
        numbers, pbc = system.numbers.cpu().numpy(), system.pbc.cpu().numpy()
        x = positions.detach().cpu().double().numpy()
        boxes = np.broadcast_to(system.cell.cpu().numpy(), (len(x), 3, 3))
        if cells is not None:
            boxes = cells.detach().cpu().double().numpy()
        n_parts = min(self._n_processes, len(x))
        parts = np.array_split(np.arange(len(x)), max(n_parts, 1))
        tasks = [(numbers, pbc, x[p], boxes[p]) for p in parts]
        if n_parts <= 1:
            if self._own is None:
                self._own = self._factory()
            results = [_evaluate_with(self._own, *task) for task in tasks]
        else:
            results = self._in_processes(tasks)
        energies = torch.from_numpy(np.concatenate([r[0] for r in results]))
        forces = torch.from_numpy(np.concatenate([r[1] for r in results]))
        return energies.to(positions.device), forces.to(positions.device)

    def _in_processes(self, tasks: Sequence[tuple[Array, ...]]) -> list[tuple[Array, Array]]:
        if self._pool is None:
            # Not forked: threads of PyTorch do not survive that.
            self._pool = ProcessPoolExecutor(
                self._n_processes,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start,
                initargs=(self._factory,),
            )
            weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        try:
            return [f.result() for f in [self._pool.submit(_evaluate, *task) for task in tasks]]
        except Exception as error:
            self._pool = None
            raise SimulationError(
                f"the calculator {self.hyperparameters['calculator']} failed in a process of its "
                f"own ({type(error).__name__}: {error}); try n_processes = 1, which shows where"
            ) from error


def _start(factory: CalculatorFactory) -> None:
    global _calculator
    torch.set_num_threads(1)
    _calculator = factory()


def _evaluate(numbers: Array, pbc: Array, positions: Array, cells: Array) -> tuple[Array, Array]:
    return _evaluate_with(_calculator, numbers, pbc, positions, cells)


def _evaluate_with(
    calculator: Any, numbers: Array, pbc: Array, positions: Array, cells: Array
) -> tuple[Array, Array]:
    energies = np.full(len(positions), np.nan)
    forces = np.full(positions.shape, np.nan)
    for k, (x, cell) in enumerate(zip(positions, cells, strict=True)):
        if not np.isfinite(x).all():
            continue
        atoms = Atoms(numbers, x, cell=cell, pbc=pbc)
        atoms.calc = calculator
        energies[k] = atoms.get_potential_energy()
        forces[k] = atoms.get_forces()
    return energies, forces


def _name_of(factory: Any) -> str:
    return str(getattr(factory, "__qualname__", getattr(factory, "__name__", repr(factory))))
