"""The dynamics of one state point: its simulation phases and learning windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stablemd.md import RecordedFrames, SimulationResult, State, simulate
from stablemd.potentials.base import SamplingForm
from stablemd.training.failure_memory import FailureMemory, suffices
from stablemd.training.fresh_replicas import fresh_replicas
from stablemd.training.learning_start import learning_start
from stablemd.training.reference_structures import reference_structures
from stablemd.training.training_point import TrainingPoint

OnShare = Callable[[float, int], None]
"""Called with the share of a phase that is done and the replicas that still run."""


@dataclass(frozen=True)
class PhaseOutcome:
    """What a simulation phase of one state point found.

    Attributes:
        n_failed: replicas that failed.
        time_ps: time that all replicas together survived, in ps.
        n_force_evaluations: replica-steps, those of failed replicas up to their failure.
        reasons: of the failures, in words.
        stable: frames of replicas in windows in which they did not fail.
    """

    n_failed: int
    time_ps: float
    n_force_evaluations: int
    reasons: list[str]
    stable: RecordedFrames


class PointDynamics:
    """Replicas of one state point, and where its next learning window starts.

    Args:
        point: system, start structures and settings.
        device: of the replicas.
    """

    def __init__(self, point: TrainingPoint, device: torch.device) -> None:
        self._point = point
        self._settings = point.settings
        self._device = device
        self._system = point.system.to(device)
        self._integrator = point.settings.dynamics.make_integrator()
        self._detectors = point.settings.dynamics.make_detectors(
            self._system, reference_structures(point.reference, device)
        )
        self._memory = FailureMemory(point.settings.remembered_failures)
        self._start: State | None = None
        self._md_step = 0
        self.origin: Tensor | None = None
        """The replica that each replica of a learning window stems from, (L,)."""
        self.n_failed = 0
        """Replicas that failed in the latest simulation phase."""

    def simulation_phase(
        self, form: SamplingForm, cycle: int, on_share: OnShare | None
    ) -> PhaseOutcome:
        """Run fresh replicas until enough of them have failed.

        Args:
            form: the potential at its present parameters.
            cycle: of the training.
            on_share: told of progress.
        """
        s = self._settings
        state = fresh_replicas(
            self._point.train,
            self._system,
            form,
            s,
            cycle=cycle,
            step=self._md_step,
            device=self._device,
        )
        rewound = state
        window_ps = s.simulation_steps * s.dynamics.dt_fs * 1e-3
        time_ps, n_failed, n_evaluations = 0.0, 0, 0
        reasons: list[str] = []
        stable_frames: list[RecordedFrames] = []
        for window in range(s.max_windows):
            n_alive = s.n_replicas - n_failed
            result = self._run(
                form,
                state,
                n_steps=s.simulation_steps,
                record_every=s.anchor_every if s.anchor_weight > 0.0 else 0,
                rewind_steps=s.rewind_steps or s.simulation_steps,
                on_progress=_progress(
                    on_share,
                    window / s.max_windows,
                    1.0 / (s.max_windows * s.simulation_steps),
                ),
            )
            failed = result.failed.to(state.alive.device)
            time_ps += (n_alive - result.n_failed) * window_ps
            time_ps += float(result.failed_step[result.failed].sum()) * s.dynamics.dt_fs * 1e-3
            n_failed += result.n_failed
            n_evaluations += result.n_force_evaluations
            reasons += [detail for detail in result.details if detail]
            stable_frames.append(result.frames.select(~failed[result.frames.replica]))
            assert result.rewind_state is not None
            rewound = _keep_frozen(rewound, result.rewind_state, state.alive)
            state = replace(result.state, alive=state.alive & ~failed)
            if suffices(n_failed, self._memory, s):
                break
        self._md_step = state.step
        rewound = replace(rewound, alive=torch.ones_like(rewound.alive))
        new = torch.nonzero(~state.alive).flatten()
        self._start, self.origin = learning_start(
            rewound, new, self._system, s, self._memory.states
        )
        self._memory.add(rewound.select(new))
        self.n_failed = n_failed
        return PhaseOutcome(
            n_failed, time_ps, n_evaluations, reasons, RecordedFrames.concatenate(stable_frames)
        )

    def learning_window(self, form: SamplingForm, on_share: OnShare | None) -> SimulationResult:
        """Sample from the stored states near the failures of the latest simulation phase."""
        s = self._settings
        assert self._start is not None
        energies, forces = form(self._start.positions, self._start.cells)
        start = replace(self._start, step=self._md_step, energies=energies, forces=forces)
        result = self._run(
            form,
            start,
            n_steps=s.learning_steps,
            record_every=s.record_every,
            on_progress=_progress(on_share, 0.0, 1.0 / s.learning_steps),
        )
        self._md_step = result.state.step
        return result

    def _run(self, form: SamplingForm, start: State, **options: Any) -> SimulationResult:
        """Dynamics of this state point; what differs between the two phases is in ``options``."""
        return simulate(
            form,
            start,
            self._integrator,
            self._detectors,
            self._system,
            seed=self._settings.seed,
            check_every=self._settings.dynamics.check_every,
            **options,
        )

    def payload(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {
            "learning_start": None if self._start is None else self._start.to_dict(),
            "origin": self.origin,
            "memory": self._memory.payload(),
            "md_step": self._md_step,
            "n_failed": self.n_failed,
        }

    def restore(self, payload: dict[str, Any]) -> None:
        """Continue from a payload."""
        start = payload["learning_start"]
        self._start = None if start is None else State.from_dict(start, self._device)
        self.origin = payload["origin"]
        self._memory.restore(payload["memory"], self._device)
        self._md_step = payload["md_step"]
        self.n_failed = payload["n_failed"]


def _progress(
    on_share: OnShare | None, done: float, per_step: float
) -> Callable[[int, int], None] | None:
    if on_share is None:
        return None
    report = on_share

    def call(step: int, n_running: int) -> None:
        report(done + per_step * step, n_running)

    return call


def _keep_frozen(earlier: State, later: State, was_alive: Tensor) -> State:
    """``later``, but replicas that were frozen already stay where they were rewound to."""
    frozen = torch.nonzero(~was_alive).flatten()
    if not len(frozen):
        return later  # the first ``earlier`` has no thermostat variables yet
    return later.scatter(frozen, replace(earlier.select(frozen), step=later.step))
