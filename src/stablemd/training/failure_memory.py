"""States shortly before the failures of earlier simulation phases."""

from __future__ import annotations

from typing import Any

import torch

from stablemd.md import State


class FailureMemory:
    """The latest failures that were found, for later learning phases to start near them again.

    A failure is dear to find once a model fails rarely, and a learning phase that only
    knows the newest ones may undo what an earlier one has learnt.

    Args:
        capacity: replicas that are kept at most, the newest ones first.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.states: State | None = None

    def add(self, failed: State) -> None:
        """Take in the replicas of a phase that failed, each shortly before its failure."""
        known = failed if self.states is None else State.concatenate([failed, self.states])
        n_kept = min(known.n_replicas, self._capacity)
        self.states = known.select(torch.arange(n_kept)) if n_kept else None

    def payload(self) -> dict[str, Any] | None:
        """State for a checkpoint."""
        return None if self.states is None else self.states.to_dict()

    def restore(self, payload: dict[str, Any] | None, device: torch.device) -> None:
        """Continue from a payload."""
        self.states = None if payload is None else State.from_dict(payload, device)
