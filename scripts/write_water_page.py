"""Write docs/case_studies/water.md from finished run directories.

python scripts/write_water_page.py --localized runs/water_schnet \
    --global runs/water_schnet_global --outside runs/water_outside
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from water_page.numbers import Run, read, rows
from water_page.page import render
from water_page.reference import check_reference

from stablemd.atomic import write_atomic
from stablemd.errors import StablemdError
from stablemd.evaluation.figure_style import to_png
from stablemd.evaluation.figures import observable_figure, survival_figure
from stablemd.evaluation.rate_ratio import failure_rate_ratio
from stablemd.strict_json import plain, write_json

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
DATA = ROOT.parent / "shared" / "data" / "water"
PAGE = ROOT / "docs" / "case_studies" / "water.md"
CONFIGS = {
    "localized": "water_schnet.yaml",
    "global": "water_schnet_global.yaml",
    "outside": "water_outside.yaml",
}


def write_water_page(paths: dict[str, Path], page: Path, check: dict[str, Any]) -> list[Path]:
    """Write the page, its JSON and its figures.

    Args:
        paths: run directories by name; "localized", and "global" and "outside" if they are
            there.
        page: Markdown file.
        check: the reference force field's own frames, see ``check_reference``.

    Returns:
        Every file that was written.

    Raises:
        StablemdError: a run is not finished, or was made with another configuration.
    """
    runs = {name: read(path, EXAMPLES / CONFIGS[name]) for name, path in paths.items()}
    local, other, outside = (runs.get(name) for name in CONFIGS)
    if local is None:
        raise SystemExit("the page needs the run of the localized estimator; give --localized")
    numbers: dict[str, Any] = {
        "reference_check": check,
        "own": rows(local, other),
        "outside": None if outside is None else rows(outside, None),
        "runs": {name: run.numbers for name, run in runs.items()},
        "ratios": {name: run.numbers["comparison"] for name, run in runs.items()},
        "localized_over_global": None if other is None else _ratio(local, other),
    }
    files = {}
    for name, run in runs.items():
        if name == "global":
            continue
        for what, figure in (
            ("survival", survival_figure(run.stable_times)),
            ("rdf", observable_figure(run.curves)),
        ):
            key = f"{name}_{what}"
            files[key] = page.with_name(f"{page.stem}_{key}.png")
            write_atomic(files[key], to_png(figure))
    numbers["figures"] = {key: path.name for key, path in files.items()}
    numbers = dict(plain(numbers))
    data = write_json(page.with_suffix(".json"), numbers)
    return [write_atomic(page, render(numbers)), data, *files.values()]


def _ratio(local: Run, other: Run) -> dict[str, Any]:
    """Mean time to failure after the localized estimator over that after the global one."""
    estimate = failure_rate_ratio(local.stable_times["after"], other.stable_times["after"])
    return dict(estimate.to_json())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, config in CONFIGS.items():
        parser.add_argument(
            f"--{name}", type=Path, help=f"run directory of examples/{config}",
            required=name == "localized",
        )  # fmt: skip
    parser.add_argument("--out", type=Path, default=PAGE, help="the page, a .md file")
    given = vars(parser.parse_args(arguments))
    torch.set_num_threads(1)
    if not DATA.is_dir():
        print(f"error: {DATA}: the reference data are not at hand", file=sys.stderr)
        return 2
    paths = {name: given[name] for name in CONFIGS if given[name] is not None}
    try:
        written = write_water_page(paths, given["out"], check_reference(DATA))
    except StablemdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*written, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
