"""Write up a finished run as a page with figures, beside a JSON file of all its numbers.

python scripts/write_case_study.py runs/aspirin --out docs/case_studies/aspirin.md
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from case_study.numbers import gather, read_run
from case_study.page import render
from case_study.reproduce import commands
from matplotlib.figure import Figure

from stablemd.atomic import write_atomic
from stablemd.errors import StablemdError
from stablemd.evaluation.comparison_figure import comparison_figure
from stablemd.evaluation.figure_style import to_png
from stablemd.evaluation.figures import observable_figure, survival_figure
from stablemd.evaluation.report import ReportInput
from stablemd.evaluation.report_text import formula
from stablemd.evaluation.training_figures import training_figures
from stablemd.strict_json import write_json

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


def write_case_study(
    run_path: Path, page: Path, *, title: str | None = None, config: Path | None = None
) -> list[Path]:
    """Write the page, the JSON of the same name and its figures.

    Args:
        run_path: a run directory with a finished training and evaluation.
        page: Markdown file; everything else is written beside it.
        title: of the page; formula and temperature by default.
        config: configuration file that the commands on the page name; by default
            the example of the page's name, and without one the page has no commands.

    Returns:
        Every file that was written.

    Raises:
        StablemdError: the run is not finished, or was made with another configuration.
    """
    run, report = read_run(run_path)
    settings = run.read_config()
    if config is None and (example := EXAMPLES / f"{page.stem}.yaml").is_file():
        config = example
    options = "" if title is None else f" --title {shlex.quote(title)}"
    if title is None:
        kelvin = settings["evaluation"]["dynamics"]["temperature_k"]
        title = f"{formula(report.formula)} at {kelvin:g} K"
    lines = []
    if config is not None:
        shown = _from_root(config)
        out = f"runs/{page.stem}"
        pretrains = "pretrain" in run.stages()
        lines = commands(settings, config, shown, pretrains=pretrains, out=out)
        lines.append(f"python scripts/write_case_study.py {out} --out {_from_root(page)}{options}")
    numbers = gather(run, report, title=title, commands=lines)
    files = {}
    for name, figure in figures(report).items():
        files[name] = page.with_name(f"{page.stem}_{name}.png")
        write_atomic(files[name], to_png(figure))
    numbers["figures"] = {name: path.name for name, path in files.items()}
    data = write_json(page.with_suffix(".json"), numbers)
    return [write_atomic(page, render(numbers)), data, *files.values()]


def figures(report: ReportInput) -> dict[str, Figure]:
    """The figures of the page by name."""
    drawn = {
        "comparison": comparison_figure(report.metrics),
        "survival": survival_figure(report.stable_times),
    }
    for curves in report.observables:
        if curves.name == "distance_distribution":
            drawn["hr"] = observable_figure(curves)
    training = training_figures(report.history, report.force_mae_budget)
    for name, source in (
        ("training_failed", "failed_fraction"),
        ("training_force_mae", "force_mae"),
    ):
        if source in training:
            drawn[name] = training[source]
    return drawn


def _from_root(path: Path) -> str:
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run directory of train and evaluate")
    parser.add_argument("--out", type=Path, required=True, help="the page, a .md file")
    parser.add_argument("--title", help="of the page; formula and temperature by default")
    parser.add_argument(
        "--config", type=Path, help="configuration of the run; examples/<page>.yaml by default"
    )
    given = parser.parse_args(arguments)
    try:
        written = write_case_study(given.run, given.out, title=given.title, config=given.config)
    except StablemdError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*written, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
