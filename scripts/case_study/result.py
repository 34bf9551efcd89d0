"""What a run showed, in sentences that its numbers decide."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from stablemd.evaluation.report_text import mean_time, number, observable_name

Metrics = Mapping[str, Any]
NORMAL_95 = 1.96


def sentences(metrics: Mapping[str, Metrics], comparison: Mapping[str, Any]) -> list[str]:
    """The result in plain words: failures, stable time, control, structure, accuracy.

    Args:
        metrics: of "before", "after" and, if there is one, "control".
        comparison: ``comparison`` of metrics.json.
    """
    before, after, control = (metrics.get(role) for role in ("before", "after", "control"))
    assert before is not None and after is not None
    ratios = comparison["mean_time_to_failure_ratio"]
    result = [
        f"{_failures('The starting model', before)}, the model after StABlE Training in "
        f"{_count(after)}.",
        f"{verdict('The mean time to failure', ratios['after_over_before'])} It is "
        f"{mean_time(before)} ps before and {mean_time(after)} ps after.",
    ]
    if control is not None:
        result.append(
            "The control, which got the same number of optimizer steps on energies and forces "
            f"alone, failed in {_count(control)}, with a mean time of {mean_time(control)} ps. "
            + verdict(
                "Compared with the control, the mean time to failure after StABlE Training",
                ratios["after_over_control"],
            )
        )
    for name in after.get("observables") or {}:
        result.append(_observable(name, before, after))
    force = comparison["force_mae_ratio"]["after_over_before"]
    if force is not None:
        old, new = (m["force_mae_ev_per_angstrom"] for m in (before, after))
        result.append(
            f"The force MAE on test structures went from {number(old)} to {number(new)} eV/Å, "
            f"{number(force)} times what it was."
        )
    return result


def verdict(what: str, estimate: Mapping[str, Any]) -> str:
    """One sentence about a ratio of mean times, which claims a change only with its interval.

    Args:
        what: subject of the sentence.
        estimate: as ``RatioEstimate.to_json`` gives it.
    """
    ratio, lower, upper = (estimate[key] for key in ("ratio", "lower", "upper"))
    limits = f"95 % interval {_limit(lower)} to {_limit(upper)}"
    if lower is None:
        return f"{what} rose beyond measure: every replica on the other side failed at once."
    if lower > 1:
        if ratio is None:
            return f"{what} is at least {number(lower)} times as long (95 % limit; no failure)."
        return f"{what} is {number(ratio)} times as long ({limits})."
    if upper is not None and upper < 1:
        return f"{what} fell to {number(ratio)} of what it was ({limits})."
    if ratio is None:
        return f"{what} shows no significant change (95 % limit of the ratio: {number(lower)})."
    return f"{what} shows no significant change (ratio {number(ratio)}, {limits})."


def _limit(value: float | None) -> str:
    return "∞" if value is None else number(value)


def _count(metrics: Metrics) -> str:
    stable = metrics["stable_time_ps"]
    return f"{stable['n_failed']} of {stable['n_replicas']}"


def _failures(subject: str, metrics: Metrics) -> str:
    length = number(metrics["stable_time_ps"]["length_ps"])
    return f"{subject} failed in {_count(metrics)} simulations of up to {length} ps"


def _observable(name: str, before: Metrics, after: Metrics) -> str:
    what = f"The MAE of {observable_name(name)}"
    old, new = ((m.get("observables") or {}).get(name) for m in (before, after))
    if old is None or new is None or old["mae"] is None or new["mae"] is None:
        return f"{what} is unknown for a model without enough stable frames."
    change = new["mae"] - old["mae"]
    error = math.hypot(old["stderr"] or 0.0, new["stderr"] or 0.0)
    verb = "fell" if change < 0 else "rose"
    if abs(change) <= NORMAL_95 * error:
        what, verb = f"{what} shows no significant change:", "it went"
    return (
        f"{what} {verb} from {number(old['mae'])} to {number(new['mae'])}, by "
        f"{number(abs(change), 2)} ± {number(NORMAL_95 * error, 2)} (95 %)."
    )
