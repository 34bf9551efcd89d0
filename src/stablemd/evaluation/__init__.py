"""Statistics of stable times, errors against reference data, and the report."""

from stablemd.evaluation.metrics import (
    EvaluationMetrics,
    ObservableError,
    compare,
    read_metrics,
    write_metrics,
)
from stablemd.evaluation.rate_ratio import RatioEstimate, failure_rate_ratio
from stablemd.evaluation.survival import StableTime, SurvivalCurve, stable_time
from stablemd.training.label_errors import LabelErrors, energy_and_force_mae

__all__ = [
    "EvaluationMetrics",
    "LabelErrors",
    "ObservableError",
    "RatioEstimate",
    "StableTime",
    "SurvivalCurve",
    "compare",
    "energy_and_force_mae",
    "failure_rate_ratio",
    "read_metrics",
    "stable_time",
    "write_metrics",
]
