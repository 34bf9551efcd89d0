"""States shortly before the failures of earlier simulation phases."""

from __future__ import annotations

from typing import Any

import torch

from stablemd.md import State
from stablemd.training.stable_settings import StableSettings


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

    @property
    def n_failures(self) -> int:
        return 0 if self.states is None else self.states.n_replicas

    def add(self, failed: State) -> None:
        """Take in the replicas of a phase that failed, each shortly before its failure."""
        known = failed if self.states is None else State.concatenate([failed, self.states])
        n_kept = min(known.n_replicas, self._capacity)
        self.states = known.select(torch.arange(n_kept)) if n_kept else None

    def payload(self) -> dict[str, Any] | None:
        """State for a checkpoint."""
        return None if self.states is None else self.states.to_dict()

    def restore(self, payload: dict[str, Any] | None, device: torch.device) -> None:
        """Continue from a payload, with a smaller capacity from its newest failures."""
        self.states = None
        if payload is not None:
            self.add(State.from_dict(payload, device))


def suffices(n_failed: int, memory: FailureMemory, settings: StableSettings) -> bool:
    """Whether a simulation phase has found enough failures to learn from.

    Args:
        n_failed: replicas that have failed in it.
        memory: the failures of earlier phases.
        settings: ``max_failed`` ends it in any case; ``enough_failures`` counts the
            remembered ones too, and asks for failures that keep the model from being stable.
    """
    if n_failed >= settings.max_failed * settings.n_replicas:
        return True
    if settings.enough_failures is None or n_failed <= settings.target_failed * settings.n_replicas:
        return False
    return n_failed + memory.n_failures >= settings.enough_failures
