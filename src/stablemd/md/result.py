"""What a simulation leaves behind."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stablemd.md.recording import RecordedFrames
from stablemd.md.state import State


@dataclass(frozen=True)
class SimulationResult:
    """What a simulation left behind.

    Attributes:
        state: the final state; a failed replica sits at its last state that
            passed a check, with ``alive`` False.
        rewind_state: replicas to go on with, all alive: the final state, but
            failed ones ``rewind_steps`` before their last valid check (or at
            the start of this run, if that is later); None without rewinding.
        failed_step: steps from the start of this run to the check that found
            the failure, -1 if it did not fail in this run, (R,) int64.
        reasons: short name of the detector per replica, None if it did not fail.
        details: one sentence per replica, None if it did not fail.
        frames: recorded valid frames.
        n_force_evaluations: structures the potential evaluated (replica-steps,
            padding included).
        wall_s: seconds by part: model, noise, integrate, detect, record; where the
            form makes the steps itself, ``model`` holds its part of the integration.
    """

    state: State
    rewind_state: State | None
    failed_step: Tensor
    reasons: list[str | None]
    details: list[str | None]
    frames: RecordedFrames
    n_force_evaluations: int
    wall_s: dict[str, float]

    @property
    def failed(self) -> Tensor:
        """Whether each replica failed in this run, (R,) bool."""
        return self.failed_step >= 0

    @property
    def n_failed(self) -> int:
        return int(self.failed.sum())
