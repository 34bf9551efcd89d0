"""Write docs/case_studies/water.md from finished run directories.

python scripts/write_water_page.py --localized runs/water_schnet --again runs/water_schnet_again \
    --lengths runs/water_schnet_lengths --global runs/water_schnet_global \
    --rdf runs/water_schnet_rdf --outside runs/water_outside \
    --outside-tuned runs/water_outside_tuned --gemnet runs/water_gemnet_small \
    --long runs/water_schnet_long runs/water_schnet_1ns
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from water_page.numbers import Run, read, read_long, rows, together
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
TUNED = "outside_tuned"
"""The training seed with which the settings of "outside" were chosen."""

CONFIGS = {
    "localized": "water_schnet.yaml",
    "again": "water_schnet.yaml",
    "lengths": "water_schnet_lengths.yaml",
    "global": "water_schnet_global.yaml",
    "rdf": "water_schnet_rdf.yaml",
    "outside": "water_outside.yaml",
    TUNED: "water_outside.yaml",
    "gemnet": "water_gemnet_small.yaml",
}
TITLES = {TUNED: "water_outside_tuned", "again": "water_schnet_again"}
"""Folders of runs that share an example with another one."""

ALTERNATIVES = {
    "again": "localized, another training seed",
    "lengths": "localized on O–H lengths",
    "global": "global",
    "rdf": "global on RDFs and shortest distance",
}
"""Further trainings of the localized run's start, as the table has them."""


def write_water_page(
    paths: dict[str, Path],
    page: Path,
    check: dict[str, Any],
    longer: Sequence[Path] = (),
) -> list[Path]:
    """Write the page, its JSON and its figures.

    Args:
        paths: run directories by name; "localized", and of the other ones those that are there.
        page: Markdown file.
        check: the reference force field's own frames, see ``check_reference``.
        longer: run directories of longer evaluations of the localized run's model.

    Returns:
        Every file that was written.

    Raises:
        StablemdError: a run is not finished, or was made with another configuration.
    """
    runs = {
        name: read(path, EXAMPLES / CONFIGS[name], TITLES.get(name, ""))
        for name, path in paths.items()
    }
    local = runs.get("localized")
    if local is None:
        raise SystemExit("the page needs the run of the localized estimator; give --localized")
    others = {name: runs[name] for name in ALTERNATIVES if name in runs}
    separate = {name: runs[name] for name in ("outside", "gemnet") if name in runs}
    evaluations = [read_long(path) for path in longer]
    numbers: dict[str, Any] = {
        "reference_check": check,
        "own": rows(local, {ALTERNATIVES[name]: run for name, run in others.items()}),
        "outside": rows(separate["outside"]) if "outside" in separate else None,
        "gemnet": rows(separate["gemnet"]) if "gemnet" in separate else None,
        "not_run": {
            name: config
            for name, config in CONFIGS.items()
            if name not in runs and name not in TITLES
        },
        "longer": evaluations,
        "together": together([local.numbers["evaluation"]["after"], *evaluations]),
        "runs": {name: run.numbers for name, run in runs.items()},
        "ratios": {name: run.numbers["comparison"] for name, run in runs.items()},
        "localized_over": {name: _ratio(local, run) for name, run in others.items()},
    }
    files = {}
    for name, run in runs.items():
        if name in ALTERNATIVES or name == TUNED:
            continue
        pictures = {"survival": survival_figure(run.stable_times)}
        if name != "outside":  # it runs at a temperature without reference structures
            pictures["rdf"] = observable_figure(run.curves)
        for what, figure in pictures.items():
            key = f"{name}_{what}"
            files[key] = page.with_name(f"{page.stem}_{key}.png")
            write_atomic(files[key], to_png(figure))
    numbers["figures"] = {key: path.name for key, path in files.items()}
    numbers = dict(plain(numbers))
    data = write_json(page.with_suffix(".json"), numbers)
    return [write_atomic(page, render(numbers)), data, *files.values()]


def _ratio(local: Run, other: Run) -> dict[str, Any]:
    """Mean time to failure after the localized training over that after another one."""
    estimate = failure_rate_ratio(local.stable_times["after"], other.stable_times["after"])
    return dict(estimate.to_json())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, config in CONFIGS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=Path, help=f"run directory of examples/{config}",
            required=name == "localized",
        )  # fmt: skip
    parser.add_argument(
        "--long", type=Path, nargs="+", default=[], help="longer evaluations of the repaired model"
    )
    parser.add_argument("--out", type=Path, default=PAGE, help="the page, a .md file")
    given = vars(parser.parse_args(arguments))
    torch.set_num_threads(1)
    if not DATA.is_dir():
        print(f"error: {DATA}: the reference data are not at hand", file=sys.stderr)
        return 2
    paths = {name: given[name] for name in CONFIGS if given[name] is not None}
    try:
        written = write_water_page(paths, given["out"], check_reference(DATA), given["long"])
    except StablemdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*written, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
