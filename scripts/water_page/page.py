"""The page on water, from its numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from case_study.page import percent, table
from case_study.result import verdict
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stablemd.evaluation import report_text
from stablemd.evaluation.report_text import interval, mean_time, number

TEMPLATE = Path(__file__).with_name("page.md.j2")


def render(numbers: Mapping[str, Any]) -> str:
    """The page as Markdown, from the content of the JSON beside it."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "percent": percent,
        "duration": report_text.duration,
        "models": models_table,
        "conditions": conditions_table,
        "cycles": cycles_table,
        "reference": reference_table,
    }
    page = environment.get_template(TEMPLATE.name).render(**numbers, verdict=verdict)
    return page.rstrip() + "\n"


def models_table(
    rows: Sequence[Mapping[str, Any]], dynamical: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Stable times, RDF errors, D and force errors of models, one line each.

    Args:
        rows: the models.
        dynamical: settings of every D of the evaluation; without them there are no RDFs and
            no D, for want of a reference.
    """
    head = ["model", "failed", "mean time to failure (ps)"]
    if dynamical:
        head += ["RDF MAE O–O (Å)", "O–H (Å)", "H–H (Å)"]
        head += ["D {:g}–{:g} ps (Å²/ps)".format(*choice["fit_ps"]) for choice in dynamical]
    head.append("force MAE (eV/Å)")
    lines = []
    for row in rows:
        stable = row["stable_time_ps"]
        limits = stable["mean_time_to_failure_ci95"]
        mean = mean_time(row)
        if stable["mean_time_to_failure"] is not None:
            mean += f" ({interval(limits)})"
        line = [row["model"], f"{stable['n_failed']} of {stable['n_replicas']}", mean]
        if dynamical:
            line += [_with_error(error["mae"], error["stderr"]) for error in row["rdf"]]
            line += [_with_error(d["value"], d["stderr"]) for d in row["diffusion"]]
        lines.append([*line, number(row["force_mae_ev_per_angstrom"])])
    return table(head, lines)


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "–"
    return number(value) if error is None else f"{number(value)} ± {number(error, 2)}"


def conditions_table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """The conditions of all runs side by side."""
    names: dict[str, None] = {}
    values: dict[str, dict[str, str]] = {}
    for run, numbers in runs.items():
        values[run] = {row["name"]: row["here"] for row in numbers["conditions"]}
        names |= dict.fromkeys(values[run])
    lines = [[name, *(values[run].get(name, "–") for run in runs)] for name in names]
    return table(["", *runs], lines)


def cycles_table(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """What every training did, a line per simulation phase."""
    head = ["run", "cycle", "steps", "failed", "in replica time (ps)", "force MAE (eV/Å)", ""]
    lines = []
    for run, numbers in runs.items():
        for c in numbers["training"]["cycles"]:
            note = "**chosen**" if c["is_chosen"] else "" if c["within_budget"] else "over budget"
            lines.append(
                [
                    run,
                    str(c["cycle"]) if c["cycle"] else "start",
                    str(c["steps_in_cycle"] or "–"),
                    f"{c['n_failed']} of {c['n_replicas'] * c['n_phases']}",
                    number(c["time_ps"]),
                    number(c["force_mae_ev_per_angstrom"]),
                    note,
                ]
            )
    return table(head, lines)


def reference_table(check: Mapping[str, Any]) -> str:
    """The reference frames by stablemd's observables."""
    head = ["pair", "MAE (Å)", "bins within two standard errors", "median deviation in errors"]
    lines = [
        [
            pair.replace("-", "–"),
            number(found["mae"]),
            percent(found["within_two_errors"]),
            number(found["median_deviation_in_errors"], 2),
        ]
        for pair, found in check["rdf"].items()
    ]
    return table(head, lines)
