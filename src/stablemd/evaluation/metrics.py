"""The numbers of an evaluation, as objects and as metrics.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stablemd.errors import DataError
from stablemd.evaluation.rate_ratio import RatioEstimate, failure_rate_ratio
from stablemd.evaluation.survival import StableTime
from stablemd.strict_json import plain, write_json


@dataclass(frozen=True)
class ObservableError:
    """Error of a sampled observable against its reference.

    Attributes:
        mae: in the observable's own convention and unit; None where every
            replica failed before a frame could be used.
        stderr: standard error of ``mae``.
    """

    mae: float | None
    stderr: float | None


@dataclass(frozen=True)
class EvaluationMetrics:
    """What one evaluation of one potential measured.

    Attributes:
        stable_time: first-passage statistics.
        observables: error of every observable by name.
        force_mae_ev_per_angstrom: on labelled test structures, eV/Å.
        energy_mae_ev: on labelled test structures, eV.
        wall_s: wall time by part, s.
        extra: further JSON values; they may not repeat a key of this class.
    """

    stable_time: StableTime
    observables: dict[str, ObservableError]
    force_mae_ev_per_angstrom: float
    energy_mae_ev: float
    wall_s: dict[str, float] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The dictionary that stands in metrics.json."""
        result: dict[str, Any] = {
            "stable_time_ps": self.stable_time.to_json(),
            "observables": {name: asdict(error) for name, error in self.observables.items()},
            "force_mae_ev_per_angstrom": self.force_mae_ev_per_angstrom,
            "energy_mae_ev": self.energy_mae_ev,
            "wall_s": dict(self.wall_s),
        }
        repeated = sorted(set(result) & set(self.extra))
        if repeated:
            raise DataError(f"extra metrics may not repeat the keys {repeated}; rename them")
        plain_result: dict[str, Any] = plain({**result, **self.extra})
        return plain_result


@dataclass(frozen=True)
class _Counts:
    n_failed: int
    total_time_ps: float


Metrics = EvaluationMetrics | Mapping[str, Any]


def compare(
    before: Metrics, after: Metrics, control: Metrics | None = None, confidence: float = 0.95
) -> dict[str, Any]:
    """How much training changed: ratios of mean times to failure and of label errors.

    Args:
        before: metrics of the starting potential, as object or JSON dictionary.
        after: metrics of the trained potential.
        control: metrics of the potential trained on energies and forces alone.
        confidence: level of the intervals.

    Returns:
        JSON dictionary: ``mean_time_to_failure_ratio`` and ``force_mae_ratio``
        and ``energy_mae_ratio``, each with the comparisons
        ``after_over_before`` and, with a control, ``control_over_before`` and
        ``after_over_control``; None is a ratio that does not exist.
    """
    sides = {"before": _as_json(before), "after": _as_json(after)}
    pairs = [("after", "before")]
    if control is not None:
        sides["control"] = _as_json(control)
        pairs += [("control", "before"), ("after", "control")]
    result: dict[str, Any] = {
        "mean_time_to_failure_ratio": {},
        "force_mae_ratio": {},
        "energy_mae_ratio": {},
    }
    for top, bottom in pairs:
        key, a, b = f"{top}_over_{bottom}", sides[top], sides[bottom]
        estimate = stable_time_ratio(a, b, confidence)
        result["mean_time_to_failure_ratio"][key] = estimate.to_json()
        for label in ("force_mae_ev_per_angstrom", "energy_mae_ev"):
            name = "force_mae_ratio" if label.startswith("force") else "energy_mae_ratio"
            result[name][key] = _quotient(a.get(label), b.get(label))
    return result


def stable_time_ratio(
    a: Mapping[str, Any], b: Mapping[str, Any], confidence: float = 0.95
) -> RatioEstimate:
    """Ratio of the mean times to failure of two metrics dictionaries, a over b."""
    return failure_rate_ratio(_counts(a), _counts(b), confidence)


def write_metrics(path: str | Path, metrics: Mapping[str, Any]) -> None:
    """Write a dictionary as strict JSON (numbers that are not finite become null)."""
    write_json(path, metrics)


def read_metrics(path: str | Path) -> dict[str, Any]:
    """Read a metrics file.

    Raises:
        DataError: the file is missing or is not a strict JSON dictionary.
    """
    path = Path(path)
    try:
        result = json.loads(path.read_text(encoding="utf-8"), parse_constant=_reject_constant)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; run an evaluation that writes it") from error
    except ValueError as error:
        raise DataError(f"{path} is not strict JSON ({error}); write it again") from error
    if not isinstance(result, dict):
        raise DataError(f"{path} must hold a JSON dictionary, got a {type(result).__name__}")
    return result


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _as_json(metrics: Metrics) -> Mapping[str, Any]:
    return metrics.to_json() if isinstance(metrics, EvaluationMetrics) else metrics


def _counts(metrics: Mapping[str, Any]) -> _Counts:
    try:
        stable = metrics["stable_time_ps"]
        return _Counts(int(stable["n_failed"]), float(stable["total_time_ps"]))
    except (KeyError, TypeError) as error:
        raise DataError(
            "metrics need stable_time_ps with n_failed and total_time_ps to be compared, got keys "
            f"{sorted(metrics)}"
        ) from error


def _quotient(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None or b == 0 else a / b
