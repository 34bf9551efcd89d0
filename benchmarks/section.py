"""What a benchmark module provides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import Contender, Timing


@dataclass(frozen=True)
class Settings:
    """How much to run.

    Attributes:
        n_replicas: replicas of a molecule.
        n_steps: MD steps per timed call.
        repeats: rounds; the median is reported.
        full: also what takes long.
    """

    n_replicas: int = 128
    n_steps: int = 10
    repeats: int = 5
    full: bool = False


@dataclass(frozen=True)
class Section:
    """One table of the report.

    Attributes:
        key: name in ``results.json`` and on the command line.
        title: heading.
        about: what is timed and under which conditions, one paragraph.
        unit: of the work, e.g. "replica-step".
        build: contenders, the baseline first; it checks that they compute the same.
        derive: further numbers from the timings, for ``results.json``.
        describe: those numbers as Markdown, for the page.
        draw: those numbers as a PNG, for the page.
        long: whether a run of all sections leaves it out unless it is to be full.
        why_not: what this machine lacks for it, None where nothing is lacking.
        replicas: how many it always has, None where the settings say.
    """

    key: str
    title: str
    about: str
    unit: str
    build: Callable[[Settings], Sequence[Contender]]
    derive: Callable[[Settings, Sequence[Timing]], dict[str, Any]] | None = None
    describe: Callable[[dict[str, Any]], str] | None = None
    draw: Callable[[dict[str, Any]], bytes] | None = None
    long: bool = False
    why_not: Callable[[], str | None] | None = None
    replicas: int | None = None
