"""Measure the estimators on systems with known truth; figures and numbers of docs/estimators.md.

python -m scripts.make_estimator_page                  (some minutes on one core)
python -m scripts.make_estimator_page --only path      (the others stay as they are)
python -m scripts.make_estimator_page --only reuse     (reads what scripts.reuse_study left)
python -m scripts.make_estimator_page --only state_points      (and scripts.state_points_study)
"""

from __future__ import annotations

import argparse
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from scripts.estimators import (
    path_study,
    reuse_results,
    size_study,
    state_points_results,
    variance_study,
)
from stablemd.evaluation.figure_style import to_png
from stablemd.strict_json import write_json
from stablemd.versions import collect_versions

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "estimators.md"


STUDIES = {
    "size": size_study,
    "path": path_study,
    "variance": variance_study,
    "reuse": reuse_results,
    "state_points": state_points_results,
}
LONG = ("reuse", "state_points")
"""Only when asked for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=STUDIES, help="default: the short ones")
    chosen = parser.parse_args().only or [name for name in STUDIES if name not in LONG]
    torch.set_num_threads(1)
    versions = collect_versions()
    numbers = PAGE.with_suffix(".json")
    measured = json.loads(numbers.read_text(encoding="utf-8")) if numbers.exists() else {}
    for name in chosen:
        rows = STUDIES[name].measure()
        measured[name] = {
            "date": datetime.now(UTC).date().isoformat(),
            "cpu": versions["cpu"],
            "torch": versions["torch"],
            "rows": rows,
        }
        if hasattr(STUDIES[name], "draw"):
            image = DOCS / "images" / f"estimators_{name}.png"
            image.write_bytes(to_png(STUDIES[name].draw(rows), dpi=150))
        print(f"measured: {name}")
    write_json(numbers, measured)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), measured), encoding="utf-8")
    print(f"written: {PAGE}")


def page(text: str, measured: dict[str, dict[str, Any]]) -> str:
    """The page with the tables of these measurements and what they were made with."""
    for name, study in STUDIES.items():
        if name in measured:
            text = replace_block(text, name, study.table(measured[name]["rows"]))
    made = sorted({(m["date"], m["cpu"], m["torch"]) for m in measured.values()})
    conditions = "; ".join(f"{date}, {cpu}, one thread, torch {torch}" for date, cpu, torch in made)
    return replace_block(
        text, "conditions", f"Measured by `python -m scripts.make_estimator_page`: {conditions}."
    )


def replace_block(text: str, name: str, content: str) -> str:
    """The page with another content between the two marks of that name."""
    marks = re.compile(rf"(<!-- measured {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marks.search(text):
        raise SystemExit(f"{PAGE} has no marks for {name!r}")
    return marks.sub(lambda m: f"{m.group(1)}\n{content}\n\n{m.group(2)}", text)


if __name__ == "__main__":
    main()
