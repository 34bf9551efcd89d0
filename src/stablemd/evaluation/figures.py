"""The figures of an evaluation: survival, observables, training history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from stablemd.errors import DataError
from stablemd.evaluation.figure_style import INK, MUTED, ROLES, new_figure, style
from stablemd.evaluation.survival import StableTime

WIDTH = 5.4
"""Width of every figure in inches: two stand side by side, one fits a phone."""


@dataclass(frozen=True)
class ObservableCurves:
    """An observable as sampled with several potentials, beside its reference.

    Attributes:
        name: key of the observable in the metrics.
        axis: what the components stand for, (D,).
        axis_label: with unit.
        value_label: with unit.
        reference: average over the reference data, (D,).
        curves: by role ("before", "after", "control"): average and its
            standard error, both (D,).
        reference_stderr: standard error of ``reference``, (D,), if known.
    """

    name: str
    axis: ArrayLike
    axis_label: str
    value_label: str
    reference: ArrayLike
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]] = field(default_factory=dict)
    reference_stderr: ArrayLike | None = None

    def __post_init__(self) -> None:
        for role in self.curves:
            check_role(role)
        arrays = {"reference": self.reference, "reference_stderr": self.reference_stderr}
        for role, (mean, stderr) in self.curves.items():
            arrays |= {f"{role} mean": mean, f"{role} stderr": stderr}
        shape = np.shape(self.axis)
        for what, value in arrays.items():
            if value is not None and (np.shape(value) != shape or len(shape) != 1):
                raise DataError(
                    f"{self.name}: {what} has shape {np.shape(value)}, the axis {shape}; "
                    "give one number per component of the axis"
                )


def check_role(role: str) -> None:
    """Raise a DataError unless the role has a style."""
    if role not in ROLES:
        raise DataError(f"there is no role {role!r} in a report; use one of {list(ROLES)}")


def survival_figure(stable_times: Mapping[str, StableTime]) -> Figure:
    """Kaplan–Meier curves by role, with bands and the replicas at risk below the axis."""
    for role in stable_times:
        check_role(role)
    if not stable_times:
        raise DataError("a survival figure needs the stable times of at least one potential")
    rows = [role for role in ROLES if role in stable_times]
    length = max(s.length_ps for s in stable_times.values())
    with style():
        height = 2.75 + 0.2 * len(rows) + 0.5
        figure = new_figure(WIDTH, height)
        bottom = (0.2 * len(rows) + 0.85) / height
        axes = figure.add_axes((0.135, bottom, 0.835, 1.0 - bottom - 0.12 / height))
        for role in rows:
            look, curve = ROLES[role], stable_times[role].curve
            axes.fill_between(
                curve.times, curve.lower, curve.upper, step="post", color=look.color, alpha=0.13,
                linewidth=0,
            )  # fmt: skip
            axes.step(
                curve.times, curve.survival, where="post", color=look.color, label=look.label,
                linestyle=look.dash, linewidth=look.width,
            )  # fmt: skip
        axes.set(xlim=(0, length), ylim=(0, 1.02), xlabel="time (ps)", ylabel="replicas stable")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_locator(MultipleLocator(0.25))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(loc="lower left")
        _write_at_risk(axes, {role: stable_times[role] for role in rows}, length)
    return figure


def observable_figure(data: ObservableCurves) -> Figure:
    """An observable against its reference, and the difference, with ± 2 standard errors."""
    axis = np.asarray(data.axis, dtype=np.float64)
    reference = np.asarray(data.reference, dtype=np.float64)
    with style():
        figure = new_figure(WIDTH, 4.0)
        top = figure.add_axes((0.135, 0.46, 0.835, 0.51))
        difference = figure.add_axes((0.135, 0.125, 0.835, 0.27), sharex=top)
        top.plot(axis, reference, color=INK, linewidth=1.3, label="reference", zorder=3)
        if data.reference_stderr is not None:
            error = 2.0 * np.asarray(data.reference_stderr, dtype=np.float64)
            difference.fill_between(axis, -error, error, color=INK, alpha=0.10, linewidth=0)
        difference.axhline(0.0, color=INK, linewidth=1.0)
        for role in (role for role in ROLES if role in data.curves):
            mean, stderr = (np.asarray(a, dtype=np.float64) for a in data.curves[role])
            _line_with_band(top, axis, mean, stderr, role)
            _line_with_band(difference, axis, mean - reference, stderr, role)
        shown = np.flatnonzero(np.abs(reference) > 1e-3 * np.abs(reference).max(initial=0.0))
        if len(shown):
            step = (axis[-1] - axis[0]) / max(len(axis) - 1, 1)
            top.set_xlim(max(axis[shown[0]] - 8 * step, axis[0]), axis[shown[-1]] + 8 * step)
        top.tick_params(labelbottom=False)
        top.set_ylabel(data.value_label)
        top.set_ylim(bottom=min(0.0, float(reference.min())))
        difference.set(xlabel=data.axis_label, ylabel="difference")
        difference.yaxis.set_major_locator(MaxNLocator(4))
        top.legend(loc="upper right")
        figure.align_ylabels([top, difference])
    return figure


def training_figures(
    history: Sequence[Mapping[str, Any]], force_mae_budget: float | None = None
) -> dict[str, Figure]:
    """The course of the training, one figure per quantity that the log holds.

    Args:
        history: records of the log in order.  Read where present:
            ``failed_fraction``, ``force_mae_ev_per_angstrom``, ``n_eff``,
            ``grad_norm_observable``, ``grad_norm_label``, ``grad_cosine``.
        force_mae_budget: largest force MAE that was allowed, eV/Å.

    Returns:
        Figures by name: "failed_fraction", "force_mae", "n_eff",
        "gradient_norms", "gradient_cosine"; a name is missing where no record
        holds its quantity.
    """
    panels: dict[str, tuple[str, Callable[[Axes], None]]] = {
        "failed_fraction": ("failed_fraction", lambda a: _draw_failed(a, history)),
        "force_mae": (
            "force_mae_ev_per_angstrom",
            lambda a: _draw_force_mae(a, history, force_mae_budget),
        ),
        "n_eff": ("n_eff", lambda a: _draw_n_eff(a, history)),
        "gradient_norms": ("grad_norm_observable", lambda a: _draw_gradients(a, history)),
        "gradient_cosine": ("grad_cosine", lambda a: _draw_cosine(a, history)),
    }
    figures = {}
    for name, (key, draw) in panels.items():
        if len(_series(history, key)[0]):
            with style():
                figure = new_figure(WIDTH, 2.35)
                axes = figure.add_axes((0.15, 0.215, 0.82, 0.73))
                draw(axes)
                axes.set_xlim(0.5, max(len(history), 1) + 0.5)
                axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
                axes.set_xlabel("epoch")
            figures[name] = figure
    return figures


def _write_at_risk(axes: Axes, stable_times: Mapping[str, StableTime], length: float) -> None:
    """A row of numbers per role below the axis, at the axis' own ticks."""
    ticks = [t for t in axes.get_xticks() if -1e-9 <= t <= length * (1 + 1e-9)]
    inch = 1.0 / (axes.get_position().height * axes.get_figure(root=True).get_figheight())  # type: ignore[union-attr]
    transform = axes.get_xaxis_transform()
    axes.text(
        -0.115, -0.52 * inch, "at risk", transform=axes.transAxes, va="center", ha="left",
        fontsize=8.5, color=MUTED,
    )  # fmt: skip
    for row, (role, stable) in enumerate(stable_times.items()):
        y = -(0.70 + 0.2 * row) * inch
        axes.text(
            -0.115, y, ROLES[role].label, transform=axes.transAxes, va="center", ha="left",
            fontsize=9, color=ROLES[role].color,
        )  # fmt: skip
        for index, (tick, count) in enumerate(zip(ticks, stable.at_risk(ticks), strict=True)):
            at_left = index == 0
            axes.text(
                tick, y, f"{count}", transform=transform, va="center",
                ha="left" if at_left else "right" if tick > 0.98 * length else "center",
                fontsize=9, color=INK,
            )  # fmt: skip


def _line_with_band(
    axes: Axes, x: NDArray[np.float64], mean: NDArray[np.float64],
    stderr: NDArray[np.float64], role: str,
) -> None:  # fmt: skip
    look = ROLES[role]
    axes.fill_between(
        x, mean - 2 * stderr, mean + 2 * stderr, color=look.color, alpha=0.18, linewidth=0
    )
    axes.plot(
        x, mean, color=look.color, linestyle=look.dash, linewidth=0.8 * look.width,
        label=look.label,
    )  # fmt: skip


def _series(
    history: Sequence[Mapping[str, Any]], key: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Record numbers (from 1) and values of the records that hold a number under ``key``."""
    found = [(i + 1, r[key]) for i, r in enumerate(history) if r.get(key) is not None]
    x, y = ([pair[k] for pair in found] for k in (0, 1))
    return np.array(x, dtype=np.int64), np.array(y, dtype=np.float64)


def _draw_failed(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    x, y = _series(history, "failed_fraction")
    axes.vlines(x, 0.0, y, color=ROLES["before"].color, linewidth=2.2, alpha=0.55)
    axes.plot(x, y, "o", color=ROLES["before"].color, markersize=4.5)
    axes.set(ylabel="replicas failed", ylim=(0.0, max(1.15 * float(y.max()), 0.05)))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _draw_force_mae(axes: Axes, history: Sequence[Mapping[str, Any]], budget: float | None) -> None:
    x, y = _series(history, "force_mae_ev_per_angstrom")
    axes.plot(x, y, "o-", color=ROLES["after"].color, markersize=4, linewidth=1.6)
    axes.set_ylabel("force MAE (eV/Å)")
    low, high = float(y.min()), max(float(y.max()), budget or 0.0)
    axes.set_ylim(low - 0.25 * (high - low) - 1e-4, high + 0.25 * (high - low) + 1e-4)
    if budget is not None:
        axes.axhline(budget, color=INK, linewidth=1.1, linestyle=(0, (5, 3)))
        axes.annotate(
            "budget", (1.0, budget), xycoords=("axes fraction", "data"), xytext=(-2, 3),
            textcoords="offset points", ha="right", va="bottom", fontsize=9, color=INK,
        )  # fmt: skip


def _draw_n_eff(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    x, y = _series(history, "n_eff")
    axes.plot(x, y, "o-", color=ROLES["after"].color, markersize=4, linewidth=1.6)
    axes.set(ylabel="effective frames", ylim=(0.0, 1.1 * float(y.max()) + 1e-12))


def _draw_gradients(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    for key, role, label in (
        ("grad_norm_observable", "after", "observable"),
        ("grad_norm_label", "control", "energies and forces"),
    ):
        x, y = _series(history, key)
        if len(x):
            axes.semilogy(
                x, y, color=ROLES[role].color, linestyle=ROLES[role].dash, marker="o",
                markersize=4, linewidth=1.6, label=label,
            )  # fmt: skip
    axes.set_ylabel("gradient norm")
    axes.legend(loc="best")


def _draw_cosine(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    x, y = _series(history, "grad_cosine")
    axes.axhline(0.0, color=INK, linewidth=1.0)
    axes.plot(x, y, "o", color=ROLES["after"].color, markersize=4)
    axes.vlines(x, 0.0, y, color=ROLES["after"].color, linewidth=1.6, alpha=0.55)
    axes.set(ylabel="cosine of the gradients", ylim=(-1.05, 1.05))
    axes.yaxis.set_major_locator(MultipleLocator(0.5))
