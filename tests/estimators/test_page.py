"""The numbers of docs/estimators.md are those that its script measured."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from scripts import reuse_study
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


def training(*models: tuple[int, int]) -> dict[str, Any]:
    """Models by (force evaluations, failed of 100), and two further phases that test the last."""
    keys = ("force_evaluations", "n_failed")
    return {
        "models": [dict(zip(keys, model, strict=True), n_replicas=100) for model in models],
        "force_evaluations": 50 + (models[-1][0] if models else 0),
    }


def pair(reused: list[tuple[int, int]], other: list[tuple[int, int]]) -> dict[str, Any]:
    start = {"n_failed": 30, "n_replicas": 100}
    return {"start": start, "reused": training(*reused), "on_policy": training(*other)}


def test_a_stability_is_reached_by_the_first_model_that_has_it_in_both_trainings() -> None:
    assert reuse_results.ratio(pair([(100, 1)], [(400, 1)])) == 0.25
    assert reuse_results.ratio(pair([(100, 12), (200, 4), (300, 0)], [(400, 2)])) == 0.5
    assert reuse_results.ratio(pair([(100, 2)], [(200, 4), (300, 9), (400, 2)])) == 0.5


def test_a_training_that_gives_back_the_start_has_spent_everything_on_it() -> None:
    assert reuse_results.ratio(pair([(10, 29)], [])) == 10 / 50
    assert reuse_results.ratio(pair([], [(400, 2)])) == float("inf")


def test_what_is_less_stable_has_not_been_reached() -> None:
    # By Fisher's exact test 4 of 100 against none may be chance (p = 0.06), 5 may not (p = 0.03).
    assert reuse_results.ratio(pair([(100, 9), (200, 4)], [(400, 0)])) == 0.5
    assert reuse_results.ratio(pair([(100, 9), (200, 5)], [(400, 0)])) == float("inf")
    assert reuse_results.share_of_all(pair([(100, 9), (200, 5)], [(400, 0)])) == float("inf")
    assert reuse_results.share_of_all(pair([(100, 9), (225, 4)], [(300, 8), (400, 0)])) == 0.5
    assert reuse_results.whole_ratio(pair([(100, 4)], [(250, 0)])) == 0.5
    assert reuse_results.whole_ratio(pair([(100, 5)], [(250, 0)])) == float("inf")


def test_the_bound_on_the_excess_covers_the_truth_and_shrinks() -> None:
    """Binomial counts with a true excess of 2 %: 95 % of the bounds lie above it."""
    draw = np.random.default_rng(0)
    bounds = []
    for n in (480, 1920):
        failed = draw.binomial(n, (0.05, 0.03), size=(2000, 2))
        pairs = [[{"n_failed": int(f), "n_replicas": n} for f in row] for row in failed]
        bounds.append(np.array([reuse_results.excess([(a, b)])[1] for a, b in pairs]))
        assert 0.93 < float((bounds[-1] > 0.02).mean()) < 0.97
    assert (bounds[1].mean() - 0.02) / (bounds[0].mean() - 0.02) == pytest.approx(0.5, abs=0.05)


def test_models_cost_what_was_spent_up_to_their_last_step() -> None:
    def learn(spent: int, steps: int, *, taken: bool = True) -> dict[str, Any]:
        return {
            "phase": "learn",
            "n_force_evaluations": spent,
            "optimizer_steps": steps,
            "steps": [{}] if taken else [],
        }

    simulate = {"phase": "simulate", "n_force_evaluations": 1000}
    records = [simulate, learn(10, 2), learn(20, 4), learn(40, 4, taken=False), simulate]
    records += [learn(80, 7), simulate, simulate]
    assert reuse_study.up_to_step(records, 4) == 1030
    assert reuse_study.up_to_step(records, 7) == 2150
    assert reuse_study.in_learning(records) == 150
