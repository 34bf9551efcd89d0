"""A plain function or module of the user's as a potential."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials.base import Potential
from stablemd.potentials.batch import Batch


class FunctionPotential(Potential):
    """A function of a ``Batch`` as a potential; a module's parameters are trained.

    Args:
        function: takes a batch and returns atomic energies (n_atoms_total,) in eV, or,
            with ``local=False``, total energies (n_structures,); built of differentiable
            operations on ``batch.positions`` or ``batch.pair_vectors()``.
        cutoff: longest pair that it needs in Å; pairs may be longer, and the function
            takes their energy smoothly to zero there.
        local: whether it returns atomic energies.

    Raises:
        PotentialError: it can't be called, or the cutoff is not positive.
    """

    def __init__(
        self, function: Callable[[Batch], Tensor], *, cutoff: float, local: bool = True
    ) -> None:
        super().__init__()
        if not callable(function):
            raise PotentialError(
                f"FunctionPotential was given a {type(function).__name__}; give a function or "
                "module that takes a Batch and returns energies in eV"
            )
        if not cutoff > 0:
            raise PotentialError(f"FunctionPotential: cutoff = {cutoff} Å must be positive")
        self.function = function
        self.cutoff = float(cutoff)
        self.has_local_energies = local
        self.hyperparameters = {"cutoff": self.cutoff, "local": local}

    def local_energies(self, batch: Batch) -> Tensor:
        """Atomic energies in eV, (n_atoms_total,), with graph."""
        self.require_local_energies()
        return self._checked(self.function(batch), len(batch.numbers), "atomic energies, one each")

    def batch_energy(self, batch: Batch) -> Tensor:
        """Total energy of each structure in eV, (n_structures,) float64, with graph."""
        if self.has_local_energies:
            return super().batch_energy(batch)
        energies = self.function(batch)
        return self._checked(energies, batch.n_structures, "total energies, one each").double()

    @property
    def dtype(self) -> torch.dtype:
        """Of the function's parameters; float64 where it has none."""
        has_parameters = any(True for _ in self.parameters())
        return super().dtype if has_parameters else torch.float64

    def _checked(self, energies: Any, n: int, what: str) -> Tensor:
        if not isinstance(energies, Tensor) or energies.shape != (n,):
            shape = tuple(energies.shape) if isinstance(energies, Tensor) else type(energies)
            raise PotentialError(
                f"the function of FunctionPotential returned {shape}; expected {what} of "
                f"({n},) in eV"
            )
        return energies
