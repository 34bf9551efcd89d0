"""A StABlE Training as a sequence of units that a checkpoint can separate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stablemd.md import SimulationResult
from stablemd.potentials.base import Potential
from stablemd.training.candidates import Candidate, CandidateModels
from stablemd.training.earlier_checkpoint import with_points
from stablemd.training.objective import StableObjective
from stablemd.training.phase_records import learning_record, simulation_record
from stablemd.training.plateau import Plateau
from stablemd.training.point_dynamics import OnShare, PhaseOutcome, PointDynamics
from stablemd.training.stopwatch import Stopwatch
from stablemd.training.training_point import TrainingPoint, require_trainable_together

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
        candidates: what every simulation phase measured, at all state points together.
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
    """A StABlE Training as a sequence of units: simulations of a state point, learning epochs.

    Args:
        potential: trained in place.
        points: state points, the main one first, whose settings steer the training.
        on_progress: told of progress.

    Raises:
        ConfigError: two points have the same name, or an observable does not go with the
            estimator.
        DataError: frames hold other atoms than the system, or labels are missing.
        PotentialError: the potential can't be trained at all points.
    """

    def __init__(
        self,
        potential: Potential,
        points: Sequence[TrainingPoint],
        on_progress: OnProgress | None = None,
    ) -> None:
        require_trainable_together(potential, points)
        self._potential = potential
        self._points = points
        self._settings = points[0].settings
        self._on_progress = on_progress
        self._dynamics = [PointDynamics(point, potential.device) for point in points]
        self._objective = StableObjective(potential, points, self._settings)
        self._plateau = Plateau(self._settings.plateau_factor, self._settings.plateau_patience)
        self._phase = "simulate"
        self._cycle = 0
        self._epoch = 0
        self._next_point = 0
        self._time_ps = 0.0
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
        """Fresh replicas of the next state point; after the last one, the model's measurement."""
        begin = time.perf_counter()
        index, cycle = self._next_point, self._cycle
        objective = self._objective.points[index]
        outcome = self._dynamics[index].simulation_phase(
            objective.sampling_form(),
            cycle,
            self._progress(f"cycle {cycle}{{}}: simulating", index),
        )
        objective.set_anchor(outcome.stable.positions, outcome.stable.cells)
        self._take(outcome)
        self._wall_s["simulate"] += time.perf_counter() - begin
        record = simulation_record(self._objective, index, cycle, outcome)
        return {**record, "wall_s": {"simulate": time.perf_counter() - begin}}

    def _take(self, outcome: PhaseOutcome) -> None:
        """Add a state point's outcome to the model's measurement, and conclude with the last."""
        self._time_ps += outcome.time_ps
        self._next_point += 1
        if self._next_point == len(self._points):
            candidate = Candidate(
                cycle=self._cycle,
                steps=self._steps,
                n_failed=sum(dynamics.n_failed for dynamics in self._dynamics),
                time_ps=self._time_ps,
                within_budget=self._objective.is_within_budget,
            )
            self._next_point, self._time_ps = 0, 0.0
            self._conclude(self._models.add(candidate, self._potential.state_dict()))

    def _conclude(self, candidate: Candidate) -> None:
        """What follows from a model's measurement: a further one, the end, or learning."""
        s = self._settings
        allowed = s.target_failed * s.n_replicas
        is_stable = all(dynamics.n_failed <= allowed for dynamics in self._dynamics)
        if is_stable and candidate.n_phases <= s.confirmations:
            pass  # stay: one more simulation phase with fresh replicas
        elif is_stable:
            n_replicas = s.n_replicas * len(self._points) * candidate.n_phases
            self._stop(
                f"stable: {candidate.n_failed} of {n_replicas} replicas failed in "
                f"{candidate.time_ps:.1f} ps"
            )
        elif self._cycle >= s.max_cycles:
            self._stop(f"max_cycles = {s.max_cycles} used up", open_phase=NEXT_CYCLE)
        else:
            self._begin_learning()

    def _begin_learning(self) -> None:
        self._phase = "learn"
        self._cycle += 1
        self._epoch = 0
        self._objective.begin_phase()
        self._plateau.reset()

    def _learning_epoch(self) -> dict[str, Any]:
        """Sample once at every state point with failures, and take optimizer steps."""
        s = self._settings
        sample, learn = Stopwatch(), Stopwatch()
        estimator = self._objective.estimator_watch
        estimator.reset()
        with sample:
            windows = self._learning_windows()
        failed = {k: result.n_failed / len(result.failed) for k, result in windows.items()}
        self._epoch += 1
        reason = self._learning_stop(max(failed.values()))
        steps: list[dict[str, Any]] = []
        # A phase begins because replicas failed: what led there is learnt from even if none of
        # their copies repeats it.
        if reason is None or self._epoch == 1:
            with learn:
                steps = self._optimizer_steps(windows)
        if reason is None and self._epoch >= s.max_learning_epochs:
            reason = f"max_learning_epochs = {s.max_learning_epochs} used up"
        if reason is not None:
            self._phase = "simulate"
        self._wall_s["sample"] += sample.wall_s
        self._wall_s["learn"] += learn.wall_s
        return learning_record(
            self._objective,
            cycle=self._cycle,
            epoch=self._epoch,
            failed=failed,
            steps=steps,
            end_of_phase=reason,
            n_force_evaluations=sum(r.n_force_evaluations for r in windows.values()),
            watches={"sample": sample, "learn": learn, "estimator": estimator},
        )

    def _learning_windows(self) -> dict[int, SimulationResult]:
        """A window of every state point at which a replica failed, by its index.

        They all go on until the phase ends: one that had no failures left in its window
        might get them back while the others learn.
        """
        active = [k for k, dynamics in enumerate(self._dynamics) if dynamics.n_failed]
        text = f"cycle {self._cycle}, epoch {self._epoch + 1}{{}}: sampling"
        windows = {}
        for done, k in enumerate(active):
            form = self._objective.points[k].sampling_form()
            report = self._progress(text, k, done, len(active))
            windows[k] = self._dynamics[k].learning_window(form, report)
        return windows

    def _optimizer_steps(self, windows: Mapping[int, SimulationResult]) -> list[dict[str, Any]]:
        """The steps on the frames of one epoch, until these can carry no further one."""
        steps = []
        epochs = [
            point.epoch_frames(windows[k].frames, self._dynamics[k].origin)
            if k in windows
            else None
            for k, point in enumerate(self._objective.points)
        ]
        for k in range(self._settings.steps_per_epoch):
            assess = k == 0 and self._epoch % ASSESS_EVERY == 1
            step = self._objective.step(epochs, assess=assess)
            if step is None:
                break
            steps.append(step.to_json())
            for warning in step.warnings:
                logger.warning("cycle %d, epoch %d: %s", self._cycle, self._epoch, warning)
        return steps

    def _learning_stop(self, failed_fraction: float) -> str | None:
        """Which rule ends the learning phase, by the largest failed fraction of all points."""
        s = self._settings
        if failed_fraction <= s.target_failed:
            return f"failed fraction {failed_fraction:.2f} reached target_failed"
        if self._plateau.step(failed_fraction):
            if self._plateau.n_reductions > s.max_reductions:
                return f"the learning rate was reduced {s.max_reductions} times without progress"
            self._objective.learning_rate *= s.plateau_factor
        return None

    def _progress(self, text: str, point: int, done: int = 0, of: int = 1) -> OnShare | None:
        """Reports of a part out of ``of``, in which ``text`` has a place for the point's name."""
        if self._on_progress is None:
            return None
        report = self._on_progress
        several = len(self._points) > 1
        filled = text.format(f", {self._points[point].name}" if several else "")

        def call(share: float, n_running: int) -> None:
            report(f"{filled}, {n_running} running", (done + share) / of)

        return call

    def payload(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on bit for bit."""
        return {
            "potential": self._potential.state_dict(),
            "objective": self._objective.payload(),
            "dynamics": [dynamics.payload() for dynamics in self._dynamics],
            "plateau": self._plateau.payload(),
            "models": self._models.payload(),
            "counters": {
                "_phase": self._phase,
                "_cycle": self._cycle,
                "_epoch": self._epoch,
                "_next_point": self._next_point,
                "_time_ps": self._time_ps,
                "_stop_reason": self._stop_reason,
                "_open_phase": self._open_phase,
            },
            "wall_s": dict(self._wall_s),
        }

    def restore(self, payload: dict[str, Any]) -> None:
        """Continue from a payload of the same state points.

        Raises:
            CheckpointError: it is of another number of them.
        """
        payload = with_points(payload, len(self._points))
        self._potential.load_state_dict(payload["potential"])
        self._objective.restore(payload["objective"])
        for dynamics, part in zip(self._dynamics, payload["dynamics"], strict=True):
            dynamics.restore(part)
        self._plateau.restore(payload["plateau"])
        self._models.restore(payload["models"], self._potential.device)
        for name, value in payload["counters"].items():
            setattr(self, name, value)
        self._wall_s = dict(payload["wall_s"])
        if self.is_done:
            self._reopen()
