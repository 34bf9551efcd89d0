"""SchNet's energies and forces on fixed tensors of a GPU: Triton kernels and matrix products.

This module needs triton and is imported where a device form is built only.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from stablemd.potentials import convolution_triton as kernels
from stablemd.potentials.schnet_device_arrays import Parameters, Workspace

LOG2 = math.log(2.0)

_ENTRIES = 8
"""Neighbours of an atom that are read together."""

_NUMBERS = 1024
"""Numbers of an activation per program."""

_COORDINATES = 32
"""Atoms whose distances are computed together."""


class DeviceNetwork:
    """A frozen SchNet and its scratch memory, for up to ``work.n_replicas`` replicas.

    Nothing is asked of the device and every tensor stays where it is, so that
    the work can be recorded.

    Args:
        model: the parameters.
        work: the scratch memory.
    """

    def __init__(self, model: Parameters, work: Workspace) -> None:
        self.model = model
        self.work = work

    def evaluate(self, positions: Tensor, energies: Tensor, forces: Tensor) -> None:
        """Fill energies (R,) eV and forces (R, N, 3) eV/Å of positions, all float64."""
        self.fill_energies(positions, energies)
        self._backward(positions, forces)
        forces.masked_fill_(energies.isnan()[:, None, None], float("nan"))

    def fill_energies(self, positions: Tensor, energies: Tensor) -> None:
        """Fill energies (R,) eV of positions (R, N, 3), all float64."""
        torch.sum(self._forward(positions), 1, dtype=torch.float64, out=energies)
        energies.mul_(self.model.scale).add_(self.model.shifts.sum())

    def atomic_energies(self, positions: Tensor) -> Tensor:
        """Atomic energies (R, N) eV of positions (R, N, 3), both float64."""
        return self._forward(positions).double().mul_(self.model.scale).add_(self.model.shifts)

    def _forward(self, positions: Tensor) -> Tensor:
        """The network's atomic energies (R, N), in scratch memory."""
        model, work = self.model, self.work
        rows = positions[..., 0].numel()
        room = work.neighbours.shape[1]
        n_interactions, _, width = model.w_in.shape
        found = (work.neighbours, work.knots, work.fractions, work.counts)
        kernels.launch(
            kernels.find_neighbours,
            rows,
            positions,
            model.scales,
            *found,
            positions.shape[1],
            ROOM=room,
            BLOCK=_COORDINATES,
            num_warps=1,
        )
        h, m, u, v, y = (t[:rows] for t in (work.h, work.m, work.u, work.v, work.y))
        h.view(*positions.shape[:2], -1).copy_(model.embedded)
        for k in range(n_interactions):
            x = work.x[k, :rows]
            if k > 0:
                torch.addmm(model.b_in[k], h, model.w_in[k], out=x)
            sizes = {"ROOM": room, "WIDTH": width, "BLOCK": _ENTRIES}
            kernels.launch(kernels.gather_messages, rows, x, model.tables[k], *found, m, **sizes)
            torch.addmm(model.b_out[k], m, model.w_out[k], out=u)
            _activate(u, work.slopes[k, :rows])
            h.addmm_(u, model.w_update[k])
        torch.addmm(model.b_hidden, h, model.w_hidden, out=v)
        _activate(v, y)
        local = torch.mv(v, model.w_energy, out=work.local[:rows])
        return local.view(positions.shape[:2])

    def _backward(self, positions: Tensor, forces: Tensor) -> None:
        """After ``_forward``; h, m and u become the gradients by what they were."""
        model, work = self.model, self.work
        rows = positions[..., 0].numel()
        room = work.neighbours.shape[1]
        n_interactions, _, width = model.w_in.shape
        found = (work.neighbours, work.knots, work.fractions, work.counts)
        h, m, g, u, y = (t[:rows] for t in (work.h, work.m, work.g, work.u, work.y))
        torch.mm(y.mul_(model.w_energy), model.w_hidden.T, out=h)
        for k in reversed(range(n_interactions)):
            torch.mm(h, model.w_update[k].T, out=u)
            torch.mm(u.mul_(work.slopes[k, :rows]), model.w_out[k].T, out=m)
            kernels.launch(
                kernels.scatter_gradients,
                rows,
                work.x[k, :rows],
                m,
                model.tables[k],
                *found,
                g,
                work.g_scaled,
                ROOM=room,
                WIDTH=width,
                BLOCK=_ENTRIES,
                IS_LAST=k == n_interactions - 1,
                IS_FIRST=k == 0,
                enable_fp_fusion=False,  # then a pair pulls both its atoms with the same force
            )
            if k > 0:
                h.addmm_(g, model.w_in[k].T)
        kernels.launch(
            kernels.pull_atoms,
            rows,
            positions,
            model.scales,
            work.neighbours,
            work.g_scaled,
            work.counts,
            forces,
            ROOM=room,
            BLOCK=_COORDINATES,
            num_warps=1,
        )


def _activate(x: Tensor, slope: Tensor) -> None:
    """In place on contiguous tensors: the activation, and its derivative into ``slope``."""
    n = x.numel()
    n_programs = -(-n // _NUMBERS)
    kernels.launch(kernels.shifted_softplus, n_programs, x, slope, n, BLOCK=_NUMBERS)


@lru_cache(maxsize=8)
def why_unusable(device: torch.device) -> str | None:
    """Why kernels do not run on a device, found out with a small one; None where they do."""
    x = torch.linspace(-30.0, 30.0, 61, device=device)
    y, slope = x.clone(), torch.empty_like(x)
    try:
        _activate(y, slope)
    except Exception as error:  # whatever a compiler, a driver or a missing tool of theirs raises
        return f"triton can't run a kernel there: {type(error).__name__}: {error}"
    expected = torch.nn.functional.softplus(x) - LOG2
    if torch.allclose(y, expected, atol=1e-5) and torch.allclose(slope, x.sigmoid(), atol=1e-5):
        return None
    return "a kernel of triton gives wrong numbers there"
