"""The demo with and without the compiled sampling form, every stage of it, shortened."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import Contender, Timing
from benchmarks.section import Section, Settings
from stablemd.potentials.base import Potential
from stablemd.potentials.schnet import SchNet
from stablemd.workflows.demo import demo_config, run_demo

EAGER = "demo, model by autograd"
COMPILED = "demo, compiled sampling form"

SHORT = ("stable.simulation_steps=200", "stable.learning_steps=100", "evaluation.length_ps=0.4")
LONGER = ("evaluation.length_ps=1.0",)
COMMON = (
    "threads=1",
    "stable.max_cycles=1",
    "stable.max_windows=1",
    "stable.confirmations=0",
    "stable.max_learning_epochs=3",
)


@contextmanager
def _by_autograd() -> Iterator[None]:
    """SchNet without its compiled form."""
    compiled = SchNet.for_sampling
    SchNet.for_sampling = Potential.for_sampling  # type: ignore[method-assign]
    try:
        yield
    finally:
        SchNet.for_sampling = compiled  # type: ignore[method-assign]


def build(settings: Settings) -> list[Contender]:
    """One demo each; with ``full`` one of more steps, in which the rest weighs less."""
    overrides = COMMON + (LONGER if settings.full else SHORT)

    def demo() -> None:
        with tempfile.TemporaryDirectory() as folder:
            run_demo(demo_config(out=Path(folder) / "run", overrides=overrides))

    def eager() -> None:
        with _by_autograd():
            demo()

    return [Contender(EAGER, eager, 1), Contender(COMPILED, demo, 1)]


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """How many times less processor time the demo takes."""
    eager, compiled = timings
    return {"speedup": compiled.speedup_over(eager), "longer": settings.full}


def describe(derived: dict[str, Any]) -> str:
    """The ratio in a sentence."""
    return (
        f"The {'shortened' if derived['longer'] else 'very short'} demo takes "
        f"{derived['speedup']:.1f} times less processor time with the compiled form; in the whole "
        "demo, with more steps, the parts that do not change weigh less. What the whole one takes "
        "is in [demo](demo.md)."
    )


SECTION = Section(
    key="demo",
    title="The demo",
    about=(
        "Every stage of the demo (evaluation, simulation and learning phase, control, evaluations, "
        "report) with fewer and shorter cycles and evaluations, on one core: SchNet by autograd "
        "in all dynamics, as before the compiled form was written, and as it is. Learning is the "
        "same in both. The trajectories part after some picoseconds, so the two do not do exactly "
        "the same work."
    ),
    unit="demo",
    build=build,
    derive=derive,
    describe=describe,
    long=True,
)
