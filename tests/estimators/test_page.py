"""The numbers of docs/estimators.md are those that its script measured."""

from __future__ import annotations

import json
import re

import pytest

from scripts.estimators import reuse_results
from scripts.make_estimator_page import DOCS, LONG, PAGE, STUDIES, page

TEXT = PAGE.read_text(encoding="utf-8")
MEASURED = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))


def test_tables_are_those_of_the_measurements() -> None:
    assert set(STUDIES) - set(LONG) <= set(MEASURED) <= set(STUDIES)
    if page(TEXT, MEASURED) != TEXT:
        pytest.fail("page and numbers differ; run: python -m scripts.make_estimator_page")


def test_a_changed_number_would_show() -> None:
    other = json.loads(json.dumps(MEASURED))
    other["variance"]["rows"][0]["noise"] += 1.0
    assert page(TEXT, other) != TEXT


def test_every_study_with_a_figure_has_it_on_the_page() -> None:
    shown = set(re.findall(r"\]\(images/(estimators_\w+\.png)\)", TEXT))
    drawn = {f"estimators_{name}.png" for name in MEASURED if hasattr(STUDIES[name], "draw")}
    assert shown == drawn
    assert all((DOCS / "images" / name).exists() for name in shown)


def pair(reused: int, other: int, failed: tuple[int, int]) -> dict[str, dict[str, int]]:
    ways = zip(("reused", "on_policy"), (reused, other), failed, strict=True)
    return {way: {"force_evaluations": n, "n_failed": f} for way, n, f in ways}


def test_what_is_less_stable_has_not_been_reached() -> None:
    assert reuse_results.ratio(pair(100, 400, (1, 1))) == 0.25
    assert reuse_results.ratio(pair(100, 400, (2, 1))) == float("inf")
