"""The arrays that SchNet's compiled kernels work on: parameters, filter tables, scratch memory."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.linalg import solve_banded
from torch import Tensor

from stablemd.potentials.aligned_arrays import aligned, padded, whole_vectors
from stablemd.system import System

if TYPE_CHECKING:
    from stablemd.potentials.schnet import SchNet

_BLOCK_BYTES = 1 << 19
"""Scratch memory of the replicas that are evaluated together: half of a usual core's own cache."""

_MAX_BLOCK = 16


def pack_model(potential: SchNet, system: System, n_knots: int) -> tuple[Any, ...]:
    """The parameters in the order the kernel unpacks them.

    Widths are padded with zeros to whole vectors, which changes no number.
    """
    blocks = potential.blocks
    project_in = [b.project_in.weight for b in blocks]
    project_out = [b.project_out.weight for b in blocks]
    update = [b.update.weight for b in blocks]
    embedded = potential.embedding(system.numbers)
    hidden, energy = potential.readout_hidden, potential.readout_energy
    arrays = (
        padded(embedded, 1),
        padded(embedded @ project_in[0].T, 1),
        padded(torch.stack(filter_tables(potential, n_knots)), 1),
        padded(torch.stack([w.T for w in project_in]), 2),
        padded(torch.stack(project_in), 2),
        padded(torch.stack([w.T for w in project_out]), 2),
        padded(torch.stack(project_out), 2),
        padded(torch.stack([b.project_out.bias for b in blocks]), 1),
        padded(torch.stack([w.T for w in update]), 2),
        padded(torch.stack(update), 2),
        padded(torch.stack([b.update.bias for b in blocks]), 1),
        padded(hidden.weight.T, 2),
        padded(hidden.weight, 2),
        padded(hidden.bias, 1),
        padded(energy.weight[0], 1),
    )
    return (
        *arrays,
        np.float32(energy.bias.item()),
        potential.cutoff,
        n_knots / potential.cutoff,
        float(potential.energy_scale),
        float(potential.atomic_shift[system.numbers].sum()),
        aligned((max(whole_vectors(w.shape[0]) for w in (*project_in, *update)),)),  # no bias
    )


def make_workspace(
    potential: SchNet, system: System, n_pairs: int | None = None
) -> tuple[np.ndarray, ...]:
    """Scratch arrays for one block of replicas, in the order the kernel unpacks them.

    Args:
        potential: the model.
        system: the atoms.
        n_pairs: room for the pairs of one replica; all pairs of atoms by default.
    """
    n, k = system.n_atoms, len(potential.interactions)
    features = whole_vectors(potential.embedding.weight.shape[1])
    filters = whole_vectors(potential.blocks[0].project_in.weight.shape[0])
    half = whole_vectors(potential.readout_hidden.weight.shape[0])
    if n_pairs is None:
        n_pairs = n * (n - 1) // 2
    widest = max(features, filters)
    per_replica = 4 * n * ((k + 1) * features + k * filters + 3 * widest + 2 * half) + 64 * n_pairs
    b = max(1, min(_MAX_BLOCK, _BLOCK_BYTES // per_replica))
    rows = b * n
    return (
        np.zeros(b, dtype=np.int64),  # counts
        aligned((b, n_pairs, 2), np.int32),  # pairs
        aligned((b, n_pairs), np.int32),  # knots
        aligned((b, n_pairs, 4)),  # geometry
        aligned((b, n_pairs, 8)),  # weights
        aligned((b, n_pairs)),  # g_d
        aligned((rows, features)),  # h
        aligned((k, rows, filters)),  # x
        aligned((k, rows, features)),  # slopes
        aligned((rows, filters)),  # m
        aligned((rows, filters)),  # g
        aligned((rows, features)),  # u
        aligned((rows, half)),  # v
        aligned((rows, half)),  # y
    )


def copy_workspace(work: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Scratch arrays of the same shapes for another thread."""
    return tuple(aligned(array.shape, array.dtype) for array in work)


def filter_tables(potential: SchNet, n_knots: int) -> list[Tensor]:
    """Per interaction (n_knots + 4, F) on the CPU: coefficients of the filter's cubic spline.

    The spline takes the filter network's values at the knots, in float64, and
    its slopes at both ends.  The last row serves a distance that rounds up to the cutoff.
    """
    spacing = potential.cutoff / n_knots
    knots = spacing * torch.arange(n_knots + 1, dtype=torch.float64)
    step = 1e-4
    ends = torch.tensor([0.0, potential.cutoff], dtype=torch.float64)
    grid = torch.cat([knots, ends - step, ends + step])
    bands = np.zeros((5, n_knots + 3))
    bands[1, 2:], bands[2, 1:-1], bands[3, :-2] = 1.0, 4.0, 1.0
    bands[0, 2], bands[2, 0], bands[2, -1], bands[4, -3] = 1.0, -1.0, 1.0, -1.0
    tables = []
    for values in _DoubleFilters(potential)(grid.to(potential.device)):
        values = values.cpu()
        below, above = values[n_knots + 1 :].chunk(2)
        slopes = (above - below) * (spacing / (2.0 * step))
        right = torch.cat([2.0 * slopes[:1], 6.0 * values[: n_knots + 1], 2.0 * slopes[1:]])
        right[-2:] = 0.0
        solved = torch.from_numpy(solve_banded((2, 2), bands, right.numpy()))
        tables.append(torch.cat([solved, torch.zeros_like(solved[:1])]).float())
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
