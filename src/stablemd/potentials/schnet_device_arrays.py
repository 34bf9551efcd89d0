"""The tensors that SchNet's form for a GPU works on: parameters, filter tables, scratch memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials.replica_batches import SHARE, available_bytes
from stablemd.potentials.schnet_arrays import filter_tables
from stablemd.system import System

if TYPE_CHECKING:
    from stablemd.potentials.schnet import SchNet


@dataclass(frozen=True)
class Parameters:
    """Frozen parameters, matrices as (inputs, outputs); K interactions, N atoms.

    Filters are padded with zeros to a power of two W, which changes no number.
    The biases of the updates are added up and pass through the layers that
    follow, so that no pass over the features is needed to add them.

    Attributes:
        embedded: features of the atoms before the first interaction, (N, F).
        projected: the same after its in-projection, (N, W).
        tables: B-spline coefficients of the filters, (K, knots, W).
        w_in: (K, F, W), and ``b_in`` (K, W) what the updates' biases give there.
        w_out: (K, W, F), ``b_out`` (K, F).
        w_update: (K, F, F).
        w_hidden: (F, H), ``b_hidden`` (H,), the updates' biases included.
        w_energy: (H,).
        scales: cutoff² in Å², table rows per Å, and those times the energy scale in eV; (3,)
            float64.
        scale: eV per unit of the network's energy.
        shifts: constant energy of each atom in eV, with the readout's bias, (N,) float64.
    """

    embedded: Tensor
    projected: Tensor
    tables: Tensor
    w_in: Tensor
    b_in: Tensor
    w_out: Tensor
    b_out: Tensor
    w_update: Tensor
    w_hidden: Tensor
    b_hidden: Tensor
    w_energy: Tensor
    scales: Tensor
    scale: float
    shifts: Tensor

    @classmethod
    def of(cls, potential: SchNet, system: System, n_knots: int) -> Parameters:
        """Those of a float32 model, on its device."""
        blocks, device = potential.blocks, potential.device
        n_filters = blocks[0].project_in.weight.shape[0]
        more = (1 << (n_filters - 1).bit_length()) - n_filters
        with torch.no_grad():
            numbers = system.numbers.to(device)
            embedded = potential.embedding(numbers)
            w_in = torch.stack([b.project_in.weight.T for b in blocks])
            biases = torch.stack([b.update.bias for b in blocks]).cumsum(0)
            before = torch.cat([torch.zeros_like(biases[:1]), biases[:-1]])
            hidden, energy = potential.readout_hidden, potential.readout_energy
            rate, scale = n_knots / potential.cutoff, float(potential.energy_scale)
            own = potential.atomic_shift[numbers] + scale * energy.bias.double()
            tables = torch.stack(filter_tables(potential, n_knots)).to(device)
            return cls(
                embedded=embedded,
                projected=_wider(embedded @ w_in[0], more),
                tables=_wider(tables, more),
                w_in=_wider(w_in, more),
                b_in=_wider(torch.einsum("kf,kfw->kw", before, w_in), more),
                w_out=_wider(torch.stack([b.project_out.weight for b in blocks]), more).mT.clone(),
                b_out=torch.stack([b.project_out.bias for b in blocks]),
                w_update=torch.stack([b.update.weight.T for b in blocks]),
                w_hidden=hidden.weight.T.clone(),
                b_hidden=hidden.bias + hidden.weight @ biases[-1],
                w_energy=energy.weight[0].clone(),
                scales=torch.tensor(
                    [potential.cutoff**2, rate, rate * scale], dtype=torch.float64, device=device
                ),
                scale=scale,
                shifts=own,
            )


class Workspace:
    """Scratch tensors for up to R replicas, of which calls use the first rows.

    Attributes:
        n_replicas: R.
        neighbours: rows of each atom's neighbours, (R N, N - 1) int32, with
            ``knots`` int32 and ``fractions`` where the distance lies in the table.
        counts: neighbours of each atom, (R N,) int32.
        g_scaled: gradient by the distances in units of the table's rows, (R N, N - 1).
        h: features, later the gradient by them, (R N, F).
        x: what the convolutions read, (K, R N, W); that of the first never changes.
        slopes: of the activations, (K, R N, F).
        m: messages, later the gradient by them, (R N, W); ``g`` that by ``x``.
        u: (R N, F); ``v`` and ``y`` (R N, H); ``local`` (R N,).
    """

    def __init__(self, parameters: Parameters, n_replicas: int) -> None:
        self.n_replicas = n_replicas
        for name, (shape, dtype) in _shapes(parameters, n_replicas).items():
            setattr(self, name, torch.zeros(shape, dtype=dtype, device=parameters.tables.device))
        self.x[0].unflatten(0, (n_replicas, -1)).copy_(parameters.projected)

    neighbours: Tensor
    knots: Tensor
    fractions: Tensor
    counts: Tensor
    g_scaled: Tensor
    h: Tensor
    x: Tensor
    slopes: Tensor
    m: Tensor
    g: Tensor
    u: Tensor
    v: Tensor
    y: Tensor
    local: Tensor

    @staticmethod
    def capacity(parameters: Parameters) -> int:
        """Replicas whose workspace fits into the device's free memory.

        Raises:
            PotentialError: not even one does.
        """
        needed = sum(prod(shape) * 4 for shape, _ in _shapes(parameters, 1).values())
        free = available_bytes(parameters.tables.device)
        if needed > SHARE * free:
            raise PotentialError(
                f"one replica of {len(parameters.shifts)} atoms needs {needed / 2**20:.0f} MiB and "
                f"{free / 2**20:.0f} MiB of the device are free; free memory or use another device"
            )
        return int(SHARE * free / needed)


def _shapes(
    parameters: Parameters, n_replicas: int
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    n_interactions, features, width = parameters.w_in.shape
    n_atoms, half = len(parameters.shifts), len(parameters.w_energy)
    rows, room = n_replicas * n_atoms, max(1, n_atoms - 1)
    real = torch.float32
    return {
        "neighbours": ((rows, room), torch.int32),
        "knots": ((rows, room), torch.int32),
        "fractions": ((rows, room), real),
        "counts": ((rows,), torch.int32),
        "g_scaled": ((rows, room), real),
        "h": ((rows, features), real),
        "x": ((n_interactions, rows, width), real),
        "slopes": ((n_interactions, rows, features), real),
        "m": ((rows, width), real),
        "g": ((rows, width), real),
        "u": ((rows, features), real),
        "v": ((rows, half), real),
        "y": ((rows, half), real),
        "local": ((rows,), real),
    }


def _wider(tensor: Tensor, more: int) -> Tensor:
    """The last dimension with ``more`` zeros at its end; contiguous."""
    return torch.nn.functional.pad(tensor, (0, more)).contiguous()
