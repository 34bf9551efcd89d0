from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from matplotlib.axes import Axes

from stablemd.errors import DataError
from stablemd.evaluation.comparison_figure import comparison_figure
from stablemd.evaluation.figure_style import ROLES, to_png
from stablemd.evaluation.report import ReportInput


def points(axes: Axes, marker: str = "o") -> dict[int, float]:
    """Position by row of the markers of one kind."""
    return {
        int(line.get_ydata()[0]): float(line.get_xdata()[0])  # type: ignore[index]
        for line in axes.lines
        if line.get_marker() == marker
    }


def bars(axes: Axes) -> dict[int, list[float]]:
    """Limits by row."""
    return {
        int(line.get_ydata()[0]): list(map(float, line.get_xdata()))  # type: ignore[index,arg-type]
        for line in axes.lines
        if line.get_marker() in ("None", "", None)
    }


def test_points_and_bars_are_the_numbers_of_the_metrics(report_input: ReportInput) -> None:
    metrics = report_input.metrics
    time, observable, force = comparison_figure(metrics).axes
    for row, role in enumerate(r for r in ROLES if r in metrics):
        stable = metrics[role]["stable_time_ps"]
        assert points(time)[row] == stable["mean_time_to_failure"]
        assert bars(time)[row] == stable["mean_time_to_failure_ci95"]
        error = metrics[role]["observables"]["distance_distribution"]
        assert points(observable)[row] == error["mae"]
        low, high = bars(observable)[row]
        assert high - low == pytest.approx(2 * 1.96 * error["stderr"])
        assert points(force)[row] == metrics[role]["force_mae_ev_per_angstrom"]
    assert points(time, ">") == {}


def test_without_failures_an_arrow_starts_at_the_lower_limit(report_input: ReportInput) -> None:
    metrics: dict[str, Any] = deepcopy(dict(report_input.metrics))
    metrics["after"]["stable_time_ps"] |= {
        "n_failed": 0, "mean_time_to_failure": None, "mean_time_to_failure_ci95": [64.1, None],
    }  # fmt: skip
    time = comparison_figure(metrics).axes[0]
    assert set(points(time)) == {0, 1}
    assert bars(time)[2][0] == 64.1
    largest = max(metrics["before"]["stable_time_ps"]["mean_time_to_failure_ci95"] + [64.1])
    assert largest < points(time, ">")[2] < time.get_xlim()[1]
    assert any(text.get_text() == "> 64.1" for text in time.texts)


def test_partial_metrics_leave_their_panels_out(report_input: ReportInput) -> None:
    stable = {"stable_time_ps": report_input.metrics["before"]["stable_time_ps"]}
    figure = comparison_figure({"model": stable})
    assert len(figure.axes) == 1
    assert to_png(figure).startswith(b"\x89PNG")
    with pytest.raises(DataError, match="at least one"):
        comparison_figure({})
    with pytest.raises(DataError, match="'old'"):
        comparison_figure({"old": stable})
