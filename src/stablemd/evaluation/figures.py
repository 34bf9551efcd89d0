"""The figures of an evaluation: survival curves, and observables against their references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from stablemd.errors import DataError
from stablemd.evaluation.figure_style import INK, MUTED, ROLES, WIDTH, check_role, new_figure, style
from stablemd.evaluation.survival import StableTime


@dataclass(frozen=True)
class ObservableCurves:
    """An observable as sampled with several potentials, beside its reference.

    Attributes:
        name: key of the observable in the metrics.
        axis: what the components stand for, (D,).
        axis_label: with unit.
        value_label: with unit.
        reference: average over the reference data, (D,); None where there is none.
        curves: by role ("before", "after", "control"): average and its
            standard error, both (D,).
        reference_stderr: standard error of ``reference``, (D,), if known.
    """

    name: str
    axis: ArrayLike
    axis_label: str
    value_label: str
    reference: ArrayLike | None
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


def survival_figure(stable_times: Mapping[str, StableTime]) -> Figure:
    """Kaplan–Meier curves by role, with bands and the replicas at risk below the axis."""
    for role in stable_times:
        check_role(role)
    if not stable_times:
        raise DataError("a survival figure needs the stable times of at least one potential")
    rows = [role for role in ROLES if role in stable_times]
    length = max(s.length_ps for s in stable_times.values())
    with style():
        figure = new_figure(WIDTH, height := 4.0)
        bottom = (0.2 * len(rows) + 0.65) / height
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
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axes.legend(loc="best")
        _write_at_risk(axes, {role: stable_times[role] for role in rows}, length)
    return figure


def observable_figure(data: ObservableCurves) -> Figure:
    """An observable with ± 2 standard errors.

    A curve stands against its reference, with the difference below; without a
    reference alone; a single number is a point per role beside the reference.
    """
    axis = np.asarray(data.axis, dtype=np.float64)
    if len(axis) == 1:
        return _number_figure(data)
    if data.reference is None:
        return _curve_figure(data, axis)
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


def _curve_figure(data: ObservableCurves, axis: NDArray[np.float64]) -> Figure:
    """Curves without a reference."""
    with style():
        figure = new_figure(WIDTH, 3.2)
        axes = figure.add_axes((0.135, 0.155, 0.835, 0.81))
        for role in (role for role in ROLES if role in data.curves):
            mean, stderr = (np.asarray(a, dtype=np.float64) for a in data.curves[role])
            _line_with_band(axes, axis, mean, stderr, role)
        axes.set(xlabel=data.axis_label, ylabel=data.value_label)
        axes.set_xlim(axis[0], axis[-1])
        axes.legend(loc="best")
    return figure


def _number_figure(data: ObservableCurves) -> Figure:
    """Single numbers, one row per role."""
    rows = [role for role in ROLES if role in data.curves]
    with style():
        figure = new_figure(WIDTH, height := 0.95 + 0.3 * max(len(rows), 1))
        axes = figure.add_axes((0.135, 0.6 / height, 0.835, 1.0 - 0.72 / height))
        if data.reference is not None:
            (value,) = np.asarray(data.reference, dtype=np.float64)
            axes.axvline(value, color=INK, linewidth=1.3, label="reference")
            if data.reference_stderr is not None:
                (error,) = 2.0 * np.asarray(data.reference_stderr, dtype=np.float64)
                axes.axvspan(value - error, value + error, color=INK, alpha=0.10, linewidth=0)
        for row, role in enumerate(rows):
            (mean,), (stderr,) = (np.asarray(a, dtype=np.float64) for a in data.curves[role])
            axes.errorbar(
                mean, -row, xerr=2.0 * stderr if np.isfinite(stderr) else None, fmt="o",
                color=ROLES[role].color, capsize=3, label=ROLES[role].label,
            )  # fmt: skip
        axes.set_yticks([-row for row in range(len(rows))], [ROLES[role].label for role in rows])
        axes.set_ylim(0.6 - max(len(rows), 1), 0.6)
        axes.set_xlabel(data.value_label)
    return figure


def _write_at_risk(axes: Axes, stable_times: Mapping[str, StableTime], length: float) -> None:
    """A row of numbers per role below the axis, at the axis' own ticks."""
    ticks = [t for t in axes.get_xticks() if -1e-9 <= t <= length * (1 + 1e-9)]
    inch = 1.0 / (axes.get_position().height * axes.get_figure(root=True).get_figheight())  # type: ignore[union-attr]
    transform = axes.get_xaxis_transform()
    axes.text(
        -0.158, -0.52 * inch, "at risk", transform=axes.transAxes, va="center", ha="left",
        fontsize=8.5, color=MUTED,
    )  # fmt: skip
    for row, (role, stable) in enumerate(stable_times.items()):
        y = -(0.70 + 0.2 * row) * inch
        axes.text(
            -0.158, y, ROLES[role].label, transform=axes.transAxes, va="center", ha="left",
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
