"""SchNet's sampling form for a GPU: tabulated filters, Triton kernels, steps as CUDA graphs.

This module needs triton and is imported where the form is built only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stablemd.potentials.base import SamplingForm
from stablemd.potentials.device_graph import Work, record
from stablemd.potentials.schnet_device import DeviceNetwork
from stablemd.potentials.schnet_device_arrays import Parameters, Workspace
from stablemd.potentials.split_step import SplitStep
from stablemd.potentials.tensor_steps import TensorSteps
from stablemd.system import System

if TYPE_CHECKING:
    from stablemd.potentials.schnet import SchNet

_KEPT = 2
"""Numbers of replicas for which recorded work is kept."""


class TritonSchNetSampling(SamplingForm):
    """Energies and forces of replicas of one molecule with a frozen SchNet on a GPU.

    Filters are read from the same cubic splines as on a CPU.  Each atom is one
    program that loops over its neighbours, so no sum depends on timing; dense
    layers are PyTorch's matrix products, whose rounding may depend on the number
    of replicas, so the step loop keeps it fixed.  More replicas than fit into the
    memory are evaluated in several batches.

    Args:
        potential: a SchNet in float32.
        system: the molecule.
        n_knots: intervals of the table on [0, cutoff].
    """

    replica_independent = False
    advances = True

    def __init__(self, potential: SchNet, system: System, n_knots: int = 1024) -> None:
        self.n_knots = n_knots
        self._model = Parameters.of(potential, system, n_knots)
        self._network = DeviceNetwork(self._model, Workspace(self._model, 1))
        self._evaluations: dict[torch.Size, _Evaluation] = {}
        self._steps: list[TensorSteps] = []

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = positions.to(torch.float64).contiguous()
        energies, forces = x.new_empty(len(x)), torch.empty_like(x)
        for at in self._blocks(x):
            energies[at], forces[at] = self._evaluation(x[at].shape)(x[at])
        return energies, forces

    def energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        x = positions.to(torch.float64).contiguous()
        energies = x.new_empty(len(x))
        for at in self._blocks(x):
            self._network.fill_energies(x[at], energies[at])
        return energies

    def atomic_energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        x = positions.to(torch.float64).contiguous()
        local = x.new_empty(x.shape[:2])
        for at in self._blocks(x):
            local[at] = self._network.atomic_energies(x[at])
        return local

    def advance(
        self,
        positions: Tensor,
        momenta: Tensor,
        forces: Tensor,
        step: SplitStep,
        n_steps: int,
        noise: Tensor | None,
    ) -> Tensor:
        energies = positions.new_empty(len(positions))
        for at in self._blocks(positions):
            draws = None if noise is None else noise[:, at]
            steps = self._steps_of(positions[at], step)
            energies[at] = steps.advance(
                positions[at], momenta[at], forces[at], step, n_steps, draws
            )
        return energies

    def for_thread(self) -> TritonSchNetSampling:
        """The same model and tables with a workspace of its own."""
        other = copy.copy(self)
        other._resize(1)
        return other

    def _resize(self, n_replicas: int) -> None:
        """A new workspace; work that was recorded uses the old one and is forgotten."""
        self._evaluations, self._steps = {}, []
        del self._network  # frees its memory first
        self._network = DeviceNetwork(self._model, Workspace(self._model, n_replicas))

    def _blocks(self, positions: Tensor) -> Iterator[slice]:
        """Equal parts of the replicas, with a workspace that is large enough for each."""
        n = len(positions)
        if n > self._network.work.n_replicas:
            self._resize(1)
            self._resize(min(n, Workspace.capacity(self._model)))
        n_blocks = max(1, -(-n // self._network.work.n_replicas))
        size = max(1, -(-n // n_blocks))
        for begin in range(0, n, size):
            yield slice(begin, min(begin + size, n))

    def _evaluation(self, shape: torch.Size) -> _Evaluation:
        if shape not in self._evaluations:
            while len(self._evaluations) >= _KEPT:
                self._evaluations.pop(next(iter(self._evaluations)))
            self._evaluations[shape] = _Evaluation(self._network, shape)
        return self._evaluations[shape]

    def _steps_of(self, positions: Tensor, step: SplitStep) -> TensorSteps:
        shape = positions.shape
        for steps in self._steps:
            if steps.fits(shape, step):
                return steps
        steps = TensorSteps(self._network.evaluate, shape, positions.device, step)
        self._steps = [*self._steps[1 - _KEPT :], steps]
        return steps


class _Evaluation:
    """Energies and forces of one number of replicas; recorded when they are asked for again."""

    def __init__(self, network: DeviceNetwork, shape: torch.Size) -> None:
        self._network = network
        device = network.model.tables.device
        self._positions = torch.zeros(shape, dtype=torch.float64, device=device)
        self._forces = torch.zeros_like(self._positions)
        self._energies = self._positions.new_zeros(shape[0])
        self._calls = 0
        self._recorded: Work | None = None

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        self._calls += 1
        if self._calls == 2:
            self._recorded = record(self._evaluate, positions.device)
        self._positions.copy_(positions)
        (self._recorded or self._evaluate)()
        return self._energies.clone(), self._forces.clone()

    def _evaluate(self) -> None:
        self._network.evaluate(self._positions, self._energies, self._forces)
