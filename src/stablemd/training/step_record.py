"""What the log says about one optimizer step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StepRecord:
    """Numbers of one optimizer step, as they stand in the log.

    Attributes:
        observable_loss: loss on the ensemble averages before the step.
        observable_loss_stderr: its standard error (jackknife over replicas), where the
            noise was assessed; else None.
        label_loss: energy/force loss of the step's batch.
        anchor_loss: mean squared change of forces on the model's own stable frames.
        observable_gradient_norm: norm of the estimator's gradient.
        label_gradient_norm: norm of the energy/force gradient.
        gradient_cosine: cosine between the two.
        n_eff: effective sample size of the frames before the step.
        n_frames: frames used.
        n_dropped: frames with non-finite numbers that were left out.
        step_share: share of the proposed step that the limits allowed; 0: rejected.
        rate_scale: factor on the learning rate that the limits have led to.
        trust: what stands behind the observables' gradient, by name; None where
            it was not looked into.
        warnings: what follows from it, in sentences.
    """

    observable_loss: float
    observable_loss_stderr: float | None
    label_loss: float
    anchor_loss: float
    observable_gradient_norm: float
    label_gradient_norm: float
    gradient_cosine: float
    n_eff: float
    n_frames: int
    n_dropped: int
    step_share: float
    rate_scale: float
    trust: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
