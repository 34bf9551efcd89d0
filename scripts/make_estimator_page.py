"""Measure the estimators on systems with known truth; figures and numbers of docs/estimators.md.

python -m scripts.make_estimator_page            (some minutes on one core)
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import torch

from scripts.estimators import path_study, size_study, variance_study
from stablemd.evaluation.figure_style import to_png
from stablemd.versions import collect_versions

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "estimators.md"


def main() -> None:
    torch.set_num_threads(1)
    versions = collect_versions()
    measured: dict[str, object] = {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": versions["cpu"],
        "torch": versions["torch"],
    }
    text = PAGE.read_text(encoding="utf-8")
    for name, study in (
        ("size", size_study),
        ("path", path_study),
        ("variance", variance_study),
    ):
        rows = study.measure()
        measured[name] = rows
        text = replace_block(text, name, study.table(rows))
        if hasattr(study, "draw"):
            image = DOCS / "images" / f"estimators_{name}.png"
            image.write_bytes(to_png(study.draw(rows), dpi=150))
        print(f"measured: {name}")
    conditions = (
        f"Measured by `python -m scripts.make_estimator_page` on {measured['date']} "
        f"({versions['cpu']}, one thread, torch {versions['torch']})."
    )
    text = replace_block(text, "conditions", conditions)
    PAGE.write_text(text, encoding="utf-8")
    PAGE.with_suffix(".json").write_text(
        json.dumps(measured, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(f"written: {PAGE}")


def replace_block(text: str, name: str, content: str) -> str:
    """The page with another content between the two marks of that name."""
    marks = re.compile(rf"(<!-- measured {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not marks.search(text):
        raise SystemExit(f"{PAGE} has no marks for {name!r}")
    return marks.sub(lambda m: f"{m.group(1)}\n{content}\n\n{m.group(2)}", text)


if __name__ == "__main__":
    main()
