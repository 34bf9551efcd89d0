"""The gradient phase of a learning epoch beside the molecular dynamics that feeds it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.aspirin import aspirin_replicas
from benchmarks.contenders import Aspirin
from benchmarks.measure import Contender, Timing
from benchmarks.section import Section, Settings
from stablemd import units
from stablemd.estimators import SampledFrames, boltzmann_gradient
from stablemd.observables.settings import BondExcessSettings, DistanceDistributionSettings
from stablemd.potentials.base import Potential
from stablemd.system import System
from stablemd.training.observable_target import ObservableTarget

STEPS_PER_FRAME = 100
"""The paper's spacing of frames."""

N_FRAMES = 640
"""Frames per timed call: a quarter of the paper's 128 replicas × 2000 steps / 100."""

MAX_BACKWARD_FRAMES = 96

WINDOW_REPLICA_STEPS = 128 * 2000
"""The paper's simulation window."""

CHECKED = 8
"""Structures on which training measures a new form's error."""


def build(settings: Settings) -> list[Contender]:
    """MD in both forms, and the gradient from its frames, whole and thinned."""
    aspirin = Aspirin.build(settings.n_replicas)
    system, potential = aspirin.system, aspirin.potential
    _, frames = aspirin_replicas(N_FRAMES)
    target = ObservableTarget(
        system, frames, (DistanceDistributionSettings(), BondExcessSettings())
    )
    contenders = [
        Contender(f"MD, {title}", c.run, c.units / STEPS_PER_FRAME)
        for title, c in (
            ("sampling form", aspirin.whole(settings.n_steps)),
            ("model by autograd", aspirin.tabulated(settings.n_steps)),
        )
    ]
    for name, limit in (
        ("every frame", None),
        (f"{MAX_BACKWARD_FRAMES} frames", MAX_BACKWARD_FRAMES),
    ):
        run = _gradient_phase(potential, system, frames, target, limit)
        contenders.append(Contender(f"gradient phase, {name} in the backward pass", run, N_FRAMES))
    return contenders


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """The cost of a sampling form after an optimizer step, and its share of the MD that follows."""
    aspirin = Aspirin.build(settings.n_replicas)
    seconds = []
    for _ in range(settings.repeats):
        begin = time.process_time()
        aspirin.potential.for_sampling(aspirin.system, aspirin.positions[:CHECKED])
        seconds.append(time.process_time() - begin)
    rebuild = statistics.median(seconds)
    window = timings[0].cpu_ms * 1e-3 / STEPS_PER_FRAME * WINDOW_REPLICA_STEPS
    return {"rebuild_s": rebuild, "window_s": window, "rebuild_fraction": rebuild / window}


def describe(derived: dict[str, Any]) -> str:
    """The cost of rebuilding in words."""
    return (
        f"After an optimizer step the sampling form is built anew and its error measured on "
        f"{CHECKED} structures: {1e3 * derived['rebuild_s']:.0f} ms, "
        f"{100 * derived['rebuild_fraction']:.2f} % of a window of {WINDOW_REPLICA_STEPS} "
        f"replica-steps ({derived['window_s']:.0f} s)."
    )


def _gradient_phase(
    potential: Potential,
    system: System,
    positions: torch.Tensor,
    target: ObservableTarget,
    limit: int | None,
) -> Callable[[], None]:
    """Observables, energies without a graph, and the backward pass."""
    aim = target.values(positions).mean(dim=0) + 0.01

    def run() -> None:
        form = potential.for_sampling(system)
        frames = SampledFrames(
            positions=positions,
            reference_energies=form(positions)[0],
            values=target.values(positions),
            replica=torch.arange(len(positions)) % 128,
        )
        potential.zero_grad(set_to_none=True)
        boltzmann_gradient(
            potential,
            system,
            frames,
            lambda mean: (mean - aim).square().sum(),
            beta=units.beta(500.0),
            energies=frames.reference_energies,
            max_backward_frames=limit,
        )

    return run


SECTION = Section(
    key="learning_epoch",
    title="Learning epoch: dynamics and gradient",
    about=(
        "Cost per recorded frame with the paper's spacing, one frame every 100 steps of each "
        "replica: the MD between two frames, and the gradient phase (h(r) with 500 bins and bond "
        "excess, energies of all frames, backward pass). The inverse of the last column is the "
        "gradient's share of the MD. SchNet of the paper's size, aspirin, one core."
    ),
    unit="frame",
    build=build,
    derive=derive,
    describe=describe,
)
