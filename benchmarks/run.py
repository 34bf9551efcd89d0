"""Run the benchmarks side by side: ``python -m benchmarks.run`` in the repository."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import (
    adapters,
    ceiling,
    cores,
    cuda,
    demo_run,
    estimator,
    learning_epoch,
    memory,
    neighbours,
    schnet_md,
    schnet_scaling,
    water_md,
)
from benchmarks.measure import Timing, compare
from benchmarks.results import merge, record, write_page
from benchmarks.section import Section, Settings

MODULES = (
    schnet_md,
    schnet_scaling,
    memory,
    cores,
    ceiling,
    learning_epoch,
    demo_run,
    water_md,
    neighbours,
    estimator,
    cuda,
)

SECTIONS = {m.SECTION.key: m.SECTION for m in MODULES}
"""Every benchmark; a new one is a new file and one name here."""

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the chosen sections, print a table of each, and write the results."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    settings = Settings(options.replicas, options.steps, options.repeats, options.full)
    console = Console()
    new = {}
    usual = [key for key, section in SECTIONS.items() if options.full or not section.long]
    for key in [] if options.page_only else options.section or usual:
        section = SECTIONS[key]
        lacking = section.why_not() if section.why_not else None
        if lacking:
            console.print(f"{section.title}: not run, {lacking}")
            continue
        with console.status(f"{section.title}: {settings.repeats} repeats"):
            contenders = section.build(settings)
            whole = settings.full and section.long  # minutes, of which a first call is little
            timings = compare(contenders, settings.repeats, warm_up=not whole)
        console.print(_table(section, settings, timings))
        new[key] = record(section, settings, timings)
    sections = merge(options.out, new)
    write_page(options.page, sections, SECTIONS | adapters.SECTIONS)
    console.print(f"Written: {options.out}, {options.page}")


def _parser() -> argparse.ArgumentParser:
    default = Settings()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--section", action="append", choices=SECTIONS, help="default: all")
    parser.add_argument("--replicas", type=int, default=default.n_replicas)
    parser.add_argument("--steps", type=int, default=default.n_steps, help="MD steps per call")
    parser.add_argument("--repeats", type=int, default=default.repeats)
    parser.add_argument("--full", action="store_true", help="also what takes long")
    parser.add_argument(
        "--page-only", action="store_true", help="measure nothing; write the page of the results"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    return parser


def _table(section: Section, settings: Settings, timings: Sequence[Timing]) -> Table:
    table = Table(title=f"{section.title}, {settings.n_replicas} replicas", title_justify="left")
    table.add_column("")
    for title in ("CPU ms", "least", "largest", "wall ms", "times less CPU"):
        table.add_column(title, justify="right", min_width=7)
    for t in timings:
        times = (t.cpu_ms, t.cpu_ms_min, t.cpu_ms_max, t.wall_ms)
        table.add_row(t.name, *(f"{v:.3f}" for v in times), f"{t.ratio:.1f}")
    table.caption = f"median per {section.unit} of {settings.repeats} repeats"
    return table


if __name__ == "__main__":
    main()
