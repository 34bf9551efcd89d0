"""Past checked states, for restarting failed replicas before their failure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.md.state import State


@dataclass(frozen=True)
class _Entry:
    step: int
    replicas: Tensor
    state: State


class RewindHistory:
    """Keeps just enough checked states to go back ``rewind_steps`` from the newest one.

    States are immutable, so keeping one costs no copy; at most
    ``rewind_steps / (steps between checks) + 2`` of them are held.

    Args:
        rewind_steps: how far to go back, in steps.
    """

    def __init__(self, rewind_steps: int) -> None:
        self._rewind_steps = rewind_steps
        self._entries: deque[_Entry] = deque()

    def push(self, step: int, replicas: Tensor, state: State) -> None:
        """Keep a checked state.

        Args:
            step: steps since the start of the run, larger than in the last call.
            replicas: sorted index of each of the state's replicas in the run, (A,) int64.
            state: the A replicas.
        """
        self._entries.append(_Entry(step, replicas, state))
        while len(self._entries) > 1 and self._entries[1].step <= step - self._rewind_steps:
            self._entries.popleft()

    def rewound(self, replicas: Tensor) -> State:
        """The replicas at the newest kept state that is at least ``rewind_steps`` old.

        The age counts from the newest kept state, which is the last valid one of
        a replica that failed just now.  The oldest state serves where none is
        old enough.

        Args:
            replicas: indices in the run, all of them in the newest kept state, (F,) int64.
        """
        entry = self._entries[0]
        return entry.state.select(torch.searchsorted(entry.replicas, replicas))

    def __len__(self) -> int:
        return len(self._entries)
