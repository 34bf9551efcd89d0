"""SchNet's sampling form: tabulated filters and compiled message passing on a CPU."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stablemd.potentials.base import SamplingForm
from stablemd.potentials.schnet_kernels import evaluate_replicas
from stablemd.system import System

if TYPE_CHECKING:
    from stablemd.potentials.schnet import SchNet

logger = logging.getLogger(__name__)

KNOT_COUNTS = (512, 1024, 2048, 4096)
"""Table sizes that are tried until the error bound holds."""

FORCE_TOLERANCE = 1e-4
"""Largest accepted difference of a force component from the exact model, eV/Å."""

ENERGY_TOLERANCE = 1e-5
"""Largest accepted difference of an energy from the exact model, eV per atom."""


class SchNetSampling(SamplingForm):
    """Energies and forces of replicas of one system with a frozen SchNet.

    Filters are functions of one distance while the parameters are frozen, so
    each interaction's filter is a table, interpolated by cubic Hermite
    polynomials: energies are continuously differentiable and forces are their
    exact gradient.  Call again after an optimizer step to rebuild the tables.

    Args:
        potential: a SchNet in float32 on the CPU.
        system: the molecule.
        n_knots: intervals of the table on [0, cutoff].
    """

    replica_independent = True

    def __init__(self, potential: SchNet, system: System, n_knots: int = 1024) -> None:
        self._scale = float(potential.energy_scale)
        self._shift = float(potential.atomic_shift[system.numbers].sum())
        self.n_knots = n_knots
        with torch.no_grad():
            self._model = _pack(potential, system, n_knots)
        self._work = _workspace(potential, system)

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        local, forces = self._evaluate(positions)
        return local.sum(dim=1) * self._scale + self._shift, forces.mul_(self._scale)

    def for_thread(self) -> SchNetSampling:
        """The same model and tables with a workspace of its own."""
        other = copy.copy(self)
        other._work = tuple(np.zeros_like(array) for array in self._work)
        return other

    def _evaluate(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        x = positions.to(torch.float64).contiguous()
        forces = torch.empty_like(x)
        local = torch.empty(x.shape[:2], dtype=torch.float64)
        evaluate_replicas(x.numpy(), self._model, self._work, forces.numpy(), local.numpy())
        return local, forces


def build_sampling_form(
    potential: SchNet, system: System, reference: Tensor | None = None
) -> SchNetSampling | None:
    """The compiled form with the smallest table that meets the error bounds.

    Args:
        potential: the model.
        system: the molecule.
        reference: structures (n, N, 3) in Å on which the table's error is
            measured; without them the size is the one that suffices for common models.

    Returns:
        None, with the reason logged, where the compiled form does not apply.
    """
    if potential.device.type != "cpu" or potential.dtype != torch.float32 or system.is_periodic:
        logger.info(
            "SchNet sampling: eager form (%s on %s, periodic: %s; the compiled form needs "
            "float32 on cpu and an isolated molecule)",
            potential.dtype,
            potential.device,
            system.is_periodic,
        )
        return None
    if reference is None:
        return SchNetSampling(potential, system)
    exact_energies, exact_forces = potential.energy_and_forces(system, reference)
    force_error = energy_error = float("nan")
    for n_knots in KNOT_COUNTS:
        form = SchNetSampling(potential, system, n_knots)
        energies, forces = form(reference)
        force_error = float((forces - exact_forces).abs().max())
        energy_error = float((energies - exact_energies).abs().max()) / system.n_atoms
        if force_error < FORCE_TOLERANCE and energy_error < ENERGY_TOLERANCE:
            return form
    logger.warning(
        "SchNet sampling: eager form, since a table of %d knots is %.1e eV/Å and %.1e eV/atom "
        "off the exact model (bounds %.0e and %.0e)",
        KNOT_COUNTS[-1],
        force_error,
        energy_error,
        FORCE_TOLERANCE,
        ENERGY_TOLERANCE,
    )
    return None


def _pack(potential: SchNet, system: System, n_knots: int) -> tuple[object, ...]:
    """The parameters as contiguous float32 arrays in the order the kernel unpacks them."""
    blocks = potential.blocks

    def stack(tensors: list[Tensor]) -> np.ndarray:
        return np.ascontiguousarray(torch.stack(tensors).numpy())

    project_in = [b.project_in.weight for b in blocks]
    project_out = [b.project_out.weight for b in blocks]
    update = [b.update.weight for b in blocks]
    # softplus - ln 2 is computed as such by the kernel, so biases stay as they are.
    embedded = potential.embedding(system.numbers)
    hidden, energy = potential.readout_hidden, potential.readout_energy
    return (
        np.ascontiguousarray(embedded.numpy()),
        np.ascontiguousarray((embedded @ project_in[0].T).numpy()),
        stack(_filter_tables(potential, n_knots)),
        stack([w.T for w in project_in]),
        stack(project_in),
        stack([w.T for w in project_out]),
        stack(project_out),
        stack([b.project_out.bias for b in blocks]),
        stack([w.T for w in update]),
        stack(update),
        stack([b.update.bias for b in blocks]),
        np.ascontiguousarray(hidden.weight.T.numpy()),
        np.ascontiguousarray(hidden.weight.numpy()),
        hidden.bias.numpy().copy(),
        energy.weight[0].numpy().copy(),
        np.float32(energy.bias.item()),
        potential.cutoff,
        n_knots / potential.cutoff,
    )


def _filter_tables(potential: SchNet, n_knots: int) -> list[Tensor]:
    """Per interaction (n_knots + 2, 2, F): filter and its slope per table interval.

    Values come from the filter network in float64; slopes from central
    differences far below the table's own error.
    """
    spacing = potential.cutoff / n_knots
    knots = spacing * torch.arange(n_knots + 2, dtype=torch.float64)
    step = 1e-4
    grid = torch.cat([knots - step, knots, knots + step])
    precise = _DoubleFilters(potential)
    tables = []
    for values in precise(grid):
        below, at, above = values.chunk(3)
        slope = (above - below) * (spacing / (2.0 * step))
        table = torch.stack([at, slope], dim=1)
        table[n_knots:] = 0.0
        tables.append(table.float())
    return tables


class _DoubleFilters:
    """The filter networks of a SchNet in float64, without copying the model."""

    def __init__(self, potential: SchNet) -> None:
        self._potential = potential

    def __call__(self, distances: Tensor) -> list[Tensor]:
        gaussians, envelope = self._potential.expand_distances(distances)
        filters = []
        for block in self._potential.blocks:
            network = copy.deepcopy(block.filter).double()
            filters.append(network(gaussians, envelope))
        return filters


def _workspace(potential: SchNet, system: System) -> tuple[np.ndarray, ...]:
    """Scratch arrays in the order the kernel unpacks them."""
    n, k = system.n_atoms, len(potential.interactions)
    features = potential.embedding.weight.shape[1]
    filters = potential.blocks[0].project_in.weight.shape[0]
    half = potential.readout_hidden.weight.shape[0]
    n_pairs = n * (n - 1) // 2
    shapes = [
        (n, features),  # h
        (k, n, filters),  # x_all
        (n, filters),  # m
        (n, features),  # u
        (n, features),  # s
        (k, n * features),  # slopes
        (n, half),  # y
        (n * half,),  # y_slope
        (n, half),  # v
        (n, features),  # g_h
        (n, features),  # g_s
        (n, filters),  # g_m
        (n, filters),  # g_x
    ]
    arrays = [np.zeros(shape, dtype=np.float32) for shape in shapes]
    return (
        *arrays,
        np.zeros((n_pairs, 2), dtype=np.int64),
        np.zeros(n_pairs, dtype=np.int64),
        np.zeros((n_pairs, 4), dtype=np.float32),
        np.zeros(n_pairs, dtype=np.float32),
    )
