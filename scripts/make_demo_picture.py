"""Draw the README's picture from a finished demo.

python scripts/make_demo_picture.py runs/demo
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from stablemd.evaluation.figure_style import to_png
from stablemd.evaluation.figures import survival_figure
from stablemd.evaluation.report import ReportInput

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "demo.png"


def main() -> None:
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    report = ReportInput.from_json(json.loads((run / "report.json").read_text(encoding="utf-8")))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_bytes(to_png(survival_figure(report.stable_times), dpi=150))
    print(f"written: {PICTURE}")


if __name__ == "__main__":
    main()
