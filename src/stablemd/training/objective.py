"""One optimizer step of StABlE Training: observable, reference data, budget."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stablemd import units
from stablemd.data import Frames
from stablemd.estimators import SampledFrames, boltzmann_gradient, make_loss, potential_energies
from stablemd.md import RecordedFrames
from stablemd.observables.base import Observable
from stablemd.potentials.base import Potential
from stablemd.system import System
from stablemd.training.budget import ErrorBudget
from stablemd.training.label_errors import LabelErrors, energy_and_force_mae
from stablemd.training.label_loss import cycling_batches, label_loss
from stablemd.training.stable_settings import StableSettings

SHRINK_FACTORS = (1.0, 0.5, 0.25, 0.125)
"""Shares of a proposed step that are tried until the budget allows one."""

LABEL_WEIGHT_GROWTH = 1.5
LABEL_WEIGHT_LIMIT = 100.0


@dataclass(frozen=True)
class StepRecord:
    """Numbers of one optimizer step, as they stand in the log.

    Attributes:
        observable_loss: loss on the ensemble average before the step.
        observable_loss_stderr: its standard error (jackknife over replicas).
        label_loss: energy/force loss of the step's batch.
        observable_gradient_norm: norm of the estimator's gradient.
        label_gradient_norm: norm of the energy/force gradient.
        gradient_cosine: cosine between the two.
        n_eff: effective sample size of the frames before the step.
        n_frames: frames used.
        n_dropped: frames with non-finite numbers that were left out.
        step_share: share of the proposed step that the budget allowed; 0: rejected.
        label_weight: weight of the energy/force loss.
    """

    observable_loss: float
    observable_loss_stderr: float
    label_loss: float
    observable_gradient_norm: float
    label_gradient_norm: float
    gradient_cosine: float
    n_eff: float
    n_frames: int
    n_dropped: int
    step_share: float
    label_weight: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class StableObjective:
    """The combined loss and its optimizer.

    The step follows ``observable_weight * g_obs + label_weight * g_label``,
    clipped.  With an error budget the step is shrunk, and in the end rejected,
    where it would leave the budget, and the weight of the reference data rises
    while the budget is tight and falls back when it is not.
    """

    def __init__(
        self,
        potential: Potential,
        system: System,
        train: Frames,
        validation: Frames,
        observable: Observable,
        reference: Tensor,
        settings: StableSettings,
    ) -> None:
        self._potential = potential
        self._system = system
        self._train = train
        self._validation = validation
        self._observable = observable
        self._settings = settings
        spacing = float(observable.axis[1] - observable.axis[0])
        self._loss = make_loss(settings.observable.loss, reference, spacing)
        self._beta = units.beta(settings.dynamics.temperature_k)
        self._parameters = [p for p in potential.parameters() if p.requires_grad]
        self.optimizer = self._make_optimizer()
        self.label_weight = settings.label_weight
        self.steps_done = 0
        self.errors = energy_and_force_mae(potential, system, validation)
        self.budget = ErrorBudget(
            self.errors, settings.force_mae_budget, settings.energy_mae_budget
        )

    def _make_optimizer(self) -> torch.optim.Optimizer:
        rate = self._settings.learning_rate
        if self._settings.optimizer == "sgd":
            return torch.optim.SGD(self._parameters, lr=rate)
        return torch.optim.Adam(self._parameters, lr=rate)

    def reset_optimizer(self) -> None:
        """Start a learning phase with the full learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._settings.learning_rate

    def frames(self, recorded: RecordedFrames) -> SampledFrames:
        """The recorded frames with everything that the estimator needs."""
        positions = recorded.positions.to(self._potential.device)
        return SampledFrames(
            positions=positions,
            reference_energies=potential_energies(
                self._potential, self._system, positions, chunk_size=self._settings.chunk_size
            ),
            values=self._observable.values(positions),
            replica=recorded.replica.to(positions.device),
        )

    def step(self, frames: SampledFrames, *, first: bool) -> StepRecord | None:
        """One step; None, with nothing changed, if the frames can no longer carry it."""
        settings = self._settings
        self.optimizer.zero_grad(set_to_none=True)
        result = boltzmann_gradient(
            self._potential,
            self._system,
            frames,
            self._loss,
            beta=self._beta,
            chunk_size=settings.chunk_size,
            energies=frames.reference_energies if first else None,
        )
        if not first and result.n_eff < settings.min_n_eff * result.n_frames:
            return None
        observable_gradient = self._take_gradient()
        label_value, label_gradient = self._label_gradient()
        cosine = _cosine(observable_gradient, label_gradient)
        label_weight = self.label_weight
        for parameter, g_obs, g_label in zip(
            self._parameters, observable_gradient, label_gradient, strict=True
        ):
            parameter.grad = settings.observable_weight * g_obs + label_weight * g_label
        nn.utils.clip_grad_norm_(self._parameters, settings.gradient_clip)
        share = self._bounded_step()
        self.steps_done += 1
        return StepRecord(
            observable_loss=result.loss,
            observable_loss_stderr=result.loss_stderr,
            label_loss=label_value,
            observable_gradient_norm=_norm(observable_gradient),
            label_gradient_norm=_norm(label_gradient),
            gradient_cosine=cosine,
            n_eff=result.n_eff,
            n_frames=result.n_frames,
            n_dropped=result.n_dropped,
            step_share=share,
            label_weight=label_weight,
        )

    def label_step(self) -> float:
        """One step on the reference data alone, as the control takes them; its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        value, gradient = self._label_gradient()
        for parameter, g in zip(self._parameters, gradient, strict=True):
            parameter.grad = self._settings.label_weight * g
        nn.utils.clip_grad_norm_(self._parameters, self._settings.gradient_clip)
        self.optimizer.step()
        self.steps_done += 1
        return value

    def _label_gradient(self) -> tuple[float, list[Tensor]]:
        index = cycling_batches(
            len(self._train),
            min(self._settings.label_batch_size, len(self._train)),
            seed=self._settings.seed,
            step=self.steps_done,
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss = label_loss(
            self._potential, self._system, self._train.select(index), self._settings.label_loss
        )
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach()), self._take_gradient()

    def _take_gradient(self) -> list[Tensor]:
        return [
            torch.zeros_like(p) if p.grad is None else p.grad.detach().clone()
            for p in self._parameters
        ]

    def _bounded_step(self) -> float:
        """Take the optimizer's step as far as the budget allows; the share taken."""
        before = [p.detach().clone() for p in self._parameters]
        self.optimizer.step()
        if not self.budget.is_set:
            self.errors = self._validation_errors()
            return 1.0
        proposed = [p.detach() - b for p, b in zip(self._parameters, before, strict=True)]
        usage_before = self.budget.usage(self.errors)
        for share in SHRINK_FACTORS:
            self._move(before, proposed, share)
            errors = self._validation_errors()
            usage = self.budget.usage(errors)
            # A model that is over its budget already may only come closer to it.
            if usage <= max(1.0, usage_before * (1.0 - 1e-9)):
                self.errors = errors
                self._adapt_label_weight(usage, shrunk=share < 1.0)
                return share
        self._move(before, proposed, 0.0)
        self._adapt_label_weight(usage_before, shrunk=True)
        return 0.0

    @torch.no_grad()
    def _move(self, before: list[Tensor], proposed: list[Tensor], share: float) -> None:
        for parameter, start, change in zip(self._parameters, before, proposed, strict=True):
            parameter.copy_(start + share * change)

    def _adapt_label_weight(self, usage: float, *, shrunk: bool) -> None:
        base = self._settings.label_weight
        if shrunk or usage > 0.75:
            self.label_weight = min(
                self.label_weight * LABEL_WEIGHT_GROWTH, base * LABEL_WEIGHT_LIMIT
            )
        elif usage < 0.5:
            self.label_weight = max(self.label_weight / LABEL_WEIGHT_GROWTH, base)

    def _validation_errors(self) -> LabelErrors:
        return energy_and_force_mae(self._potential, self._system, self._validation)

    def payload(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "label_weight": self.label_weight,
            "steps_done": self.steps_done,
            "errors": list(self.errors),
            "start_errors": list(self.budget.start),
        }

    def restore(self, payload: dict[str, Any]) -> None:
        """Continue from a payload."""
        self.optimizer.load_state_dict(payload["optimizer"])
        self.label_weight = payload["label_weight"]
        self.steps_done = payload["steps_done"]
        self.errors = LabelErrors(*payload["errors"])
        self.budget = ErrorBudget(
            LabelErrors(*payload["start_errors"]),
            self._settings.force_mae_budget,
            self._settings.energy_mae_budget,
        )


def _dot(a: list[Tensor], b: list[Tensor]) -> float:
    return sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))


def _norm(a: list[Tensor]) -> float:
    return _dot(a, a) ** 0.5


def _cosine(a: list[Tensor], b: list[Tensor]) -> float:
    scale = _norm(a) * _norm(b)
    return _dot(a, b) / scale if scale > 0.0 else 0.0
