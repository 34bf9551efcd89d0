"""Models met during training, and which of them to keep."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Candidate:
    """What the simulation phases of a cycle measured about the model they ran.

    Attributes:
        cycle: number of the phase; 0 is the model at the start.
        steps: optimizer steps taken up to it.
        n_failed: replicas that failed.
        time_ps: time all replicas together survived, in ps.
        within_budget: whether its validation errors are within the budget.
        n_phases: simulation phases that measured it.
    """

    cycle: int
    steps: int
    n_failed: int
    time_ps: float
    within_budget: bool
    n_phases: int = 1

    @property
    def failure_rate(self) -> float:
        """Posterior mean of the failure rate in 1/ps under Jeffreys' prior."""
        return (self.n_failed + 0.5) / max(self.time_ps, 1e-9)

    def joined(self, other: Candidate) -> Candidate:
        """The same model with what a further phase measured."""
        return replace(
            self,
            n_failed=self.n_failed + other.n_failed,
            time_ps=self.time_ps + other.time_ps,
            n_phases=self.n_phases + other.n_phases,
        )

    @staticmethod
    def best(candidates: list[Candidate]) -> Candidate:
        """The most stable one within the budget; the earliest among equals."""
        allowed = [c for c in candidates if c.within_budget] or candidates[:1]
        return min(allowed, key=lambda c: (c.failure_rate, c.cycle))


class CandidateModels:
    """What was measured about every model, and the weights of those that may be chosen."""

    def __init__(self) -> None:
        self.measured: list[Candidate] = []
        self._weights: dict[int, dict[str, Tensor]] = {}

    @property
    def best(self) -> Candidate:
        return Candidate.best(self.measured)

    def best_weights(self) -> dict[str, Tensor]:
        """The state dict of the best one."""
        return self._weights[self.best.cycle]

    def is_measured(self, steps: int) -> bool:
        """Whether the model after so many optimizer steps has been measured."""
        return bool(self.measured) and self.measured[-1].steps == steps

    def add(self, candidate: Candidate, weights: dict[str, Tensor]) -> Candidate:
        """Remember the present model; a second phase of a cycle adds to the first one."""
        if self.measured and self.measured[-1].cycle == candidate.cycle:
            candidate = self.measured.pop().joined(candidate)
        # A further phase may show that an earlier model is better after all: keep both.
        kept = {self.best.cycle: self._weights[self.best.cycle]} if self.measured else {}
        self._weights = {**kept, candidate.cycle: {k: v.clone() for k, v in weights.items()}}
        self.measured.append(candidate)
        return candidate

    def payload(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"measured": [asdict(c) for c in self.measured], "weights": self._weights}

    def restore(self, payload: dict[str, Any], device: torch.device) -> None:
        """Continue from a payload."""
        self.measured = [Candidate(**c) for c in payload["measured"]]
        self._weights = {
            cycle: {k: v.to(device) for k, v in weights.items()}
            for cycle, weights in payload["weights"].items()
        }
