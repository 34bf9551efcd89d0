"""Replicas in blocks: what must be evaluated together to give the same bits everywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd.potentials.base import SamplingForm


class BlockedForm(SamplingForm):
    """A form that evaluates the replicas of each block together, whatever else is in the call.

    Operations on many structures may round differently for another number of them, so
    replicas that share a call have to be the same ones wherever they are computed.

    Args:
        form: of which every block gets a copy, with lists and scratch memory of its own.
        size: replicas of a block; the last one may have fewer.
    """

    def __init__(self, form: SamplingForm, size: int) -> None:
        self._form = form
        self._size = size
        self._forms: list[SamplingForm] = []
        self.holds_gil = form.holds_gil

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        parts = [form(x, h) for form, x, h in self._blocks(positions, cells)]
        energies, forces = zip(*parts, strict=True)
        return torch.cat(energies), torch.cat(forces)

    def with_stress(self, positions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = [
            form.with_stress(x, h) for form, x, h in self._blocks(positions, cells) if h is not None
        ]
        energies, forces, stress = zip(*parts, strict=True)
        return torch.cat(energies), torch.cat(forces), torch.cat(stress)

    def _blocks(
        self, positions: Tensor, cells: Tensor | None
    ) -> list[tuple[SamplingForm, Tensor, Tensor | None]]:
        begins = range(0, len(positions), self._size)
        while len(self._forms) < len(begins):
            self._forms.append(self._form.for_thread())
        blocks = []
        for form, begin in zip(self._forms, begins, strict=False):
            rows = slice(begin, begin + self._size)
            # Copies begin where memory is aligned, as those of a block that is alone.
            h = None if cells is None else cells[rows].clone()
            blocks.append((form, positions[rows].clone(), h))
        return blocks


def shares_of_blocks(alive: Tensor, size: int, n_shares: int) -> list[Tensor]:
    """Replicas of each share: whole blocks that hold a replica that runs, dealt out evenly.

    Args:
        alive: which replicas run, (R,) bool.
        size: replicas of a block.
        n_shares: shares at most; there are fewer where there are fewer blocks.

    Returns:
        Indices of replicas in ascending order, one tensor a share.
    """
    blocks = [b for b in torch.arange(len(alive)).split(size) if bool(alive[b].any())]
    n_shares = min(n_shares, len(blocks))
    # Dealt out in turn, so that replicas of one kind do not end up in one share.
    return [torch.cat(blocks[k::n_shares]) for k in range(n_shares)]
