"""One optimizer step of StABlE Training: observables, reference data, anchor, limits."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from stablemd import units
from stablemd.data import Frames
from stablemd.errors import DataError
from stablemd.estimators import SampledFrames
from stablemd.estimators.step_limit import largest_share
from stablemd.md import RecordedFrames
from stablemd.potentials.base import Potential, SamplingForm
from stablemd.system import System
from stablemd.training.budget import ErrorBudget
from stablemd.training.energy_offset import centre_energies
from stablemd.training.epoch_frames import EpochFrames
from stablemd.training.gradients import cosine, norm, take_gradient, without_conflict
from stablemd.training.label_errors import LabelErrors
from stablemd.training.label_loss import anchor_loss, cycling_batches, label_loss
from stablemd.training.local_target import LocalTarget
from stablemd.training.observable_gradient import Target, observable_gradient
from stablemd.training.relative_entropy import relative_entropy_gradient
from stablemd.training.stable_settings import StableSettings
from stablemd.training.step_record import StepRecord
from stablemd.training.stopwatch import Stopwatch

SHRINK_FACTORS = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Shares of a proposed step that are tried until the limits allow one."""

RATE_GROWTH, RATE_CUT = 1.3, 0.6
"""How the step size follows: after a step that was taken whole, and after one that was cut."""

REJECTED_CUT = 0.25

RATE_SCALE_RANGE = (0.02, 10.0)
"""The upper end matters where no limit binds: N_eff can't see regions without frames."""

N_TABLE_CHECK = 4
"""Training structures on which an approximate sampling form checks itself."""

NOISE_GROUPS = 8
"""Groups of replicas whose gradients are compared."""

TIGHT_BUDGET = 0.5
"""Above this use of the budget the observables may no longer pull against the labels."""


class StableObjective:
    """The combined loss, its optimizer, and the limits on a step.

    The gradient is ``g_obs + label_weight * g_label + anchor_weight * g_anchor``,
    each part clipped.  The step that the optimizer proposes is shrunk, and in
    the end rejected, until the validation errors stay within their budget and
    the frames keep their effective sample size; the step size follows.  Where
    the budget is tight, the part of the observable gradient that would raise
    the label loss is projected out, and a rejected step is followed by one on
    the reference data and the anchor alone, so that training slides along the
    bound instead of stopping at it.
    """

    def __init__(
        self,
        potential: Potential,
        system: System,
        train: Frames,
        validation: Frames,
        target: Target,
        settings: StableSettings,
        reference: Frames | None = None,
    ) -> None:
        self._potential = potential
        self._system = system
        self._train = train
        self._validation = validation
        self._target = target
        self._reference = train if reference is None else reference
        self._settings = settings
        self._beta = units.beta(settings.dynamics.temperature_k)
        self._parameters = [p for p in potential.parameters() if p.requires_grad]
        self._start = copy.deepcopy(potential)
        self._anchor_positions: Tensor | None = None
        self._anchor_forces: Tensor | None = None
        self._anchor_cells: Tensor | None = None
        self.optimizer = self._make_optimizer()
        self.rate_scale = 1.0
        self._restoring = False
        self._table_check = train.positions[:N_TABLE_CHECK].to(potential.device)
        self.estimator_watch = Stopwatch()
        """Times the estimator: observables, energies (also those that a step's
        limit and the next step need), backward pass."""
        self.steps_done = 0
        centre_energies(potential, system, train)
        self.errors = self._errors(self.sampling_form())
        self.budget = ErrorBudget(
            self.errors, settings.force_mae_budget, settings.energy_mae_budget
        )

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

    def begin_phase(self) -> None:
        """Start a learning phase with the full step size."""
        self.learning_rate = self._settings.learning_rate
        self.rate_scale = 1.0
        self._restoring = False

    def set_anchor(self, positions: Tensor, cells: Tensor | None = None) -> None:
        """Stable frames, (n, N, 3) and cells (n, 3, 3), whose forces should stay as they were."""
        if len(positions) and self._settings.anchor_weight > 0.0:
            _, forces = self._start.for_sampling(self._system)(positions, cells)
            self._anchor_positions, self._anchor_forces = positions, forces
            self._anchor_cells = cells

    def epoch_frames(self, recorded: RecordedFrames, origin: Tensor | None = None) -> EpochFrames:
        """The recorded frames with everything that the estimator needs.

        Args:
            recorded: sampled at the present parameters, with the energies that the
                dynamics computed anyway.
            origin: the replica that each replica is a copy of, (R,); copies of one
                are not independent, and count as one in error bars.
        """
        with self.estimator_watch:
            positions = recorded.positions.to(self._potential.device)
            cells = None if recorded.cells is None else recorded.cells.to(positions)
            energies = recorded.energies.to(positions.device)
            values = self._target.values(positions, cells)
            frames = SampledFrames(
                positions=positions,
                reference_energies=energies,
                values=values,
                replica=recorded.replica.to(positions.device),
                cells=cells,
                group=None if origin is None else origin[recorded.replica].to(positions.device),
            )
            epoch = EpochFrames(frames, energies, covered=self._target.covers(values))
            if isinstance(self._target, LocalTarget):
                around = self._target.neighbourhoods(positions, cells)
                epoch = epoch.by_neighbourhood(around, self.sampling_form())
            return epoch.finite()

    def step(self, epoch: EpochFrames, *, assess: bool = False) -> StepRecord | None:
        """One step; None, with nothing changed, if the frames can no longer carry it.

        With ``assess`` the noise of the gradient and of the loss is estimated, from the
        scatter between groups of replicas; that costs as much as a further backward pass.
        """
        settings = self._settings
        if len(epoch.energies) < 2:
            return None  # every replica failed before its first frame was recorded
        if not epoch.n_eff_share(epoch.energies, self._beta) >= settings.min_n_eff:
            return None
        with self.estimator_watch:
            self.optimizer.zero_grad(set_to_none=True)
            result = observable_gradient(
                self._potential,
                self._system,
                epoch,
                self._target,
                beta=self._beta,
                chunk_size=settings.chunk_size,
                max_backward=settings.max_backward_frames,
                seed=self.steps_done,
                noise_groups=NOISE_GROUPS if assess else 0,
                error_bars=assess,
            )
            if settings.relative_entropy_weight > 0.0:
                relative_entropy_gradient(
                    self._potential,
                    self._system,
                    epoch,
                    self._reference,
                    beta=self._beta,
                    weight=settings.relative_entropy_weight,
                    chunk_size=settings.chunk_size,
                    n_structures=settings.label_batch_size,
                    seed=self.steps_done,
                )
            g_obs = take_gradient(self._parameters)
        label_value, g_label = self._label_gradient()
        anchor_value, g_anchor = self._anchor_gradient()
        g_step = g_obs
        if self._restoring:
            g_step = [torch.zeros_like(g) for g in g_obs]
        elif self.budget.usage(self.errors) > TIGHT_BUDGET:
            g_step = without_conflict(g_obs, g_label)
        parts = [
            (1.0, g_step),
            (settings.label_weight, g_label),
            (settings.anchor_weight, g_anchor),
        ]
        self._combine(parts)
        label_cosine = cosine(g_obs, g_label)
        trust = result.trust.with_label_cosine(label_cosine) if assess else None
        share = self._limited_step(epoch)
        self._restoring = share == 0.0 and not self._restoring
        self.steps_done += 1
        return StepRecord(
            observable_loss=result.loss,
            observable_loss_stderr=result.loss_stderr if assess else None,
            label_loss=label_value,
            anchor_loss=anchor_value,
            observable_gradient_norm=norm(g_obs),
            label_gradient_norm=norm(g_label),
            gradient_cosine=label_cosine,
            n_eff=result.trust.n_eff,
            n_frames=result.trust.n_frames,
            n_dropped=epoch.n_dropped + result.trust.n_dropped,
            step_share=share,
            rate_scale=self.rate_scale,
            trust=None if trust is None else trust.to_json(),
            warnings=() if trust is None else tuple(trust.warnings()),
        )

    def _combine(self, parts: list[tuple[float, list[Tensor]]]) -> None:
        """Put the weighted sum of the parts, each clipped, into the parameters' ``.grad``."""
        clip = self._settings.gradient_clip
        total = [torch.zeros_like(p) for p in self._parameters]
        for weight, gradient in parts:
            size = weight * norm(gradient)
            if not size < float("inf"):
                raise DataError(
                    f"a gradient of the StABlE step has norm {size}; the model or a training "
                    "structure gives numbers that are not finite, so check both before training on"
                )
            factor = weight * min(1.0, clip / size) if size > 0.0 else 0.0
            for out, part in zip(total, gradient, strict=True):
                out.add_(part, alpha=factor)
        for parameter, gradient_sum in zip(self._parameters, total, strict=True):
            parameter.grad = gradient_sum
        nn.utils.clip_grad_norm_(self._parameters, clip)

    def _label_gradient(self) -> tuple[float, list[Tensor]]:
        batch = self._label_batch()
        self.optimizer.zero_grad(set_to_none=True)
        loss = label_loss(
            self._potential, self._system, batch, self._settings.label_loss, free_offset=True
        )
        loss.backward()
        return float(loss.detach()), take_gradient(self._parameters)

    def _label_batch(self) -> Frames:
        index = cycling_batches(
            len(self._train),
            min(self._settings.label_batch_size, len(self._train)),
            seed=self._settings.seed,
            step=self.steps_done,
        )
        return self._train.select(index)

    def _anchor_gradient(self) -> tuple[float, list[Tensor]]:
        if self._anchor_positions is None or self._anchor_forces is None:
            return 0.0, [torch.zeros_like(p) for p in self._parameters]
        n = len(self._anchor_positions)
        index = cycling_batches(
            n,
            min(self._settings.label_batch_size, n),
            seed=self._settings.seed + 1,
            step=self.steps_done,
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss = anchor_loss(
            self._potential,
            self._system,
            self._anchor_positions[index],
            self._anchor_forces[index],
            None if self._anchor_cells is None else self._anchor_cells[index],
        )
        loss.backward()
        return float(loss.detach()), take_gradient(self._parameters)

    def _limited_step(self, epoch: EpochFrames) -> float:
        """Take the optimizer's step as far as the limits allow; the share taken."""
        before = [p.detach().clone() for p in self._parameters]
        memory = copy.deepcopy(self.optimizer.state_dict())
        self.optimizer.step()
        proposed = [
            self.rate_scale * (p.detach() - b)
            for p, b in zip(self._parameters, before, strict=True)
        ]
        floor = epoch.n_eff_share(epoch.energies, self._beta) - self._settings.max_n_eff_loss
        usage_before = self.budget.usage(self.errors)
        allowed = 1.0
        for share in SHRINK_FACTORS:
            if share > allowed:
                continue
            self._move(before, proposed, share)
            form = self.sampling_form()
            errors = self._errors(form)
            # A model that is over its budget already may only come closer to it.
            if self.budget.usage(errors) > max(1.0, usage_before * (1.0 - 1e-9)):
                continue
            with self.estimator_watch:
                energies = epoch.energies_of(form)
            if not epoch.n_eff_share(energies, self._beta) >= floor:
                allowed = self._share_on_paper(epoch, energies, share, floor)
                continue
            self.errors, epoch.energies = errors, energies
            self._follow(RATE_GROWTH if share == 1.0 else max(share, RATE_CUT))
            centre_energies(self._potential, self._system, self._train, form)
            return share
        self._put(before)
        self.optimizer.load_state_dict(memory)  # a rejected step leaves no momentum
        self._follow(REJECTED_CUT)
        return 0.0

    def _share_on_paper(
        self, epoch: EpochFrames, energies: Tensor, tried: float, floor: float
    ) -> float:
        """The largest smaller share that is allowed if energies change in proportion to it."""
        change = (energies - epoch.energies) / tried
        if not bool(change.isfinite().all()):
            return 0.5 * tried  # a step this long says nothing about shorter ones
        return largest_share(
            (share for share in SHRINK_FACTORS if share < tried),
            [epoch.energies],
            [change],
            lambda moved: epoch.n_eff_share(moved[0], self._beta) - floor,
        )

    def _follow(self, factor: float) -> None:
        low, high = RATE_SCALE_RANGE
        self.rate_scale = min(max(self.rate_scale * factor, low), high)

    def _move(self, before: list[Tensor], proposed: list[Tensor], share: float) -> None:
        self._put([start + share * p for start, p in zip(before, proposed, strict=True)])

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)

    def sampling_form(self) -> SamplingForm:
        """A fast evaluator at the present parameters, checked against the exact model."""
        return self._potential.for_sampling(self._system, self._table_check)

    def _errors(self, form: SamplingForm) -> LabelErrors:
        """Validation errors at the present parameters, up to a constant in the energies."""
        labels, label_forces = self._validation.require_labels()
        energies, forces = form(*self._validation.geometry(self._potential.device))
        energy_error = energies.cpu() - labels
        energy_error = energy_error - energy_error.mean()
        return LabelErrors(
            float(energy_error.abs().mean()), float((forces.cpu() - label_forces).abs().mean())
        )

    def payload(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "rate_scale": self.rate_scale,
            "restoring": self._restoring,
            "steps_done": self.steps_done,
            "errors": list(self.errors),
            "start_errors": list(self.budget.start),
            "start": self._start.state_dict(),
            "anchor_positions": self._anchor_positions,
            "anchor_forces": self._anchor_forces,
            "anchor_cells": self._anchor_cells,
        }

    def restore(self, payload: dict[str, Any]) -> None:
        """Continue from a payload."""
        device = self._potential.device
        self.optimizer.load_state_dict(payload["optimizer"])
        self.rate_scale = payload["rate_scale"]
        self._restoring = payload["restoring"]
        self.steps_done = payload["steps_done"]
        self.errors = LabelErrors(*payload["errors"])
        self._start.load_state_dict(payload["start"])
        for name in ("anchor_positions", "anchor_forces", "anchor_cells"):
            value = payload.get(name)
            setattr(self, f"_{name}", None if value is None else value.to(device))
        self.budget = ErrorBudget(
            LabelErrors(*payload["start_errors"]),
            self._settings.force_mae_budget,
            self._settings.energy_mae_budget,
        )
