"""When a learning rate should be reduced."""

from __future__ import annotations

from typing import Any


class Plateau:
    """Counts epochs without progress of a number that should fall.

    The rule of ``ReduceLROnPlateau``, which the paper uses on the failed
    fraction, without an optimizer attached, so that the training can end where
    the next reduction would be one too many.

    Args:
        factor: what a reduction multiplies the learning rate by.
        patience: epochs without progress that are tolerated.
    """

    def __init__(self, factor: float, patience: int) -> None:
        self.factor = factor
        self.patience = patience
        self.reset()

    def reset(self) -> None:
        """Forget everything, as a new learning phase does."""
        self.best = float("inf")
        self.n_bad = 0
        self.n_reductions = 0

    def step(self, value: float) -> bool:
        """Take the value of an epoch; whether the learning rate is due for a reduction."""
        if value < self.best:
            self.best, self.n_bad = value, 0
            return False
        self.n_bad += 1
        if self.n_bad <= self.patience:
            return False
        self.n_bad = 0
        self.n_reductions += 1
        return True

    def payload(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {"best": self.best, "n_bad": self.n_bad, "n_reductions": self.n_reductions}

    def restore(self, payload: dict[str, Any]) -> None:
        """Continue from a payload."""
        self.best = payload["best"]
        self.n_bad = payload["n_bad"]
        self.n_reductions = payload["n_reductions"]
