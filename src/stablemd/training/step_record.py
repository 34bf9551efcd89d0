"""What the log says about one optimizer step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class PointStep:
    """Numbers of one optimizer step at one state point.

    Where the point did not sample, those of its observables and frames are None or 0.

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
        trust: what stands behind the observables' gradient, by name; None where
            it was not looked into.
        warnings: what follows from it, in sentences.
    """

    label_loss: float
    anchor_loss: float
    label_gradient_norm: float
    observable_loss: float | None = None
    observable_loss_stderr: float | None = None
    observable_gradient_norm: float | None = None
    gradient_cosine: float | None = None
    n_eff: float | None = None
    n_frames: int = 0
    n_dropped: int = 0
    trust: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepRecord:
    """Numbers of one optimizer step, as they stand in the log.

    Of several state points, losses, norms and cosines are means over those that have one,
    numbers of frames are sums, and the trust is that of the gradient with the least
    signal; each point's own numbers stand under its name.

    Attributes:
        observable_loss: as in :class:`PointStep`, and so on to ``n_dropped``.
        step_share: share of the proposed step that the limits allowed; 0: rejected.
        rate_scale: factor on the learning rate that the limits have led to.
        trust: as in :class:`PointStep`, and so are the warnings.
        points: the numbers of several state points by name; None with one.
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
    points: dict[str, dict[str, Any]] | None = None

    @classmethod
    def of(cls, steps: Mapping[str, PointStep], share: float, rate_scale: float) -> StepRecord:
        """The record of a step.

        Args:
            steps: of every state point by name; one at least has sampled.
            share: taken of the proposed step.
            rate_scale: after it.
        """
        every = list(steps.values())
        stderrs = _known(every, "observable_loss_stderr")
        trusts = [step.trust for step in every if step.trust is not None]
        several = len(steps) > 1
        return cls(
            observable_loss=_mean(every, "observable_loss"),
            observable_loss_stderr=_error_of_mean(stderrs) if stderrs else None,
            label_loss=_mean(every, "label_loss"),
            anchor_loss=_mean(every, "anchor_loss"),
            observable_gradient_norm=_mean(every, "observable_gradient_norm"),
            label_gradient_norm=_mean(every, "label_gradient_norm"),
            gradient_cosine=_mean(every, "gradient_cosine"),
            n_eff=sum(_known(every, "n_eff")),
            n_frames=sum(step.n_frames for step in every),
            n_dropped=sum(step.n_dropped for step in every),
            step_share=share,
            rate_scale=rate_scale,
            trust=min(trusts, key=_signal) if trusts else None,
            warnings=tuple(
                f"state point {name}: {warning}" if several else warning
                for name, step in steps.items()
                for warning in step.warnings
            ),
            points={name: asdict(step) for name, step in steps.items()} if several else None,
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in the log, without ``points`` where there is one alone."""
        values = asdict(self)
        if self.points is None:
            del values["points"]
        return values


def _known(steps: list[PointStep], key: str) -> list[float]:
    return [value for step in steps if (value := getattr(step, key)) is not None]


def _signal(trust: Mapping[str, Any]) -> float:
    known = trust["signal_to_noise"]
    return -1.0 if known is None else float(known)


def _mean(steps: list[PointStep], key: str) -> float:
    values = _known(steps, key)
    return sum(values) / len(values)


def _error_of_mean(stderrs: list[float]) -> float:
    """Standard error of the mean of independent numbers; of one, its own."""
    if len(stderrs) == 1:
        return stderrs[0]
    return float(sum(s**2 for s in stderrs) ** 0.5 / len(stderrs))
