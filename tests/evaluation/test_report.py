from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from stablemd.errors import DataError
from stablemd.evaluation.metrics import EvaluationMetrics, compare
from stablemd.evaluation.report import ReportInput, render_report, write_report
from stablemd.evaluation.report_text import duration, headline, number, table
from stablemd.evaluation.survival import stable_time

VOID = {"meta", "link", "br", "hr", "img", "input", "col"}


class Balance(HTMLParser):
    """Collects ids, texts by element and what stays open or closes out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.errors: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.errors.append(f"</{tag}> closes {self.open[-3:]}")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.text.setdefault(tag, []).append(data)


def parsed(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    parser.close()
    return parser


def bare(full: ReportInput, **parts: object) -> ReportInput:
    """A plain evaluation with its metrics only, and the parts asked for."""
    one = {"model": full.metrics["before"]}
    return replace(ReportInput("Evaluation", full.formula, one), **parts)  # type: ignore[arg-type]


def variants(full: ReportInput) -> dict[str, ReportInput]:
    """Everything, nothing optional, and each optional part alone."""
    pair = {role: full.metrics[role] for role in ("before", "after")}
    optional = (
        "stable_times", "observables", "history", "movies", "config_text", "versions", "wall_s",
    )  # fmt: skip
    alone = {name: bare(full, **{name: getattr(full, name)}) for name in optional}
    return {"full": full, "bare": bare(full), "no control": bare(full, metrics=pair), **alone}


def test_every_variant_is_one_balanced_self_contained_page(report_input: ReportInput) -> None:
    for name, variant in variants(report_input).items():
        html = render_report(variant)
        page = parsed(html)
        assert page.errors == [], name
        assert page.open == [], name
        assert len(page.ids) == len(set(page.ids)), name
        for tag, attribute, value in page.attributes:
            if attribute.split(":")[-1] in ("src", "href", "srcset", "data", "action"):
                assert value.startswith(("#", "data:")), (name, tag, attribute, value)
        assert not any(tag in ("link", "iframe", "object") for tag, _, _ in page.attributes)
        assert "@import" not in html
        assert not re.search(r"url\((?!#)", html), name
        assert not re.search(r"\b(None|nan|Undefined)\b", "".join(page.text["main"])), name


def test_every_reference_inside_the_page_has_its_target(report_input: ReportInput) -> None:
    html = render_report(report_input)
    ids = set(parsed(html).ids)
    references = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', html)
    assert references
    assert {a or b for a, b in references} <= ids


def test_warnings_of_the_training_are_counted_by_kind(report_input: ReportInput) -> None:
    def steps(*warnings: str) -> dict[str, object]:
        return {"phase": "learn", "steps": [{"n_eff": 9.0, "warnings": list(warnings)}]}

    history = [
        steps("weights are worn out: 3.0 of 90", "5 of 90 frames were left out"),
        steps("weights are worn out: 4.5 of 90"),
        steps("6 of 80 frames were left out"),
        steps(),
    ]
    page = render_report(replace(report_input, history=history))
    assert "2 times, last: weights are worn out: 4.5 of 90" in page
    assert "2 times, last: 6 of 80 frames were left out" in page
    assert "worn out: 3.0" not in page
    quiet = render_report(replace(report_input, history=history[-1:]))
    assert "warned of" in page and "warned of" not in quiet


def test_optional_parts_appear_only_with_their_data(report_input: ReportInput) -> None:
    full = parsed(render_report(report_input))
    assert {"curves", "movies", "training", "settings"} <= set(full.ids)
    least = parsed(render_report(bare(report_input)))
    assert not {"curves", "movies", "training", "settings"} & set(least.ids)
    assert {"numbers", "meaning"} <= set(least.ids)


def test_headline_states_the_numbers_of_the_metrics(report_input: ReportInput) -> None:
    metrics = report_input.metrics
    ratio = compare(metrics["before"], metrics["after"])["mean_time_to_failure_ratio"]
    estimate = ratio["after_over_before"]
    page = parsed(render_report(bare(report_input, metrics=metrics)))
    title = "".join(page.text["h1"]).replace("\u00a0", " ")
    for value in (
        metrics["before"]["stable_time_ps"]["mean_time_to_failure"],
        metrics["after"]["stable_time_ps"]["mean_time_to_failure"],
        estimate["ratio"],
        estimate["lower"],
        estimate["upper"],
    ):
        assert number(value) in title
    lede = "".join(page.text["header"]).replace("\u00a0", " ")
    assert "0.117 → 0.118 eV/Å" in lede
    assert number(metrics["control"]["stable_time_ps"]["mean_time_to_failure"]) in lede


def test_headline_claims_a_rise_only_where_the_interval_shows_one(
    report_input: ReportInput,
) -> None:
    m = report_input.metrics
    assert "rose" in headline({"before": m["before"], "after": m["after"]})[0]
    assert "fell" in headline({"before": m["after"], "after": m["before"]})[0]
    assert "no significant change" in headline({"before": m["before"], "after": m["control"]})[0]


def test_without_failures_the_headline_gives_limits(report_input: ReportInput) -> None:
    m = {role: dict(metrics) for role, metrics in report_input.metrics.items()}
    m["after"]["stable_time_ps"] = {
        **m["after"]["stable_time_ps"], "n_failed": 0, "total_time_ps": 192.0,
        "mean_time_to_failure": None, "mean_time_to_failure_ci95": [64.1, None],
    }  # fmt: skip
    first = headline(m)[0].replace("\u00a0", " ")
    estimate = compare(m["before"], m["after"])["mean_time_to_failure_ratio"]["after_over_before"]
    assert "> 64.1 ps" in first
    assert f"ratio ≥ {number(estimate['lower'])} at 95 %" in first
    none = headline({"before": m["after"], "after": m["after"]})[0]
    assert "ratio unknown" in none
    assert "no significant change" in none


def test_movie_data_can_be_read_back_and_can_not_end_its_script(
    report_input: ReportInput,
) -> None:
    group = [replace(movie, caption="</script><b>&amp;") for movie in report_input.movies[0]]
    html = render_report(bare(report_input, movies=[group]))
    (block,) = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    data = json.loads(block)
    assert [m["caption"] for m in data] == ["</script><b>&amp;"] * 2
    assert len(data[0]["frames"]) == len(data[0]["times_ps"]) == 40
    assert parsed(html).errors == []


def test_text_is_escaped(report_input: ReportInput) -> None:
    texts = {"title": "<i>x</i>", "description": "a < b"}
    html = render_report(bare(report_input, config_text=report_input.config_text, **texts))
    assert "<i>x" not in html
    assert "a &lt; b" in html
    assert "&lt;kelvin&gt; &amp; so on" in html


def test_formula_stands_once_above_the_headline(report_input: ReportInput) -> None:
    for title in ("C2H6O: stability", "Ethanol at 500 K"):
        page = parsed(render_report(replace(report_input, title=title)))
        header = "".join(page.text["header"])
        assert header.count("C₂H₆O") == 1
        assert "C2H6O" not in header


def test_an_error_and_its_standard_error_have_the_same_decimals(
    report_input: ReportInput,
) -> None:
    _, rows = table(report_input.metrics)
    (cells,) = [row.cells for row in rows if row.name == "MAE of h(r)"]
    assert cells == (("0.0300", "± 0.0030"), ("0.0200", "± 0.0020"), ("0.0100", "± 0.0010"))


def test_report_from_saved_content_is_the_same(report_input: ReportInput, tmp_path: Path) -> None:
    saved = json.loads(json.dumps(report_input.to_json(), allow_nan=False))
    path = write_report(tmp_path / "new" / "report.html", ReportInput.from_json(saved))
    assert path.read_text(encoding="utf-8") == render_report(report_input)


def test_a_model_that_leaves_no_usable_frame_still_gets_its_report(
    report_input: ReportInput,
) -> None:
    data = report_input.observables[0]
    nothing = torch.full((len(data.axis),), float("nan"), dtype=torch.float64)  # type: ignore[arg-type]
    curves = replace(data, curves={"model": (nothing, nothing)})
    at_once = stable_time([0.0, 0.0], [True, True], 3.0)
    metrics = EvaluationMetrics(at_once, {}, 0.5, float("nan"))
    html = render_report(
        ReportInput(
            "Broken", "H2", {"model": metrics.to_json()}, {"model": at_once}, [curves],
            history=[{"phase": "simulate", "failed_fraction": 1.0}],
        )
    )  # fmt: skip
    page = parsed(html)
    assert page.errors == []
    assert "2 of 2 replicas failed" in "".join(page.text["h1"])


def test_metrics_without_stable_times_are_refused() -> None:
    with pytest.raises(DataError, match="at least one potential"):
        ReportInput("t", "H2", {})
    with pytest.raises(DataError, match="stable_time_ps"):
        ReportInput("t", "H2", {"model": {"energy_mae_ev": 1.0}})
    with pytest.raises(DataError, match="'middle'"):
        ReportInput("t", "H2", {"middle": {"stable_time_ps": {}}})


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (11.04, "11"), (0.1173, "0.117"), (123456.0, "123\u202f456"),
     (2e-7, "2 × 10⁻⁷"), (-0.5, "−0.5"), (1234.0, "1\u202f234")],
)  # fmt: skip
def test_numbers_are_written_for_people(value: float | None, text: str) -> None:
    assert number(value) == text


def test_durations_are_written_for_people() -> None:
    assert duration(0.5) == "0.5 s"
    assert duration(59.0) == "59 s"
    assert duration(61.2) == "1 min 01 s"
    assert duration(7260.0) == "2 h 01 min"
