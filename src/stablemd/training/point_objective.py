"""What one state point contributes to the objective of StABlE Training."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stablemd import units
from stablemd.estimators import SampledFrames
from stablemd.md import RecordedFrames
from stablemd.potentials.base import Potential, SamplingForm
from stablemd.training.budget import ErrorBudget
from stablemd.training.epoch_frames import EpochFrames
from stablemd.training.gradients import cosine, norm, take_gradient
from stablemd.training.label_errors import LabelErrors
from stablemd.training.label_loss import anchor_loss, cycling_batches, label_loss
from stablemd.training.local_target import LocalTarget
from stablemd.training.observable_gradient import make_target, observable_gradient
from stablemd.training.point_gradients import PointGradients
from stablemd.training.relative_entropy import relative_entropy_gradient
from stablemd.training.step_record import PointStep
from stablemd.training.stopwatch import Stopwatch
from stablemd.training.training_point import TrainingPoint

N_TABLE_CHECK = 4
"""Training structures on which an approximate sampling form checks itself."""

NOISE_GROUPS = 8
"""Groups of replicas whose gradients are compared."""


class PointObjective:
    """Losses, validation errors with their budget, and frames of one state point.

    Args:
        potential: what is trained.
        start: a copy of it from before the training, whose forces anchor the present ones.
        point: the state point.
        watch: times the estimator: observables, energies (also those that a step's limit
            and the next step need), backward pass.

    Raises:
        ConfigError: an observable does not go with the estimator.
        DataError: labels are missing.
        PotentialError: the estimator needs atomic energies and the potential has none.
    """

    def __init__(
        self, potential: Potential, start: Potential, point: TrainingPoint, watch: Stopwatch
    ) -> None:
        device = potential.device
        self._potential = potential
        self._start = start
        self.system = point.system.to(device)
        self.point = point
        self._settings = point.settings
        self._beta = units.beta(point.settings.dynamics.temperature_k)
        self._target = make_target(potential, self.system, point.reference, point.settings)
        self._parameters = [p for p in potential.parameters() if p.requires_grad]
        self._anchor_positions: Tensor | None = None
        self._anchor_forces: Tensor | None = None
        self._anchor_cells: Tensor | None = None
        self._table_check = point.train.positions[:N_TABLE_CHECK].to(device)
        self._watch = watch
        self.errors = LabelErrors(float("nan"), float("nan"))
        self._set_budget(self.errors)

    def begin(self) -> None:
        """Take the present errors as those that the budget is counted from."""
        self.errors = self.errors_of(self.sampling_form())
        self._set_budget(self.errors)

    def _set_budget(self, start: LabelErrors) -> None:
        settings = self._settings
        self.budget = ErrorBudget(start, settings.force_mae_budget, settings.energy_mae_budget)

    @property
    def budget_used(self) -> float:
        """Share of the allowed growth of the errors that is used up."""
        return self.budget.usage(self.errors)

    def sampling_form(self) -> SamplingForm:
        """A fast evaluator at the present parameters, checked against the exact model."""
        return self._potential.for_sampling(self.system, self._table_check)

    def errors_of(self, form: SamplingForm) -> LabelErrors:
        """Validation errors of a sampling form, up to a constant in the energies."""
        validation = self.point.validation
        labels, label_forces = validation.require_labels()
        energies, forces = form(*validation.geometry(self._potential.device))
        energy_error = energies.cpu() - labels
        energy_error = energy_error - energy_error.mean()
        return LabelErrors(
            float(energy_error.abs().mean()), float((forces.cpu() - label_forces).abs().mean())
        )

    def set_anchor(self, positions: Tensor, cells: Tensor | None = None) -> None:
        """Stable frames, (n, N, 3) and cells (n, 3, 3), whose forces should stay as they were."""
        if len(positions) and self._settings.anchor_weight > 0.0:
            _, forces = self._start.for_sampling(self.system)(positions, cells)
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
        with self._watch:
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

    def energies_of(self, epoch: EpochFrames, form: SamplingForm) -> Tensor:
        """Energies of an epoch's frames from a sampling form, of the kind that weighs them."""
        with self._watch:
            return epoch.energies_of(form)

    def n_eff_share(self, epoch: EpochFrames, energies: Tensor) -> float:
        """Effective share of an epoch's frames at parameters that give these energies."""
        return epoch.n_eff_share(energies, self._beta)

    def gradients(
        self, epoch: EpochFrames | None, step: int, *, assess: bool
    ) -> tuple[PointGradients, PointStep]:
        """The gradients of this point's losses, and what the log says about them.

        Args:
            epoch: its frames of the learning epoch; None where it did not sample.
            step: optimizer steps before this one, which chooses batches.
            assess: whether to estimate the noise of the observables' gradient and loss.
        """
        observables = None
        if epoch is not None:
            with self._watch:
                result = self._observable_result(epoch, step, assess=assess)
                observables = take_gradient(self._parameters)
        label_value, labels = self._label_gradient(step)
        anchor_value, anchor = self._anchor_gradient(step)
        gradients = PointGradients(observables, labels, anchor, self.budget_used)
        numbers: dict[str, Any] = {
            "label_loss": label_value,
            "anchor_loss": anchor_value,
            "label_gradient_norm": norm(labels),
        }
        if epoch is None or observables is None:
            return gradients, PointStep(**numbers)
        label_cosine = cosine(observables, labels)
        trust = result.trust.with_label_cosine(label_cosine) if assess else None
        return gradients, PointStep(
            **numbers,
            observable_loss=result.loss,
            observable_loss_stderr=result.loss_stderr if assess else None,
            observable_gradient_norm=norm(observables),
            gradient_cosine=label_cosine,
            n_eff=result.trust.n_eff,
            n_frames=result.trust.n_frames,
            n_dropped=epoch.n_dropped + result.trust.n_dropped,
            trust=None if trust is None else trust.to_json(),
            warnings=() if trust is None else tuple(trust.warnings()),
        )

    def _observable_result(self, epoch: EpochFrames, step: int, *, assess: bool) -> Any:
        """Put the gradient of the observables and the relative entropy into ``.grad``."""
        settings = self._settings
        self._clear()
        result = observable_gradient(
            self._potential,
            self.system,
            epoch,
            self._target,
            beta=self._beta,
            chunk_size=settings.chunk_size,
            max_backward=settings.max_backward_frames,
            seed=step,
            noise_groups=NOISE_GROUPS if assess else 0,
            error_bars=assess,
        )
        if settings.relative_entropy_weight > 0.0:
            relative_entropy_gradient(
                self._potential,
                self.system,
                epoch,
                self.point.reference,
                beta=self._beta,
                weight=settings.relative_entropy_weight,
                chunk_size=settings.chunk_size,
                n_structures=settings.label_batch_size,
                seed=step,
            )
        return result

    def _label_gradient(self, step: int) -> tuple[float, list[Tensor]]:
        train = self.point.train
        n_batch = min(self._settings.label_batch_size, len(train))
        index = cycling_batches(len(train), n_batch, seed=self._settings.seed, step=step)
        self._clear()
        loss = label_loss(
            self._potential,
            self.system,
            train.select(index),
            self._settings.label_loss,
            free_offset=True,
        )
        loss.backward()
        return float(loss.detach()), take_gradient(self._parameters)

    def _anchor_gradient(self, step: int) -> tuple[float, list[Tensor] | None]:
        if self._anchor_positions is None or self._anchor_forces is None:
            return 0.0, None
        n = len(self._anchor_positions)
        n_batch = min(self._settings.label_batch_size, n)
        index = cycling_batches(n, n_batch, seed=self._settings.seed + 1, step=step)
        self._clear()
        loss = anchor_loss(
            self._potential,
            self.system,
            self._anchor_positions[index],
            self._anchor_forces[index],
            None if self._anchor_cells is None else self._anchor_cells[index],
        )
        loss.backward()
        return float(loss.detach()), take_gradient(self._parameters)

    def _clear(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def payload(self) -> dict[str, Any]:
        """State for a checkpoint."""
        return {
            "errors": list(self.errors),
            "start_errors": list(self.budget.start),
            "anchor_positions": self._anchor_positions,
            "anchor_forces": self._anchor_forces,
            "anchor_cells": self._anchor_cells,
        }

    def restore(self, payload: dict[str, Any]) -> None:
        """Continue from a payload."""
        device = self._potential.device
        self.errors = LabelErrors(*payload["errors"])
        self._set_budget(LabelErrors(*payload["start_errors"]))
        for name in ("anchor_positions", "anchor_forces", "anchor_cells"):
            value = payload.get(name)
            setattr(self, f"_{name}", None if value is None else value.to(device))
