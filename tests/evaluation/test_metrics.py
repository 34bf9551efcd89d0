from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stablemd.errors import DataError
from stablemd.evaluation.metrics import (
    EvaluationMetrics,
    ObservableError,
    compare,
    read_metrics,
    write_metrics,
)
from stablemd.evaluation.rate_ratio import failure_rate_ratio
from stablemd.evaluation.survival import stable_time


def metrics(n_failed: int, force: float, energy: float = 0.04) -> EvaluationMetrics:
    times = np.full(64, 3.0)
    times[:n_failed] = np.linspace(0.1, 2.9, n_failed)
    return EvaluationMetrics(
        stable_time=stable_time(times, np.arange(64) < n_failed, 3.0),
        observables={"distance_distribution": ObservableError(0.01, 0.002)},
        force_mae_ev_per_angstrom=force,
        energy_mae_ev=energy,
        wall_s={"simulation": 12.0},
    )


def test_json_has_the_documented_keys() -> None:
    result = metrics(3, 0.117).to_json()
    assert result["stable_time_ps"]["n_failed"] == 3
    assert result["observables"] == {"distance_distribution": {"mae": 0.01, "stderr": 0.002}}
    assert result["force_mae_ev_per_angstrom"] == 0.117
    assert result["energy_mae_ev"] == 0.04


def test_extra_values_may_not_hide_a_metric() -> None:
    base = metrics(1, 0.1)
    bad = EvaluationMetrics(base.stable_time, {}, 0.1, 0.1, extra={"energy_mae_ev": 0.0})
    with pytest.raises(DataError, match="energy_mae_ev"):
        bad.to_json()


def test_what_is_written_is_read_again_and_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "metrics.json"
    content = {
        "before": metrics(15, 0.117).to_json(),
        "odd": {"nan": float("nan"), "inf": [np.inf, np.float32(0.5)], "t": torch.arange(2)},
        "path": Path("a/b"),
    }
    write_metrics(path, content)
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()
    read = read_metrics(path)
    assert read["before"] == content["before"]
    assert read["odd"] == {"nan": None, "inf": [None, 0.5], "t": [0, 1]}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", ["[1, 2]", '{"a": NaN}', "{"])
def test_a_file_that_is_not_a_strict_dictionary_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(DataError, match="JSON"):
        read_metrics(path)
    with pytest.raises(DataError, match="does not exist"):
        read_metrics(tmp_path / "missing.json")


def test_compare_is_the_same_from_objects_and_from_json() -> None:
    before, after, control = metrics(15, 0.117), metrics(1, 0.118), metrics(13, 0.110)
    result = compare(before, after, control)
    through_file = json.loads(json.dumps([m.to_json() for m in (before, after, control)]))
    assert compare(*through_file) == result
    direct = failure_rate_ratio(after.stable_time, before.stable_time)
    times = result["mean_time_to_failure_ratio"]
    assert times["after_over_before"] == direct.to_json()
    assert set(times) == {"after_over_before", "control_over_before", "after_over_control"}
    assert result["force_mae_ratio"]["after_over_before"] == pytest.approx(0.118 / 0.117)


def test_compare_without_control_and_without_time_at_risk() -> None:
    before, after = metrics(15, 0.117), metrics(0, 0.118)
    result = compare(before, after)
    estimate = result["mean_time_to_failure_ratio"]["after_over_before"]
    assert estimate["ratio"] is None
    assert estimate["lower"] > 1
    with pytest.raises(DataError, match="total_time_ps"):
        compare({"stable_time_ps": {"n_failed": 3}}, after)
