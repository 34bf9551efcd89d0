"""A long simulation in windows, which can be saved between them and continued."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from stablemd.md.integrators.base import Integrator
from stablemd.md.recording import RecordedFrames
from stablemd.md.sharding import simulate
from stablemd.md.state import State
from stablemd.potentials.base import SamplingForm
from stablemd.stability.detector_set import DetectorSet
from stablemd.system import System

FRAMES_PER_WINDOW = 50
"""Recorded frames per replica in a window, where nothing else is asked for."""

FIRST_FRAMES = 4
WINDOW_S = 10.0
"""Windows that are paced begin with so many frames and approach this wall time."""


@dataclass(frozen=True)
class LongRun:
    """How far replicas have come, and what became of those that failed.

    Steps count from the start of the whole run.  States, failures and frames are those
    of one call of ``simulate``, to the bit, however the run is divided.

    Attributes:
        state: where the replicas are; failed ones are not alive.
        n_done: steps that are over.
        failed_step: of the check that found the failure, -1 if none did, (R,) int64.
        details: one sentence per replica, None if it did not fail.
        n_force_evaluations: structures the potential evaluated, padding included.
    """

    state: State
    n_done: int
    failed_step: Tensor
    details: list[str | None]
    n_force_evaluations: int

    @classmethod
    def begin(cls, state: State) -> Self:
        """A run that has not done a step."""
        n = state.n_replicas
        return cls(state, 0, torch.full((n,), -1, dtype=torch.int64), [None] * n, 0)

    @property
    def failed(self) -> Tensor:
        """Whether each replica has failed, (R,) bool."""
        return self.failed_step >= 0

    def is_over(self, n_steps: int) -> bool:
        """Whether a run of so many steps is at its end, or no replica is left."""
        return self.n_done >= n_steps or not bool(self.state.alive.any())

    def advance(
        self,
        form: SamplingForm,
        integrator: Integrator,
        detectors: DetectorSet,
        system: System,
        *,
        n_steps: int,
        seed: int,
        check_every: int,
        record_every: int,
        record_momenta: bool = False,
        n_frames: int | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> tuple[LongRun, RecordedFrames]:
        """The next window, see ``simulate``.

        A window ends with a check and a recorded frame.  Detectors that compare with
        earlier checks would begin anew with it: with one of these it is the whole run.

        Args:
            form: evaluator of energies and forces.
            integrator: the dynamics.
            detectors: what counts as a failure.
            system: the atoms.
            n_steps: of the whole run.
            seed: of the random streams.
            check_every: steps between checks.
            record_every: steps between recorded frames, at least 1.
            record_momenta: keep their momenta.
            n_frames: recorded frames per replica in the window, or a few more;
                FRAMES_PER_WINDOW by default.
            on_progress: called with the steps of the whole run that are over and the
                number of replicas still running.

        Returns:
            The run after the window, and the frames recorded in it.
        """
        left = n_steps - self.n_done
        unit = math.lcm(check_every, record_every)
        window = unit * math.ceil((n_frames or FRAMES_PER_WINDOW) * record_every / unit)
        before = self.n_done

        def report(step: int, n_running: int) -> None:
            if on_progress is not None:
                on_progress(before + step, n_running)

        result = simulate(
            form,
            self.state,
            integrator,
            detectors,
            system,
            n_steps=left if detectors.has_memory else min(window, left),
            seed=seed,
            check_every=check_every,
            record_every=record_every,
            record_momenta=record_momenta,
            on_progress=report,
        )
        now = result.failed.cpu()
        details = [new or old for new, old in zip(result.details, self.details, strict=True)]
        after = LongRun(
            result.state,
            before + result.state.step - self.state.step,
            torch.where(now, result.failed_step.cpu() + before, self.failed_step),
            details,
            self.n_force_evaluations + result.n_force_evaluations,
        )
        return after, replace(result.frames, step=result.frames.step + before)

    def payload(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {
            "state": self.state.to_dict(),
            "n_done": self.n_done,
            "failed_step": self.failed_step,
            "details": self.details,
            "n_force_evaluations": self.n_force_evaluations,
        }

    @classmethod
    def from_payload(cls, payload: dict[str, Any], device: torch.device | str) -> Self:
        """The run that ``payload`` gave, with its state on a device."""
        return cls(**{**payload, "state": State.from_dict(payload["state"], device)})


def paced(n_frames: int, window_s: float) -> int:
    """How many frames the next window should have, after one of ``n_frames`` took so long.

    At least one and at most four times as many: a slow model is not waited for, and a fast
    one is not called more often than needed.
    """
    return max(1, int(n_frames * min(4.0, WINDOW_S / max(window_s, 1e-9))))
