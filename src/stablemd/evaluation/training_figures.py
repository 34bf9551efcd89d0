"""The course of StABlE Training, drawn from its log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, PercentFormatter
from numpy.typing import NDArray

from stablemd.evaluation.figure_style import INK, MUTED, ROLES, WIDTH, new_figure, style

Record = Mapping[str, Any]
Series = tuple[NDArray[np.float64], NDArray[np.float64]]


def training_figures(
    history: Sequence[Record], force_mae_budget: float | None = None
) -> dict[str, Figure]:
    """One figure per quantity that the log holds, over the learning epochs of all cycles.

    A learning epoch stands at its number; a simulation phase stands between
    the epochs that it separates.  Optimizer steps spread over their epoch.

    Args:
        history: records of the training log in order.  Read where present:
            ``phase`` ("simulate" or "learn"), ``failed_fraction``,
            ``force_mae_ev_per_angstrom``, and ``steps`` with
            ``observable_gradient_norm``, ``label_gradient_norm``,
            ``gradient_cosine`` and ``n_eff`` of every optimizer step, and of those
            that were looked into ``trust`` with ``signal_to_noise`` and
            ``autocorrelation_time``.
        force_mae_budget: largest force MAE that was allowed, eV/Å.

    Returns:
        Figures by name: "failed_fraction", "force_mae", "n_eff",
        "gradient_norms", "gradient_cosine", "signal_to_noise",
        "autocorrelation_time"; a name is missing where no record holds its
        quantity.
    """
    positions = _positions(history)
    failed = {
        phase: _of_records(history, positions, "failed_fraction", phase)
        for phase in ("simulate", "learn")
    }
    force = _of_records(history, positions, "force_mae_ev_per_angstrom")
    steps = {
        key: _of_steps(history, positions, key)
        for key in ("observable_gradient_norm", "label_gradient_norm", "gradient_cosine", "n_eff")
    }
    trust = {
        key: _of_steps(history, positions, f"trust.{key}")
        for key in ("signal_to_noise", "autocorrelation_time")
    }
    panels: dict[str, tuple[list[Series], Callable[[Axes], None]]] = {
        "failed_fraction": (list(failed.values()), lambda a: _draw_failed(a, failed)),
        "force_mae": ([force], lambda a: _draw_force_mae(a, force, force_mae_budget)),
        "n_eff": ([steps["n_eff"]], lambda a: _draw_n_eff(a, steps["n_eff"])),
        "gradient_norms": (
            [steps["observable_gradient_norm"], steps["label_gradient_norm"]],
            lambda a: _draw_norms(a, steps),
        ),
        "gradient_cosine": (
            [steps["gradient_cosine"]],
            lambda a: _draw_cosine(a, steps["gradient_cosine"]),
        ),
        "signal_to_noise": (
            [trust["signal_to_noise"]],
            lambda a: _draw_signal(a, trust["signal_to_noise"]),
        ),
        "autocorrelation_time": (
            [trust["autocorrelation_time"]],
            lambda a: _draw_autocorrelation(a, trust["autocorrelation_time"]),
        ),
    }
    figures = {}
    for name, (series, draw) in panels.items():
        if any(len(x) for x, _ in series):
            with style():
                figure = new_figure(WIDTH, 2.35)
                axes = figure.add_axes((0.15, 0.215, 0.82, 0.73))
                draw(axes)
                _move_legend_above(axes)
                margin = 0.02 * max(positions) + 0.2
                axes.set_xlim(0.5 - margin, max(positions) + margin)
                axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
                axes.set_xlabel("learning epoch")
                for x in _phase_ends(history, positions):
                    axes.axvline(x, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2.5)), zorder=0)
            figures[name] = figure
    return figures


def _move_legend_above(axes: Axes) -> None:
    """Give the legend a line of its own: many epochs leave no room among the points."""
    if axes.get_legend() is None:
        return
    x, y, width, height = axes.get_position().bounds
    axes.set_position((x, y, width, height - 0.075))
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1,
        columnspacing=1.4, handletextpad=0.3, handlelength=1.4,
    )  # fmt: skip


def _positions(history: Sequence[Record]) -> list[float]:
    n_epochs, positions = 0, []
    for record in history:
        simulates = record.get("phase") == "simulate"
        n_epochs += not simulates
        positions.append(n_epochs + 0.5 if simulates else float(n_epochs))
    return positions


def _phase_ends(history: Sequence[Record], positions: list[float]) -> list[float]:
    pairs = zip(history, positions, strict=True)
    return [x for record, x in pairs if record.get("phase") == "simulate"]


def _of_records(
    history: Sequence[Record], positions: list[float], key: str, phase: str | None = None
) -> Series:
    found = [
        (x, record[key])
        for record, x in zip(history, positions, strict=True)
        if record.get(key) is not None and phase in (None, record.get("phase", "learn"))
    ]
    return _as_series(found)


def _of_steps(history: Sequence[Record], positions: list[float], key: str) -> Series:
    found = []
    for record, x in zip(history, positions, strict=True):
        steps = record.get("steps") or []
        for index, step in enumerate(steps):
            value = _number(step, key)
            if value is not None:
                found.append((x + 0.8 * ((index + 0.5) / len(steps) - 0.5), value))
    return _as_series(found)


def _number(step: Record, key: str) -> float | None:
    """The value at a dotted key; None where there is none."""
    value: Any = step
    for part in key.split("."):
        value = None if value is None else value.get(part)
    return value


def _as_series(found: list[tuple[float, float]]) -> Series:
    table = np.array(found, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _draw_failed(axes: Axes, failed: Mapping[str, Series]) -> None:
    x, y = failed["learn"]
    look = ROLES["before"]
    if len(x):
        axes.vlines(x, 0.0, y, color=look.color, linewidth=0.5 * _marker_size(x), alpha=0.55)
        axes.plot(
            x, y, "o", color=look.color, markersize=_marker_size(x), label="learning epochs",
            clip_on=False,
        )  # fmt: skip
    x, y = failed["simulate"]
    if len(x):
        axes.plot(
            x, y, "D", color=INK, markersize=5, label="simulation phases", clip_on=False, zorder=3
        )
    highest = max(float(y.max(initial=0.0)) for _, y in failed.values())
    axes.set(ylabel="replicas failed", ylim=(0.0, max(1.15 * highest, 0.05)))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.legend()


def _draw_force_mae(axes: Axes, series: Series, budget: float | None) -> None:
    x, y = series
    color = ROLES["after"].color
    axes.plot(x, y, "o-", color=color, markersize=0.8 * _marker_size(x), linewidth=1.6)
    axes.set_ylabel("force MAE (eV/Å)")
    low, high = float(y.min()), max(float(y.max()), budget or 0.0)
    margin = max(0.2 * (high - low), 0.01 * high)
    axes.set_ylim(low - margin, high + margin)
    if budget is not None:
        axes.axhline(budget, color=INK, linewidth=1.1, linestyle=(0, (5, 3)))
        axes.annotate(
            "budget", (1.0, budget), xycoords=("axes fraction", "data"), xytext=(-2, 3),
            textcoords="offset points", ha="right", va="bottom", fontsize=9, color=INK,
        )  # fmt: skip


def _draw_n_eff(axes: Axes, series: Series) -> None:
    x, y = series
    axes.plot(x, y, "o", color=ROLES["after"].color, markersize=_marker_size(x))
    axes.set(ylabel="effective frames", ylim=(0.0, 1.1 * float(y.max()) + 1e-12))


def _draw_norms(axes: Axes, steps: Mapping[str, Series]) -> None:
    for key, role, marker, label in (
        ("observable_gradient_norm", "after", "o", "observable"),
        ("label_gradient_norm", "control", "s", "energies and forces"),
    ):
        x, y = steps[key]
        positive = y > 0  # a logarithm has no place for a vanishing gradient
        axes.plot(
            x[positive], y[positive], marker, color=ROLES[role].color, label=label,
            markersize=_marker_size(x),
        )  # fmt: skip
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    decades = np.log10(high / low)
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(plain)
    # Within one or two decades the powers of ten alone say too little.
    axes.yaxis.set_minor_formatter(
        FuncFormatter(lambda v, _: f"{v:g}" if _leading_digit(v) in (2, 5) else "")
        if decades < 2.5
        else FuncFormatter(lambda value, _: "")
    )
    axes.tick_params(axis="y", which="minor", labelcolor=INK, labelsize=9.5)
    axes.set_ylabel("gradient norm")
    axes.legend()


def _marker_size(x: NDArray[np.float64]) -> float:
    """Size in points at which markers stay apart, between a dot and a good hit."""
    return float(np.clip(200.0 / max(len(x), 1), 2.2, 4.5))


def _leading_digit(value: float) -> int:
    return int(f"{value:e}"[0])


def _draw_cosine(axes: Axes, series: Series) -> None:
    x, y = series
    axes.axhline(0.0, color=INK, linewidth=1.0)
    axes.plot(x, y, "o", color=ROLES["after"].color, markersize=_marker_size(x))
    axes.set(ylabel="cosine", ylim=(-1.08, 1.08))
    axes.yaxis.set_major_locator(MultipleLocator(0.5))


def _draw_signal(axes: Axes, series: Series) -> None:
    x, y = series
    axes.axhline(1.0, color=INK, linewidth=1.1, linestyle=(0, (5, 3)))
    axes.annotate(
        "noise below", (1.0, 1.0), xycoords=("axes fraction", "data"), xytext=(-2, -3),
        textcoords="offset points", ha="right", va="top", fontsize=9, color=INK,
    )  # fmt: skip
    axes.plot(x, y, "o", color=ROLES["after"].color, markersize=_marker_size(x), clip_on=False)
    axes.set(ylabel="signal / noise", ylim=(0.0, 1.15 * max(float(y.max()), 1.5)))


def _draw_autocorrelation(axes: Axes, series: Series) -> None:
    x, y = series
    axes.plot(x, y, "o", color=ROLES["after"].color, markersize=_marker_size(x))
    axes.set(ylabel="frames", ylim=(0.0, 1.15 * max(float(y.max()), 1.0)))
