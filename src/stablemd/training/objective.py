"""One optimizer step of StABlE Training: observables, reference data, anchor, limits."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from stablemd.potentials.base import Potential
from stablemd.training.energy_offset import centre_energies
from stablemd.training.epoch_frames import EpochFrames
from stablemd.training.limited_step import LimitedStep
from stablemd.training.point_gradients import combined_gradient
from stablemd.training.point_objective import PointObjective
from stablemd.training.stable_settings import StableSettings
from stablemd.training.step_record import StepRecord
from stablemd.training.stopwatch import Stopwatch
from stablemd.training.training_point import TrainingPoint


class StableObjective:
    """The combined loss over all state points, its optimizer, and the limits on a step.

    The gradient is ``g_obs + label_weight * g_label + anchor_weight * g_anchor``,
    each part clipped and averaged over the state points that have one.  The step that
    the optimizer proposes is shrunk, and in the end rejected, until the validation errors
    stay within their budget and the frames keep their effective sample size, at every
    state point; the step size follows.  Where a budget is tight, the part of the observable
    gradients that would raise the label loss is projected out, and a rejected step is
    followed by one on the reference data and the anchor alone, so that training slides
    along the bound instead of stopping at it.

    Args:
        potential: trained in place.
        points: the main one first.
        settings: of the main one; those of the optimizer hold for all.
    """

    def __init__(
        self, potential: Potential, points: Sequence[TrainingPoint], settings: StableSettings
    ) -> None:
        self._potential = potential
        self._settings = settings
        self._parameters = [p for p in potential.parameters() if p.requires_grad]
        self._start = copy.deepcopy(potential)
        self.estimator_watch = Stopwatch()
        """Times the estimator: observables, energies (also those that a step's
        limit and the next step need), backward pass."""
        self.points = [
            PointObjective(potential, self._start, point, self.estimator_watch) for point in points
        ]
        self.optimizer = self._make_optimizer()
        self._limited = LimitedStep(
            self.points, self._parameters, self.optimizer, settings.max_n_eff_loss
        )
        self._restoring = False
        self.steps_done = 0
        centre_energies(potential, points)
        for point in self.points:
            point.begin()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        rate = self._settings.learning_rate
        if self._settings.optimizer == "sgd":
            return torch.optim.SGD(self._parameters, lr=rate)
        return torch.optim.Adam(self._parameters, lr=rate)

    @property
    def learning_rate(self) -> float:
        """The optimizer's present rate, before ``rate_scale``."""
        return float(self.optimizer.param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    @property
    def rate_scale(self) -> float:
        """Factor on the learning rate that the limits have led to."""
        return self._limited.rate_scale

    @rate_scale.setter
    def rate_scale(self, value: float) -> None:
        self._limited.rate_scale = value

    @property
    def is_within_budget(self) -> bool:
        """Whether the validation errors of every state point are."""
        return all(point.budget.allows(point.errors) for point in self.points)

    @property
    def tightest(self) -> PointObjective:
        """The state point that has used most of its budget."""
        return max(self.points, key=lambda point: point.budget_used)

    def begin_phase(self) -> None:
        """Start a learning phase with the full step size."""
        self.learning_rate = self._settings.learning_rate
        self.rate_scale = 1.0
        self._restoring = False

    def step(
        self, epochs: Sequence[EpochFrames | None], *, assess: bool = False
    ) -> StepRecord | None:
        """One step; None, with nothing changed, if the frames can no longer carry it.

        A point whose replicas all failed before their first frame takes part as one that did
        not sample.  The frames of one point that are used up end the steps of all, since the
        model would move on where it is no longer seen.

        Args:
            epochs: frames of every state point; None where it did not sample.
            assess: whether to estimate the noise of the gradients and of the losses, from the
                scatter between groups of replicas; that costs as much as a further backward
                pass.
        """
        settings = self._settings
        usable = [e if e is not None and len(e.energies) >= 2 else None for e in epochs]
        sampled = [(p, e) for p, e in zip(self.points, usable, strict=True) if e is not None]
        if not sampled:
            return None
        if not all(p.n_eff_share(e, e.energies) >= settings.min_n_eff for p, e in sampled):
            return None
        gradients, numbers = [], {}
        for point, epoch in zip(self.points, usable, strict=True):
            found, record = point.gradients(epoch, self.steps_done, assess=assess)
            gradients.append(found)
            numbers[point.point.name] = record
        combined = combined_gradient(
            gradients,
            label_weight=settings.label_weight,
            anchor_weight=settings.anchor_weight,
            clip=settings.gradient_clip,
            without_observables=self._restoring,
        )
        for parameter, gradient in zip(self._parameters, combined, strict=True):
            parameter.grad = gradient
        nn.utils.clip_grad_norm_(self._parameters, settings.gradient_clip)
        share, forms = self._limited.take(sampled)
        if forms:
            centre_energies(self._potential, [p.point for p in self.points], forms)
        self._restoring = share == 0.0 and not self._restoring
        self.steps_done += 1
        return StepRecord.of(numbers, share, self.rate_scale)

    def payload(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "rate_scale": self.rate_scale,
            "restoring": self._restoring,
            "steps_done": self.steps_done,
            "start": self._start.state_dict(),
            "points": [point.payload() for point in self.points],
        }

    def restore(self, payload: dict[str, Any]) -> None:
        """Continue from a payload."""
        self.optimizer.load_state_dict(payload["optimizer"])
        self.rate_scale = payload["rate_scale"]
        self._restoring = payload["restoring"]
        self.steps_done = payload["steps_done"]
        self._start.load_state_dict(payload["start"])
        for point, part in zip(self.points, payload["points"], strict=True):
            point.restore(part)
