"""Stable time and errors of several potentials side by side, with error bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from stablemd.errors import DataError
from stablemd.evaluation.figure_style import INK, ROLES, check_role, new_figure, style
from stablemd.evaluation.report_text import number, observable_name

Metrics = Mapping[str, Any]
Estimate = tuple[float | None, float | None, float | None]
"""Value, lower and upper limit; None is a value or limit that the data leave open."""

WIDTH, HEADER, ROW_HEIGHT = 10.8, 0.85, 0.42
NORMAL_95 = 1.96
ARROW = 1.6
"""Where an open interval ends in the figure, as a factor on the largest number in it."""


def comparison_figure(metrics: Mapping[str, Metrics], observable: str | None = None) -> Figure:
    """Mean time to failure, an observable's error and the force error by role.

    Bars are 95 % intervals; an arrow stands for a limit that the data leave open.

    Args:
        metrics: by role, dictionaries as in metrics.json.
        observable: which of their observables; the first one by default.

    Raises:
        DataError: there are no metrics, or a role has no style.
    """
    for role in metrics:
        check_role(role)
    if not metrics:
        raise DataError("a comparison needs the metrics of at least one potential")
    roles = [role for role in ROLES if role in metrics]
    names = dict.fromkeys(n for m in metrics.values() for n in m.get("observables") or {})
    name = observable or next(iter(names), None)
    panels: list[tuple[str, Callable[[Metrics], Estimate], bool]] = [
        ("mean time to failure (ps)", mean_time, True)
    ]
    if name is not None:
        panels.append(
            (f"MAE of {observable_name(name)}", lambda m: observable_error(m, name), False)
        )
    if any(m.get("force_mae_ev_per_angstrom") is not None for m in metrics.values()):
        panels.append(("force MAE (eV/Å)", force_error, False))
    with style():
        figure = new_figure(WIDTH, HEADER + ROW_HEIGHT * len(roles))
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        figure.subplots_adjust(
            left=0.075, right=0.98, wspace=0.15, top=0.94,
            bottom=0.58 / figure.get_figheight(),
        )  # fmt: skip
        for panel, (label, estimate, is_time) in zip(axes, panels, strict=True):
            _draw(panel, {role: estimate(metrics[role]) for role in roles}, is_time)
            panel.set_xlabel(label)
        axes[0].set_yticks(range(len(roles)), [ROLES[role].label for role in roles])
        axes[0].set_ylim(len(roles) - 0.5, -0.65)
        for tick, role in zip(axes[0].get_yticklabels(), roles, strict=True):
            tick.set_color(ROLES[role].color)
    return figure


def mean_time(metrics: Metrics) -> Estimate:
    """Mean time to failure with its limits in ps."""
    stable = metrics["stable_time_ps"]
    lower, upper = stable["mean_time_to_failure_ci95"]
    return stable["mean_time_to_failure"], lower, upper


def observable_error(metrics: Metrics, name: str) -> Estimate:
    """An observable's error with the 95 % limits of its standard error."""
    error = (metrics.get("observables") or {}).get(name) or {}
    mae, stderr = error.get("mae"), error.get("stderr")
    if mae is None or stderr is None:
        return mae, mae, mae
    return mae, max(mae - NORMAL_95 * stderr, 0.0), mae + NORMAL_95 * stderr


def force_error(metrics: Metrics) -> Estimate:
    """Force MAE in eV/Å; a whole test set leaves no sampling error worth drawing."""
    value = metrics.get("force_mae_ev_per_angstrom")
    return value, value, value


def _draw(axes: Axes, estimates: Mapping[str, Estimate], is_time: bool) -> None:
    known = [x for estimate in estimates.values() for x in estimate if x]
    largest = max(known, default=1.0)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    for row, (role, (value, lower, upper)) in enumerate(estimates.items()):
        color = ROLES[role].color
        if lower is not None:
            end = upper if upper is not None else ARROW * largest
            axes.plot([lower, end], [row, row], color=color, linewidth=2.4, alpha=0.55)
            if upper is None:
                axes.plot(end, row, ">", color=color, markersize=6)
        if value is not None:
            axes.plot(value, row, "o", color=color, markersize=6.5)
        shown = value if value is not None else lower
        if shown is not None:
            text = number(shown) if value is not None else f"> {number(shown)}"
            axes.annotate(
                text, (shown, row), xytext=(0, 6), textcoords="offset points",
                ha="center" if value is not None else "left", fontsize=9, color=INK,
            )  # fmt: skip
    if is_time:
        axes.set_xscale("log")
        is_open = any(lower and upper is None for _, lower, upper in estimates.values())
        low, high = min(known, default=0.1) / 1.6, (2.0 * ARROW if is_open else 1.6) * largest
        axes.set_xlim(low, high)
        # Within two decades the powers of ten alone say too little.
        digits = (1.0,) if high > 300.0 * low else (1.0, 2.0, 5.0)
        axes.xaxis.set_major_locator(LogLocator(subs=digits))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0.0, 1.15 * largest)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
