"""Models met during training, and which of them to keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """What a simulation phase measured about the model it ran.

    Attributes:
        cycle: number of the phase; 0 is the model at the start.
        steps: optimizer steps taken up to it.
        n_failed: replicas that failed.
        time_ps: time all replicas together survived, in ps.
        within_budget: whether its validation errors are within the budget.
    """

    cycle: int
    steps: int
    n_failed: int
    time_ps: float
    within_budget: bool

    @property
    def failure_rate(self) -> float:
        """Posterior mean of the failure rate in 1/ps under Jeffreys' prior."""
        return (self.n_failed + 0.5) / max(self.time_ps, 1e-9)

    @staticmethod
    def best(candidates: list[Candidate]) -> Candidate:
        """The most stable one within the budget; the earliest among equals."""
        allowed = [c for c in candidates if c.within_budget] or candidates[:1]
        return min(allowed, key=lambda c: (c.failure_rate, c.cycle))
