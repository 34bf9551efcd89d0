"""The gradient phase of a learning epoch beside the molecular dynamics that feeds it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.aspirin import aspirin_replicas
from benchmarks.measure import Contender
from benchmarks.schnet_md import dynamics
from benchmarks.section import Section, Settings
from stablemd import units
from stablemd.estimators import SampledFrames, boltzmann_gradient
from stablemd.observables.settings import BondExcessSettings, DistanceDistributionSettings
from stablemd.potentials.base import EagerSampling
from stablemd.potentials.schnet import SchNet
from stablemd.system import System
from stablemd.training.observable_target import ObservableTarget

STEPS_PER_FRAME = 100
"""The paper's spacing of frames."""

N_FRAMES = 640
"""Frames per timed call: a quarter of the paper's 128 replicas × 2000 steps / 100."""

MAX_BACKWARD_FRAMES = 96


def build(settings: Settings) -> list[Contender]:
    """MD in both forms, and the gradient from its frames, whole and thinned."""
    torch.manual_seed(0)
    bare, positions = aspirin_replicas(settings.n_replicas)
    _, frames = aspirin_replicas(N_FRAMES)
    system = System.create(bare.numbers, bonds=[(0, 1)], bond_lengths=[1.4])
    potential = SchNet()
    target = ObservableTarget(
        system, frames, (DistanceDistributionSettings(), BondExcessSettings())
    )
    per_call = settings.n_replicas * settings.n_steps / STEPS_PER_FRAME
    contenders = [
        _per_frame(
            dynamics(name, form, system, positions, settings.n_steps), f"MD, {name}", per_call
        )
        for name, form in (
            ("sampling form", potential.for_sampling(system)),
            ("model by autograd", EagerSampling(potential, system)),
        )
    ]
    for name, limit in (
        ("every frame", None),
        (f"{MAX_BACKWARD_FRAMES} frames", MAX_BACKWARD_FRAMES),
    ):
        run = _gradient_phase(potential, system, frames, target, limit)
        contenders.append(Contender(f"gradient phase, {name} in the backward pass", run, N_FRAMES))
    return contenders


def _per_frame(contender: Contender, name: str, frames_per_call: float) -> Contender:
    return Contender(name, contender.run, frames_per_call)


def _gradient_phase(
    potential: SchNet,
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
)
