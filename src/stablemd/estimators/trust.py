"""How far a gradient can be trusted, in numbers and in words."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from stablemd.autocorrelation import integrated_autocorrelation

NOISE_RATIO = 1.0
"""Signal over noise below which a gradient is called noise."""

WEAK_RATIO = 3.0

FEW_INDEPENDENT = 30.0

LOW_SHARE = 0.1
"""Share of the frames that still count below which reweighting is called worn out."""


@dataclass(frozen=True)
class Trust:
    """What stands behind a gradient.

    Attributes:
        n_frames: frames used.
        n_dropped: frames left out because a number was not finite.
        n_eff: Kish's effective number of frames under the weights.
        n_eff_entropy: the same from the entropy of the weights.
        autocorrelation_time: integrated, of the observable along the loss'
            slope, in frames; 0.5 for independent frames.
        n_independent: effective number of frames with both taken together.
        n_groups: independent groups of replicas that were compared.
        gradient_norm: norm of the gradient.
        gradient_noise: root of the summed variances of its components, from the
            scatter between groups; NaN with fewer than two groups.
        slope_noise: relative standard deviation of the frames' coefficients
            that comes from ∂L/∂<g>, which is large close to the target.
        label_cosine: cosine with the gradient of the loss on energies and
            forces; NaN where it was not formed.
    """

    n_frames: int
    n_dropped: int
    n_eff: float
    n_eff_entropy: float
    autocorrelation_time: float
    n_independent: float
    n_groups: int
    gradient_norm: float
    gradient_noise: float
    slope_noise: float
    label_cosine: float = float("nan")

    @property
    def noise(self) -> float:
        """Standard deviation of the gradient as a vector, the slope's part included."""
        slope = 0.0 if math.isnan(self.slope_noise) else self.slope_noise * self.gradient_norm
        return math.hypot(self.gradient_noise, slope)

    @property
    def signal_to_noise(self) -> float:
        """Norm of the true gradient over that of the noise.

        The squared norm of a noisy vector is the sum of both squares, so the
        noise is subtracted first; 0 where nothing is left, NaN if unknown.
        """
        if math.isnan(self.noise):
            return float("nan")
        if self.noise == 0.0:
            return float("inf") if self.gradient_norm > 0.0 else 0.0
        return math.sqrt(max((self.gradient_norm / self.noise) ** 2 - 1.0, 0.0))

    @property
    def expected_cosine(self) -> float:
        """Expected cosine between this gradient and the true one."""
        ratio = self.signal_to_noise
        return 1.0 if math.isinf(ratio) else ratio / math.sqrt(1.0 + ratio**2)

    @property
    def is_noise(self) -> bool:
        """Whether the noise is known to exceed the signal."""
        return self.signal_to_noise < NOISE_RATIO

    def with_label_cosine(self, cosine: float) -> Trust:
        """The same with the cosine to the energy and force gradient."""
        return replace(self, label_cosine=cosine)

    def warnings(self) -> list[str]:
        """What a user should know before following this gradient, in sentences."""
        found = []
        size = (
            f"its norm is {self.gradient_norm:.3g}, that of its noise {self.noise:.3g} "
            f"({self.n_groups} groups of replicas)"
        )
        if math.isnan(self.gradient_noise):
            found.append(
                "gradient of unknown quality: fewer than two independent replicas; run more, or "
                "replicas that are no copies of each other"
            )
        elif self.is_noise:
            found.append(f"gradient is noise: {size}; use more replicas or longer windows")
        elif self.signal_to_noise < WEAK_RATIO:
            found.append(
                f"gradient is weak: {size}; expect a cosine of {self.expected_cosine:.2f} with the "
                "true gradient, and take small steps"
            )
        if self.n_eff < LOW_SHARE * self.n_frames:
            found.append(
                f"weights are worn out: {self.n_eff:.1f} of {self.n_frames} frames count; "
                "simulate again at the present parameters"
            )
        elif self.n_independent < FEW_INDEPENDENT:
            found.append(
                f"few independent frames: {self.n_independent:.1f}, since frames repeat each other "
                f"over {2.0 * self.autocorrelation_time:.1f} frames; record longer rather than "
                "more often"
            )
        if self.n_dropped:
            found.append(
                f"{self.n_dropped} of {self.n_frames + self.n_dropped} frames were left out, "
                "because a number in them was not finite"
            )
        if self.label_cosine < 0.0:
            found.append(
                f"gradient pulls against energies and forces: cosine {self.label_cosine:.2f}"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Numbers for a log; those that are unknown are None."""
        numbers = {
            **asdict(self),
            "signal_to_noise": self.signal_to_noise,
            "expected_cosine": self.expected_cosine,
        }
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in numbers.items()
        }


def independent_share(projected: Tensor, weights: Tensor, replica: Tensor) -> tuple[float, float]:
    """Autocorrelation time of frames, and the share of them that is independent.

    The series is ``w_i (y_i - <y>)``, the terms that the average sums.

    Args:
        projected: y, one number per frame, (n,), in the order of time within a replica.
        weights: of the frames, (n,), summing to one.
        replica: replica of each frame, (n,).

    Returns:
        Integrated autocorrelation time in frames, 0.5 for independent ones; the
        share of independent frames.
    """
    series = weights * (projected - weights @ projected)
    order = torch.argsort(replica, stable=True)
    _, sizes = torch.unique_consecutive(replica[order], return_counts=True)
    found = integrated_autocorrelation(series[order, None].double(), sizes)
    return found.time, found.n_eff / len(series)


def gradient_cosine(a: list[Tensor], b: list[Tensor]) -> float:
    """Cosine between two gradients, one tensor per parameter; 0 where one vanishes."""

    def dot(x: list[Tensor], y: list[Tensor]) -> float:
        return sum(float((u.double() * v.double()).sum()) for u, v in zip(x, y, strict=True))

    scale = math.sqrt(dot(a, a) * dot(b, b))
    return dot(a, b) / scale if scale > 0.0 else 0.0
