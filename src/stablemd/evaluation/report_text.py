"""The words and numbers of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stablemd.evaluation.figure_style import ROLES
from stablemd.evaluation.metrics import stable_time_ratio
from stablemd.evaluation.rate_ratio import RatioEstimate

MetricsByRole = Mapping[str, Mapping[str, Any]]

SUBTITLES = {
    "before": "starting model",
    "control": "energies and forces only, same number of steps",
    "after": "StABlE Training",
    "model": "the evaluated model",
}


@dataclass(frozen=True)
class Row:
    """One line of the table: a quantity, its unit, and a cell (value, detail) per role."""

    name: str
    unit: str
    cells: tuple[tuple[str, str], ...]


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, without a bare exponent; "–" for None."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    if "e" not in text:
        return text.replace("-", "−")
    if 1e-4 <= abs(value) < 1e7:
        return f"{value:,.0f}".replace(",", "\u202f") if abs(value) >= 1 else f"{value:.6f}"
    mantissa, exponent = text.split("e")
    superscript = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{superscript}"


def interval(limits: list[float | None] | tuple[float | None, float | None]) -> str:
    """An interval with open limits as the infinity they stand for."""
    lower, upper = (number(x) if x is not None else "∞" for x in limits)
    return f"{lower} to {upper}"


def mean_time(metrics: Mapping[str, Any]) -> str:
    """Mean time to failure in ps, as its lower limit where no replica failed."""
    stable = metrics["stable_time_ps"]
    if stable["mean_time_to_failure"] is None:
        return f">\u00a0{number(stable['mean_time_to_failure_ci95'][0])}"
    return number(stable["mean_time_to_failure"])


def ratio(estimate: RatioEstimate) -> str:
    """A ratio with its 95 % limits in words."""
    if estimate.ratio is None:
        if not estimate.lower:
            return "ratio unknown"
        return f"ratio ≥ {number(estimate.lower)} at 95\u00a0%"
    if estimate.upper is None or estimate.lower is None:
        return f"ratio {number(estimate.ratio)}"
    low, high = number(estimate.lower), number(estimate.upper)
    return f"ratio {number(estimate.ratio)}, 95\u00a0% interval {low} to {high}"


def headline(metrics: MetricsByRole) -> list[str]:
    """The result as sentences: stability first, then accuracy, then the control."""
    if "before" in metrics and "after" in metrics:
        return _comparison(metrics)
    (role,) = [role for role in ("model", "after", "before", "control") if role in metrics][:1]
    stable = metrics[role]["stable_time_ps"]
    sentences = [
        f"{stable['n_failed']} of {stable['n_replicas']} replicas failed within "
        f"{number(stable['length_ps'])}\u00a0ps: a mean time to failure of "
        f"{mean_time(metrics[role])}\u00a0ps."
    ]
    force = metrics[role].get("force_mae_ev_per_angstrom")
    return sentences + ([f"Force MAE {number(force)}\u00a0eV/Å."] if force is not None else [])


def _comparison(metrics: MetricsByRole) -> list[str]:
    before, after = metrics["before"], metrics["after"]
    estimate = stable_time_ratio(after, before)
    times = f"{mean_time(before)}\u00a0ps to {mean_time(after)}\u00a0ps ({ratio(estimate)})"
    if estimate.lower is None or estimate.lower > 1:
        first = f"Mean time to failure rose from {times}."
    elif estimate.upper is not None and estimate.upper < 1:
        first = f"Mean time to failure fell from {times}."
    else:
        first = f"Mean time to failure went from {times}: no significant change."
    sentences = [first]
    forces = [m.get("force_mae_ev_per_angstrom") for m in (before, after)]
    if None not in forces:
        sentences.append(f"Force MAE {number(forces[0])} → {number(forces[1])}\u00a0eV/Å.")
    if "control" in metrics:
        sentences.append(
            "The same number of steps on energies and forces alone: "
            f"{mean_time(metrics['control'])}\u00a0ps."
        )
    return sentences


def table(metrics: MetricsByRole) -> tuple[list[str], list[Row]]:
    """Roles in the order of the columns, and the rows of the table."""
    roles = [role for role in ROLES if role in metrics]
    columns = [metrics[role] for role in roles]
    stable = [column["stable_time_ps"] for column in columns]
    rows = [
        Row(
            "Replicas failed",
            f"within {number(stable[0]['length_ps'])} ps",
            tuple((f"{s['n_failed']} of {s['n_replicas']}", "") for s in stable),
        ),
        Row(
            "Mean time to failure",
            "ps",
            tuple((mean_time(c), _mean_time_detail(c["stable_time_ps"])) for c in columns),
        ),
        Row("Median stable time", "ps", tuple(_median(s) for s in stable)),
    ]
    names = list(dict.fromkeys(n for c in columns for n in c.get("observables") or {}))
    for name in names:
        cells = [(c.get("observables") or {}).get(name) for c in columns]
        rows.append(
            Row(f"MAE of {observable_name(name)}", "", tuple(_plus_minus(c) for c in cells))
        )
    rows += _measured(columns)
    for key, name, unit in (
        ("force_mae_ev_per_angstrom", "Force MAE", "eV/Å"),
        ("energy_mae_ev", "Energy MAE", "eV"),
    ):
        if any(c.get(key) is not None for c in columns):
            rows.append(Row(name, unit, tuple((number(c.get(key)), "") for c in columns)))
    return roles, rows


def _measured(columns: list[Mapping[str, Any]]) -> list[Row]:
    """Rows of the dynamical and thermodynamic observables that are one number."""
    found: dict[str, list[Mapping[str, Any] | None]] = {}
    for index, column in enumerate(columns):
        every = {**(column.get("dynamical") or {}), **(column.get("thermodynamic") or {})}
        for name, content in every.items():
            if not isinstance(content.get("value"), list):
                found.setdefault(name, [None] * len(columns))[index] = content
    rows = []
    for name, contents in found.items():
        given = [c for c in contents if c is not None]
        if not any("unit" in c for c in given):
            continue
        one = next(c for c in given if "unit" in c)
        unit = one["unit"]
        if one.get("reference") is not None:
            unit += f", reference {number(one['reference'])}"
        text = observable_name(name)
        cells = tuple(_plus_minus(c, "value") for c in contents)
        rows.append(Row(text[0].upper() + text[1:], unit, cells))
    return rows


def formula(text: str) -> str:
    """A chemical formula with its counts as subscripts."""
    return text.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def observable_name(key: str) -> str:
    """An observable's key in words; the distance distribution by its symbol."""
    return "h(r)" if key == "distance_distribution" else key.replace("_", " ")


def duration(seconds: float) -> str:
    """A wall time as people say it."""
    if seconds < 60:
        return f"{number(seconds, 2 if seconds < 10 else 3)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _mean_time_detail(stable: Mapping[str, Any]) -> str:
    if stable["mean_time_to_failure"] is None:
        return "no failure; lower 95\u00a0% limit"
    return interval(stable["mean_time_to_failure_ci95"])


def _median(stable: Mapping[str, Any]) -> tuple[str, str]:
    length = number(stable["length_ps"])
    lower, upper = (number(x) if x is not None else f"> {length}" for x in stable["ci95"])
    if stable["median"] is None:
        return f"> {length}", "" if stable["ci95"][0] is None else f"{lower} to {upper}"
    return number(stable["median"]), f"{lower} to {upper}"


def _plus_minus(error: Mapping[str, Any] | None, key: str = "mae") -> tuple[str, str]:
    if error is None or error.get(key) is None:
        return "–", ""
    stderr = error.get("stderr")
    if not stderr:
        return number(error[key]), ""
    # The value as far as its standard error leaves it a meaning.
    decimals = max(0, 1 - math.floor(math.log10(stderr)))
    return f"{error[key]:.{decimals}f}".replace("-", "−"), f"± {stderr:.{decimals}f}"
