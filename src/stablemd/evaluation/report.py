"""The report of an evaluation or of a whole training: one HTML file that needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stablemd.atomic import write_atomic
from stablemd.errors import DataError
from stablemd.evaluation import report_text
from stablemd.evaluation.figure_style import ROLES, check_role, to_inline_svg
from stablemd.evaluation.figures import ObservableCurves, observable_figure, survival_figure
from stablemd.evaluation.movie import Movie
from stablemd.evaluation.survival import StableTime, stable_time
from stablemd.evaluation.training_figures import Record, training_figures
from stablemd.strict_json import dumps, plain

_TEMPLATES = Path(__file__).parent / "templates"

_TRAINING_TEXTS = {
    "failed_fraction": (
        "Failed replicas",
        "Diamonds: simulation phases, whose replicas start afresh; they measure the model. Dots: "
        "learning epochs, which are shorter and start close to failures on purpose.",
    ),
    "force_mae": (
        "Force error on validation structures",
        "After every phase and epoch. Steps that would leave the budget are shrunk or rejected.",
    ),
    "n_eff": (
        "Effective sample size",
        "Before every optimizer step: the first step of an epoch has all of its frames, the "
        "reweighted ones after it have less.",
    ),
    "gradient_norms": ("Gradient norms", "Of every optimizer step, before clipping."),
    "gradient_cosine": (
        "Agreement of the two gradients",
        "Of every optimizer step: below 0 the observables and the labels pull against each other.",
    ),
    "signal_to_noise": (
        "Signal to noise of the gradient",
        "Of the observables' gradient, from its scatter between replicas, in the steps that were "
        "looked into. Below 1 the gradient is noise.",
    ),
    "autocorrelation_time": (
        "Autocorrelation time of the frames",
        "In frames, of what the gradient sums; 0.5 where frames are independent, and more where "
        "they repeat each other.",
    ),
}
"""Title and caption by figure; dotted lines in all of them are simulation phases."""


@dataclass(frozen=True)
class ReportInput:
    """Everything that a report shows; only the title, formula and metrics are needed.

    Attributes:
        title: heading of the page.
        formula: chemical formula of the system.
        metrics: by role ("before", "control", "after", or "model" for an
            evaluation that compares nothing): dictionaries as in metrics.json.
        stable_times: by role, for the survival curves.
        observables: sampled averages beside their references.
        history: records of the training log, see ``training_figures``.
        force_mae_budget: largest force MAE that training allowed, eV/Å.
        movies: groups that share one clock, e.g. one replica before and after.
        config_text: the resolved configuration.
        versions: software and hardware by name.
        wall_s: wall time by part, s.
        description: a sentence or two about what was done, under the headline.
    """

    title: str
    formula: str
    metrics: Mapping[str, Mapping[str, Any]]
    stable_times: Mapping[str, StableTime] = field(default_factory=dict)
    observables: Sequence[ObservableCurves] = ()
    history: Sequence[Record] = ()
    force_mae_budget: float | None = None
    movies: Sequence[Sequence[Movie]] = ()
    config_text: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    wall_s: Mapping[str, float] = field(default_factory=dict)
    description: str = ""

    def __post_init__(self) -> None:
        if not self.metrics:
            raise DataError("a report needs the metrics of at least one potential")
        for role, metrics in self.metrics.items():
            check_role(role)
            if "stable_time_ps" not in metrics:
                raise DataError(
                    f"the metrics of {role!r} have no stable_time_ps (keys: {sorted(metrics)}); "
                    "give the dictionary of an evaluation's metrics.json"
                )

    def to_json(self) -> dict[str, Any]:
        """All content as plain values, from which ``from_json`` gives the same report."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        content["stable_times"] = {
            role: {"times_ps": s.times_ps, "failed": s.failed, "length_ps": s.length_ps}
            for role, s in self.stable_times.items()
        }
        content["movies"] = [[movie.to_json() for movie in group] for group in self.movies]
        result: dict[str, Any] = plain(content)
        return result

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ReportInput:
        """The report's content from a ``to_json`` dictionary."""
        content = dict(data)
        content["stable_times"] = {
            role: stable_time(s["times_ps"], s["failed"], s["length_ps"])
            for role, s in content["stable_times"].items()
        }
        content["observables"] = [_observable(o) for o in content["observables"]]
        content["movies"] = [[Movie.from_json(m) for m in group] for group in content["movies"]]
        return cls(**content)


def write_report(path: str | Path, report_input: ReportInput) -> Path:
    """Write the report as one HTML file without any outside resource; returns its path."""
    return write_atomic(path, render_report(report_input))


def render_report(report_input: ReportInput) -> str:
    """The report as HTML text."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    roles, rows = report_text.table(report_input.metrics)
    wall = {k: float(v) for k, v in report_input.wall_s.items() if v}
    return environment.get_template("report.html.j2").render(
        r=report_input,
        css=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        viewer_js=Markup((_TEMPLATES / "viewer.js").read_text(encoding="utf-8")),
        kicker=_kicker(report_input),
        headline=report_text.headline(report_input.metrics),
        roles=[(role, ROLES[role].label, report_text.SUBTITLES[role]) for role in roles],
        rows=rows,
        survival=_survival(report_input),
        observables=_observables(report_input),
        training=_training(report_input),
        warnings=_warnings(report_input.history),
        side_by_side=any(len(group) > 1 for group in report_input.movies),
        movie_groups=[_script_json([m.to_json() for m in g]) for g in report_input.movies if g],
        observable_names=[
            report_text.observable_name(name)
            for name in dict.fromkeys(
                n for m in report_input.metrics.values() for n in m.get("observables") or {}
            )
        ],
        wall=[(k, report_text.duration(v), v / max(wall.values())) for k, v in wall.items()],
        wall_total=report_text.duration(sum(wall.values())) if wall else "",
        versions=[
            (k, _version(v)) for k, v in report_input.versions.items() if v not in (None, [])
        ],
    )


def _kicker(report_input: ReportInput) -> str:
    """The title with the formula in it, or after it, with subscripts."""
    title, formula = report_input.title, report_input.formula
    if formula not in title:
        title = f"{title} · {formula}"
    return title.replace(formula, report_text.formula(formula))


def _survival(report_input: ReportInput) -> Markup | None:
    if not report_input.stable_times:
        return None
    label = "Survival curves: " + "; ".join(
        f"{role}, {s.n_failed} of {s.n_replicas} failed"
        for role, s in report_input.stable_times.items()
    )
    return _svg(survival_figure(report_input.stable_times), "survival", label)


def _observables(report_input: ReportInput) -> list[tuple[str, str, Markup]]:
    """Title, caption and figure of every observable that has something to show."""
    result = []
    for index, data in enumerate(report_input.observables):
        name = report_text.observable_name(data.name)
        caption = "Average over the stable part of the simulations"
        if data.reference is None:
            if not data.curves:
                continue
            title = name
        else:
            title = f"{name} against its reference"
            caption += ", and its difference from the reference" * (np.size(data.axis) > 1)
        caption += ". Bands and bars are ± 2 standard errors."
        figure = observable_figure(data)
        result.append((title, caption, _svg(figure, f"observable{index}", title)))
    return result


def _training(report_input: ReportInput) -> list[tuple[str, str, Markup]]:
    figures = training_figures(report_input.history, report_input.force_mae_budget)
    result = []
    for name, figure in figures.items():
        title, caption = _TRAINING_TEXTS[name]
        result.append((title, caption, _svg(figure, name, title)))
    return result


def _warnings(history: Sequence[Record]) -> list[tuple[str, int, str]]:
    """What training warned of: the kind, how often, and the last wording."""
    found: dict[str, list[str]] = {}
    for record in history:
        for step in record.get("steps") or []:
            for text in step.get("warnings") or []:
                found.setdefault(re.sub(r"[\d.]+", "#", text.split(":")[0]), []).append(text)
    return [(kind, len(texts), texts[-1]) for kind, texts in found.items()]


def _svg(figure: Any, prefix: str, label: str) -> Markup:
    return Markup(to_inline_svg(figure, prefix, label))


def _script_json(value: Any) -> Markup:
    """JSON that can't end the script element it stands in."""
    return Markup(dumps(value).replace("<", "\\u003c"))


def _version(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def _observable(data: Mapping[str, Any]) -> ObservableCurves:
    content = dict(data)
    content["curves"] = {
        role: (np.asarray(mean, dtype=float), np.asarray(stderr, dtype=float))
        for role, (mean, stderr) in content["curves"].items()
    }
    return ObservableCurves(**content)
