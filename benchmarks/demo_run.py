"""The demo with and without the compiled sampling form, every stage of it, shortened."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.measure import Contender, Timing
from benchmarks.section import Section, Settings
from stablemd.potentials.base import EagerSampling, Potential, SamplingForm
from stablemd.potentials.schnet import SchNet
from stablemd.system import System
from stablemd.workflows.demo import demo_config, run_demo

EAGER = "demo, model by autograd"
COMPILED = "demo, compiled sampling form"

SHORT = (
    "threads=1",
    "stable.simulation_steps=200",
    "stable.learning_steps=100",
    "evaluation.length_ps=0.4",
    "stable.max_cycles=1",
    "stable.max_windows=1",
    "stable.confirmations=0",
    "stable.max_learning_epochs=3",
)


@contextmanager
def _by_autograd() -> Iterator[None]:
    """SchNet without its compiled form, all replicas in one batch, as it was before."""
    compiled = SchNet.for_sampling
    SchNet.for_sampling = _one_batch  # type: ignore[method-assign]
    try:
        yield
    finally:
        SchNet.for_sampling = compiled  # type: ignore[method-assign]


class _OneBatch(EagerSampling):
    """Autograd with every replica in every call."""

    def block_size(self, n_replicas: int) -> int | None:
        return None


def _one_batch(
    potential: Potential, system: System, reference: Tensor | None = None
) -> SamplingForm:
    return _OneBatch(potential, system)


_done: dict[str, dict[str, Any]] = {}
"""What the last demo of each contender led to."""


def build(settings: Settings) -> list[Contender]:
    """One demo each, very short; with ``full`` as ``stablemd demo`` runs it on one core."""
    overrides = ("threads=1",) if settings.full else SHORT

    def demo(name: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            metrics = run_demo(demo_config(out=Path(folder) / "run", overrides=overrides))
        _done[name] = _outcome(metrics)

    def eager() -> None:
        with _by_autograd():
            demo(EAGER)

    return [Contender(EAGER, eager, 1), Contender(COMPILED, lambda: demo(COMPILED), 1)]


def _outcome(metrics: dict[str, Any]) -> dict[str, Any]:
    training = metrics["train"]
    return {
        "cycles": len(training["candidates"]) - 1,
        "optimizer_steps": training["optimizer_steps"],
        "failed": {
            role: metrics[role]["stable_time_ps"]["n_failed"]
            for role in ("before", "control", "after")
        },
        "wall_s": metrics["wall_s"],
    }


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """How many times less time the demo takes, and what each led to."""
    eager, compiled = timings
    return {
        "speedup": compiled.speedup_over(eager),
        "wall_speedup": eager.wall_ms / compiled.wall_ms,
        "whole": settings.full,
        "share_of_a_core": [t.cpu_ms / t.wall_ms for t in timings],
        "outcome": dict(_done),
    }


def describe(derived: dict[str, Any]) -> str:
    """The ratios in a sentence, and what each demo did."""
    kind = "whole" if derived["whole"] else "very short"
    text = (
        f"The {kind} demo takes {derived['speedup']:.1f} times less processor time and "
        f"{derived['wall_speedup']:.1f} times less wall time with the compiled form."
    )
    shares = derived["share_of_a_core"]
    if min(shares) < 0.95:
        text += (
            f" They had {100 * shares[0]:.0f} % and {100 * shares[1]:.0f} % of a core: other work "
            "was running, so that the processor time is what compares them."
        )
    for name, done in derived["outcome"].items():
        failed = done["failed"]
        text += (
            f" {name[0].upper()}{name[1:]}: {done['cycles']} cycles, {done['optimizer_steps']} "
            f"optimizer steps; {failed['before']} of its replicas failed before training, "
            f"{failed['control']} after as many steps on labels alone, {failed['after']} after "
            "training."
        )
    if not derived["whole"]:
        text += " With `--full` the whole demo is run both ways."
    return text + " Other seeds are in [demo](demo.md)."


SECTION = Section(
    key="demo",
    title="The demo",
    about=(
        "Every stage of the demo (evaluation, simulation and learning phase, control, evaluations, "
        "report) on one core: SchNet by autograd in all dynamics, as before the compiled form was "
        "written, and as it is. Learning is the same in both. The trajectories part after some "
        "picoseconds, so the two do not do exactly the same work."
    ),
    unit="demo",
    replicas=64,
    build=build,
    derive=derive,
    describe=describe,
    long=True,
)
