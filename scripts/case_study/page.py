"""The page of a case study, from its numbers alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stablemd.evaluation import report_text
from stablemd.evaluation.figure_style import ROLES
from stablemd.evaluation.report_text import number

TEMPLATE = Path(__file__).with_name("page.md.j2")

FIGURES = {
    "comparison": "Mean time to failure, error of the observable and force error of the models",
    "survival": "Share of replicas that are still stable, over time",
    "hr": "Distribution of interatomic distances against its reference",
    "training_failed": "Failed replicas in the course of training",
    "training_force_mae": "Force error on validation structures in the course of training",
}
"""Figures that a page may have, with the text that stands for them."""


def render(numbers: Mapping[str, Any]) -> str:
    """The page as Markdown.

    Args:
        numbers: of ``gather``, or the JSON file beside the page; ``figures`` in it are file
            names by figure, those of ``FIGURES`` that there are.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "duration": report_text.duration,
        "formula": report_text.formula,
    }
    page = environment.get_template(TEMPLATE.name).render(
        **numbers,
        alt=FIGURES,
        models=_models(numbers["evaluation"]),
        roles=numbers["evaluation"],
        conditions_table=_conditions(numbers["conditions"]),
        cycles_table=_cycles(numbers["training"]["cycles"]),
        costs_table=_costs(numbers["costs"]),
        limits=", ".join(_time_limits(numbers["config"])),
        broken="; ".join(_broken(role, n) for role, n in numbers["what_broke"].items()),
        commit=_commit(numbers["versions"].get("git_commit")),
    )
    return page.rstrip() + "\n"


def percent(share: float | None) -> str:
    """A share in per cent; "–" for None."""
    return "–" if share is None else f"{number(100 * share, 2 if share < 0.995 else 3)} %"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[str(cell).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _models(evaluation: Mapping[str, Any]) -> str:
    """The report's own table of numbers."""
    roles, rows = report_text.table(evaluation)
    head = ["", *(f"**{ROLES[role].label}**" for role in roles)]
    lines = []
    for row in rows:
        unit = f" ({row.unit})" if row.unit and not row.unit.startswith("within") else ""
        within = f" {row.unit}" if row.unit.startswith("within") else unit
        cells = [_cell(value, detail) for value, detail in row.cells]
        lines.append([row.name + within, *cells])
    return table(head, lines)


def _cell(value: str, detail: str) -> str:
    if not detail:
        return value
    return f"{value} {detail}" if detail.startswith("±") else f"{value} ({detail})"


def _conditions(rows: Sequence[Mapping[str, Any]]) -> str:
    if not any(row["paper"] for row in rows):
        return table(["", "here"], [(row["name"], row["here"]) for row in rows])
    return table(
        ["", "here", "paper"], [(row["name"], row["here"], row["paper"] or "–") for row in rows]
    )


def _cycles(cycles: Sequence[Mapping[str, Any]]) -> str:
    head = [
        "cycle", "learning epochs", "steps", "failed in epochs, first → last",
        "then failed", "in replica time (ps)", "force MAE (eV/Å)", "",
    ]  # fmt: skip
    lines = []
    for c in cycles:
        first, last = c["failed_first_epoch"], c["failed_last_epoch"]
        note = "**chosen**" if c["is_chosen"] else "" if c["within_budget"] else "over budget"
        lines.append(
            [
                f"{c['cycle']}" if c["cycle"] else "start",
                f"{c['epochs'] or '–'}",
                f"{c['steps_in_cycle'] or '–'}",
                f"{percent(first)} → {percent(last)}" if c["epochs"] else "–",
                f"{c['n_failed']} of {c['n_replicas']}",
                number(c["time_ps"]),
                number(c["force_mae_ev_per_angstrom"]),
                note,
            ]
        )
    return table(head, lines)


def _costs(costs: Mapping[str, Any]) -> str:
    rows = [
        (
            part["part"],
            report_text.duration(part["wall_s"]),
            "–" if part["force_evaluations"] is None else f"{part['force_evaluations']:,}",
        )
        for part in costs["parts"]
    ]
    total = ("**together**", f"**{report_text.duration(costs['total_wall_s'])}**", "")
    return table(["part", "wall time", "force evaluations"], [*rows, total])


def _time_limits(config: Mapping[str, Any]) -> list[str]:
    found = {f"{part}.max_minutes": config[part]["max_minutes"] for part in ("pretrain", "stable")}
    return [f"`{key}` = {value:g}" for key, value in found.items() if value is not None]


def _broken(role: str, counts: Mapping[str, int]) -> str:
    words = ", ".join(f"{bond} ({count})" for bond, count in counts.items())
    return f"{role} {words or 'nothing'}"


def _commit(commit: str | None) -> str:
    if commit is None:
        return ""
    name, _, dirty = commit.partition("-")
    return name[:10] + (" with changes that were not committed" if dirty else "")
