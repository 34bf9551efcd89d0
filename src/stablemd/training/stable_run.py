"""A StABlE Training as a sequence of units that a checkpoint can separate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stablemd.data import Frames
from stablemd.md import RecordedFrames, State, simulate
from stablemd.potentials.base import Potential
from stablemd.system import System
from stablemd.training.candidates import Candidate, CandidateModels
from stablemd.training.failure_memory import FailureMemory, suffices
from stablemd.training.fresh_replicas import fresh_replicas
from stablemd.training.learning_start import learning_start
from stablemd.training.objective import StableObjective
from stablemd.training.observable_gradient import make_target
from stablemd.training.plateau import Plateau
from stablemd.training.reference_structures import reference_structures
from stablemd.training.stable_settings import StableSettings
from stablemd.training.stopwatch import Stopwatch, times_by_part

logger = logging.getLogger(__name__)

NEXT_CYCLE = "next cycle"
"""Where a run goes on that ended with its last cycle."""

ASSESS_EVERY = 10
"""Learning epochs between looks at how far the gradient can be trusted."""

OnProgress = Callable[[str, float], None]
"""Called with what is being done and the share of it that is done."""


@dataclass(frozen=True)
class StableResult:
    """How a StABlE Training ended; the potential holds the chosen weights.

    Attributes:
        chosen_cycle: simulation phase whose model was chosen; 0 is the start.
        candidates: what every simulation phase measured.
        optimizer_steps: optimizer steps taken in all.
        chosen_steps: optimizer steps up to the chosen model.
        stop_reason: which rule ended it.
        wall_s: seconds by part, earlier parts of a resumed run included.
    """

    chosen_cycle: int
    candidates: list[Candidate]
    optimizer_steps: int
    chosen_steps: int
    stop_reason: str
    wall_s: dict[str, float]


class StableRun:
    """A StABlE Training as a sequence of units: a simulation phase or a learning epoch."""

    def __init__(
        self,
        potential: Potential,
        system: System,
        train: Frames,
        validation: Frames,
        reference: Frames,
        settings: StableSettings,
        on_progress: OnProgress | None = None,
    ) -> None:
        device = potential.device
        self._potential = potential
        self._system = system.to(device)
        self._train = train
        self._settings = settings
        self._on_progress = on_progress
        self._integrator = settings.dynamics.make_integrator()
        self._detectors = settings.dynamics.make_detectors(
            self._system, reference_structures(reference, device)
        )
        target = make_target(potential, self._system, reference, settings)
        self._objective = StableObjective(
            potential, self._system, train, validation, target, settings, reference
        )
        self._plateau = Plateau(settings.plateau_factor, settings.plateau_patience)
        self._phase = "simulate"
        self._cycle = 0
        self._epoch = 0
        self._md_step = 0
        self._learning_start: State | None = None
        self._origin: Tensor | None = None
        self._memory = FailureMemory(settings.remembered_failures)
        self._models = CandidateModels()
        self._stop_reason = ""
        self._open_phase = ""
        self._wall_s = {"simulate": 0.0, "sample": 0.0, "learn": 0.0}

    @property
    def is_done(self) -> bool:
        return self._phase == "done"

    def advance(self) -> dict[str, Any]:
        """Run one unit and return its log record."""
        record = self._simulation_phase() if self._phase == "simulate" else self._learning_epoch()
        limit = self._settings.max_minutes
        if limit is not None and sum(self._wall_s.values()) > 60.0 * limit and not self.is_done:
            if self._models.is_measured(self._steps):
                self._stop(f"max_minutes = {limit} used up", open_phase=self._phase)
            else:
                if record["phase"] == "learn" and record["end_of_phase"] is None:
                    record["end_of_phase"] = f"max_minutes = {limit} used up"
                self._phase = "simulate"
        return record

    @property
    def _steps(self) -> int:
        return self._objective.steps_done

    def finish(self) -> StableResult:
        """Load the chosen weights and report."""
        chosen = self._models.best
        self._potential.load_state_dict(self._models.best_weights())
        return StableResult(
            chosen_cycle=chosen.cycle,
            candidates=self._models.measured,
            optimizer_steps=self._steps,
            chosen_steps=chosen.steps,
            stop_reason=self._stop_reason,
            wall_s=dict(self._wall_s),
        )

    def _stop(self, reason: str, *, open_phase: str = "") -> None:
        """End; ``open_phase`` is where a run that is resumed with a higher limit goes on."""
        self._phase = "done"
        self._stop_reason = reason
        self._open_phase = open_phase

    def _reopen(self) -> None:
        """Go on if the limit that ended the training has been raised."""
        limit = self._settings.max_minutes
        if self._open_phase == NEXT_CYCLE:
            if self._cycle < self._settings.max_cycles:
                self._begin_learning()
        elif self._open_phase and (limit is None or sum(self._wall_s.values()) <= 60.0 * limit):
            self._phase = self._open_phase

    def _simulation_phase(self) -> dict[str, Any]:
        """Run fresh replicas until enough of them have failed; the model's measurement."""
        begin = time.perf_counter()
        s = self._settings
        form = self._objective.sampling_form()
        state = fresh_replicas(
            self._train,
            self._system,
            form,
            s,
            cycle=self._cycle,
            step=self._md_step,
            device=self._potential.device,
        )
        rewound = state
        window_ps = s.simulation_steps * s.dynamics.dt_fs * 1e-3
        time_ps, n_failed, n_evaluations = 0.0, 0, 0
        reasons: list[str] = []
        stable_frames: list[RecordedFrames] = []
        allowed = s.target_failed * s.n_replicas
        for window in range(s.max_windows):
            n_alive = s.n_replicas - n_failed
            result = simulate(
                form,
                state,
                self._integrator,
                self._detectors,
                self._system,
                n_steps=s.simulation_steps,
                seed=s.seed,
                check_every=s.dynamics.check_every,
                record_every=s.anchor_every if s.anchor_weight > 0.0 else 0,
                rewind_steps=s.rewind_steps or s.simulation_steps,
                on_progress=self._progress(
                    f"cycle {self._cycle}: simulating",
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
        self._learning_start, self._origin = learning_start(
            rewound, new, self._system, s, self._memory.states
        )
        self._memory.add(rewound.select(new))
        stable = RecordedFrames.concatenate(stable_frames)
        self._objective.set_anchor(stable.positions, stable.cells)
        candidate = Candidate(
            cycle=self._cycle,
            steps=self._steps,
            n_failed=n_failed,
            time_ps=time_ps,
            within_budget=self._objective.budget.allows(self._objective.errors),
        )
        candidate = self._models.add(candidate, self._potential.state_dict())
        if n_failed <= allowed and candidate.n_phases <= s.confirmations:
            pass  # stay: one more simulation phase with fresh replicas
        elif n_failed <= allowed:
            n_replicas = s.n_replicas * candidate.n_phases
            self._stop(
                f"stable: {candidate.n_failed} of {n_replicas} replicas failed in "
                f"{candidate.time_ps:.1f} ps"
            )
        elif self._cycle >= s.max_cycles:
            self._stop(f"max_cycles = {s.max_cycles} used up", open_phase=NEXT_CYCLE)
        else:
            self._begin_learning()
        self._wall_s["simulate"] += time.perf_counter() - begin
        errors = self._objective.errors
        return {
            "phase": "simulate",
            "cycle": candidate.cycle,
            "failed_fraction": n_failed / s.n_replicas,
            "replica_time_ps": time_ps,
            "failures": reasons[:8],
            "n_force_evaluations": n_evaluations,
            "force_mae_ev_per_angstrom": errors.force_mae_ev_per_angstrom,
            "energy_mae_ev": errors.energy_mae_ev,
            "budget_used": self._objective.budget.usage(errors),
            "optimizer_steps": self._steps,
            "wall_s": {"simulate": time.perf_counter() - begin},
        }

    def _begin_learning(self) -> None:
        self._phase = "learn"
        self._cycle += 1
        self._epoch = 0
        self._objective.begin_phase()
        self._plateau.reset()

    def _learning_epoch(self) -> dict[str, Any]:
        """Sample once from the stored states near the failures, and take optimizer steps."""
        s = self._settings
        assert self._learning_start is not None
        text = f"cycle {self._cycle}, epoch {self._epoch + 1}: sampling"
        sample, learn = Stopwatch(), Stopwatch()
        estimator = self._objective.estimator_watch = Stopwatch()
        with sample:
            form = self._objective.sampling_form()
            energies, forces = form(self._learning_start.positions, self._learning_start.cells)
            start = replace(
                self._learning_start, step=self._md_step, energies=energies, forces=forces
            )
            result = simulate(
                form,
                start,
                self._integrator,
                self._detectors,
                self._system,
                n_steps=s.learning_steps,
                seed=s.seed,
                check_every=s.dynamics.check_every,
                record_every=s.record_every,
                on_progress=self._progress(text, 0.0, 1.0 / s.learning_steps),
            )
        self._md_step = result.state.step
        failed_fraction = result.n_failed / start.n_replicas
        self._epoch += 1
        reason = self._learning_stop(failed_fraction)
        steps: list[dict[str, Any]] = []
        # A phase begins because replicas failed: what led there is learnt from even if none of
        # their copies repeats it.
        if reason is None or self._epoch == 1:
            with learn:
                steps = self._optimizer_steps(result.frames)
        if reason is None and self._epoch >= s.max_learning_epochs:
            reason = f"max_learning_epochs = {s.max_learning_epochs} used up"
        if reason is not None:
            self._phase = "simulate"
        self._wall_s["sample"] += sample.wall_s
        self._wall_s["learn"] += learn.wall_s
        errors = self._objective.errors
        return {
            "phase": "learn",
            "cycle": self._cycle,
            "epoch": self._epoch,
            "failed_fraction": failed_fraction,
            "learning_rate": self._objective.learning_rate,
            "steps": steps,
            "end_of_phase": reason,
            "force_mae_ev_per_angstrom": errors.force_mae_ev_per_angstrom,
            "energy_mae_ev": errors.energy_mae_ev,
            "budget_used": self._objective.budget.usage(errors),
            "n_force_evaluations": result.n_force_evaluations,
            "optimizer_steps": self._steps,
            **times_by_part(sample=sample, learn=learn, estimator=estimator),
        }

    def _optimizer_steps(self, recorded: RecordedFrames) -> list[dict[str, Any]]:
        """The steps on the frames of one epoch, until these can carry no further one."""
        steps = []
        epoch = self._objective.epoch_frames(recorded, self._origin)
        for k in range(self._settings.steps_per_epoch):
            assess = k == 0 and self._epoch % ASSESS_EVERY == 1
            step = self._objective.step(epoch, assess=assess)
            if step is None:
                break
            steps.append(step.to_json())
            for warning in step.warnings:
                logger.warning("cycle %d, epoch %d: %s", self._cycle, self._epoch, warning)
        return steps

    def _learning_stop(self, failed_fraction: float) -> str | None:
        """Which rule ends the learning phase with this epoch, if any."""
        s = self._settings
        if failed_fraction <= s.target_failed:
            return f"failed fraction {failed_fraction:.2f} reached target_failed"
        if self._plateau.step(failed_fraction):
            if self._plateau.n_reductions > s.max_reductions:
                return f"the learning rate was reduced {s.max_reductions} times without progress"
            self._objective.learning_rate *= s.plateau_factor
        return None

    def _progress(
        self, text: str, done: float, per_step: float
    ) -> Callable[[int, int], None] | None:
        if self._on_progress is None:
            return None
        report = self._on_progress

        def call(step: int, n_running: int) -> None:
            report(f"{text}, {n_running} running", done + per_step * step)

        return call

    def payload(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on bit for bit."""
        start = self._learning_start
        return {
            "potential": self._potential.state_dict(),
            "objective": self._objective.payload(),
            "plateau": self._plateau.payload(),
            "learning_start": None if start is None else start.to_dict(),
            "origin": self._origin,
            "memory": self._memory.payload(),
            "models": self._models.payload(),
            "counters": {
                "_phase": self._phase,
                "_cycle": self._cycle,
                "_epoch": self._epoch,
                "_md_step": self._md_step,
                "_stop_reason": self._stop_reason,
                "_open_phase": self._open_phase,
            },
            "wall_s": dict(self._wall_s),
        }

    def restore(self, payload: dict[str, Any]) -> None:
        """Continue from a payload."""
        device = self._potential.device
        self._potential.load_state_dict(payload["potential"])
        self._objective.restore(payload["objective"])
        self._plateau.restore(payload["plateau"])
        start = payload["learning_start"]
        self._learning_start = None if start is None else State.from_dict(start, device)
        self._origin = payload["origin"]
        self._memory.restore(payload.get("memory"), device)
        self._models.restore(payload["models"], device)
        for name, value in payload["counters"].items():
            setattr(self, name, value)
        self._wall_s = dict(payload["wall_s"])
        if self.is_done:
            self._reopen()


def _keep_frozen(earlier: State, later: State, was_alive: Tensor) -> State:
    """``later``, but replicas that were frozen already stay where they were rewound to."""
    frozen = torch.nonzero(~was_alive).flatten()
    if not len(frozen):
        return later  # the first ``earlier`` has no thermostat variables yet
    return later.scatter(frozen, replace(earlier.select(frozen), step=later.step))
