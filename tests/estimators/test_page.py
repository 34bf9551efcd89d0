"""The numbers of docs/estimators.md are those that its script measured."""

from __future__ import annotations

import json

import pytest

from scripts.make_estimator_page import DOCS, PAGE, STUDIES, page


def test_tables_are_those_of_the_measurements() -> None:
    measured = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    assert set(measured) == set(STUDIES)
    if page(text, measured) != text:
        pytest.fail("page and numbers differ; run: python -m scripts.make_estimator_page")


def test_every_figure_of_the_page_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in ("size", "path"):
        assert f"images/estimators_{name}.png" in text
        assert (DOCS / "images" / f"estimators_{name}.png").exists()
