"""Frames kept from a simulation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.md.state import State


@dataclass(frozen=True)
class RecordedFrames:
    """Valid frames of all replicas, ordered by step and then by replica.

    Attributes:
        positions: Å, unwrapped, (n, N, 3) float64.
        energies: potential energy in eV, (n,) float64.
        replica: index of the replica in the run, (n,) int64.
        step: steps since the start of the run, (n,) int64.
        cells: cell of every frame in Å, (n, 3, 3) float64; None where nothing is periodic.
        momenta: internal units (amu Å per ASE time unit), (n, N, 3) float64; None where
            they were not asked for.
    """

    positions: Tensor
    energies: Tensor
    replica: Tensor
    step: Tensor
    cells: Tensor | None = None
    momenta: Tensor | None = None

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    def select(self, index: Tensor | slice) -> RecordedFrames:
        """The frames at ``index`` (a slice, or an integer or boolean index tensor)."""
        return RecordedFrames(
            self.positions[index],
            self.energies[index],
            self.replica[index],
            self.step[index],
            None if self.cells is None else self.cells[index],
            None if self.momenta is None else self.momenta[index],
        )

    @classmethod
    def concatenate(cls, parts: list[RecordedFrames]) -> RecordedFrames:
        """Frames of several runs, in order."""
        cells = [p.cells for p in parts if p.cells is not None]
        momenta = [p.momenta for p in parts if p.momenta is not None]
        return cls(
            torch.cat([p.positions for p in parts]),
            torch.cat([p.energies for p in parts]),
            torch.cat([p.replica for p in parts]),
            torch.cat([p.step for p in parts]),
            torch.cat(cells) if len(cells) == len(parts) else None,
            torch.cat(momenta) if len(momenta) == len(parts) else None,
        )


class Recorder:
    """Collects frames at a fixed spacing.

    Args:
        with_momenta: whether momenta are kept as well.
    """

    def __init__(self, *, with_momenta: bool = False) -> None:
        self._with_momenta = with_momenta
        self._parts: list[RecordedFrames] = []

    def record(self, step: int, replicas: Tensor, state: State) -> None:
        """Keep the replicas of a state; ``replicas`` (A,) are their indices in the run."""
        self._parts.append(
            RecordedFrames(
                state.positions,
                state.energies,
                replicas,
                torch.full_like(replicas, step),
                state.cells,
                state.momenta if self._with_momenta else None,
            )
        )

    def frames(self, like: State) -> RecordedFrames:
        """All frames so far; ``like`` gives shape and device where there are none."""
        nothing = torch.zeros(0, dtype=torch.bool, device=like.alive.device)
        index = torch.zeros(0, dtype=torch.int64, device=like.alive.device)
        positions = like.positions[:0]
        cells = None if like.cells is None else like.cells[:0]
        momenta = like.momenta[:0] if self._with_momenta else None
        energies = positions.new_zeros(len(nothing))
        empty = RecordedFrames(positions, energies, index, index, cells, momenta)
        return RecordedFrames.concatenate([empty, *self._parts])
