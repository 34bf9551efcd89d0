"""A diatomic molecule whose model has a hole that its training frames do not show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import stablemd.data
from stablemd import units
from stablemd.data import Frames, read_frames
from stablemd.md import RecordedFrames
from stablemd.md.settings import DynamicsSettings
from stablemd.observables.settings import BondExcessSettings, DistanceDistributionSettings
from stablemd.potentials.base import Potential, SamplingForm
from stablemd.potentials.batch import Batch
from stablemd.system import System
from stablemd.training.budget import ErrorBudget
from stablemd.training.epoch_frames import EpochFrames
from stablemd.training.label_errors import LabelErrors
from stablemd.training.objective import StableObjective
from stablemd.training.stable_settings import StableSettings
from stablemd.training.step_record import StepRecord
from stablemd.training.training_point import MAIN_POINT, TrainingPoint

TEMPERATURE_K = 500.0
LENGTH, STIFFNESS = 1.0, 4.0
HOLE, HOLE_WIDTH = 1.5, 0.25
"""The hole covers 1.25 to 1.75 Å; the labelled frames end at 1.24 Å."""


def bond_energy(r: Tensor, stiffness: Tensor, length: Tensor, depth: Tensor) -> Tensor:
    inside = (1.0 - ((r - HOLE) / HOLE_WIDTH).square()).clamp_min(0.0)
    return 0.5 * stiffness * (r - length).square() - depth * inside.square()


class HoledBond(Potential):
    """U(r) = stiffness/2 (r - length)² - depth (1 - ((r - 1.5)/0.25)²)², the last within the hole.

    The truth has no hole.  No labelled frame reaches it, so energies and forces
    say nothing about ``depth``: dynamics alone does.  The trainable numbers are
    scaled so that one rate suits all three.
    """

    def __init__(
        self, stiffness: float = STIFFNESS, length: float = LENGTH, depth: float = 0.0
    ) -> None:
        super().__init__()
        scaled = [(stiffness / STIFFNESS - 1.0) / 0.1, (length - LENGTH) / 0.005, depth / 4.0]
        self.scaled = nn.Parameter(torch.tensor(scaled, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros((), dtype=torch.float64))

    shift: Tensor

    @property
    def constants(self) -> tuple[Tensor, Tensor, Tensor]:
        """Stiffness (eV/Å²), length (Å) and depth (eV)."""
        a, b, c = self.scaled
        return STIFFNESS * (1.0 + 0.1 * a), LENGTH + 0.005 * b, 4.0 * c

    def local_energies(self, batch: Batch) -> Tensor:
        i, j = batch.pairs
        r = (batch.positions[i] - batch.positions[j]).norm(dim=1)
        half = 0.5 * bond_energy(r, *self.constants)
        local = half.new_zeros(len(batch.positions)) + self.shift
        return local.index_add(0, i, half).index_add(0, j, half)

    def shift_energies(self, shift: float) -> None:
        self.shift += shift

    def for_sampling(self, system: System, reference: Tensor | None = None) -> SamplingForm:
        return HoledBondSampling(self)


class HoledBondSampling(SamplingForm):
    """The same in closed form: no autograd, so that thousands of steps take a second."""

    def __init__(self, potential: HoledBond) -> None:
        self._constants = tuple(c.detach().clone() for c in potential.constants)
        self._shift = potential.shift.clone()

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        stiffness, length, depth = self._constants
        vectors = positions[:, 1] - positions[:, 0]
        r = vectors.norm(dim=1)
        u = (r - HOLE) / HOLE_WIDTH
        inside = (1.0 - u.square()).clamp_min(0.0)
        slope = stiffness * (r - length) + 4.0 / HOLE_WIDTH * depth * u * inside
        pull = (slope / r)[:, None] * vectors
        return (
            bond_energy(r, stiffness, length, depth) + 2.0 * self._shift,
            torch.stack([pull, -pull], dim=1),
        )

    def atomic_energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        return 0.5 * self(positions, cells)[0][:, None].expand(-1, 2)


def thermal_frames(n: int, seed: int, temperature_k: float = TEMPERATURE_K) -> Frames:
    """Frames near the true equilibrium (|r - 1| < 0.24 Å), with labels of the truth."""
    generator = torch.Generator().manual_seed(seed)
    width = (units.KB * temperature_k / STIFFNESS) ** 0.5
    stretch = width * torch.randn(4 * n, generator=generator, dtype=torch.float64)
    stretch = stretch[stretch.abs() < 0.24][:n]
    direction = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm(dim=1, keepdim=True)
    half = 0.5 * (LENGTH + stretch)[:, None] * direction
    positions = torch.stack([-half, half], dim=1)
    system = System.create(["H", "H"])
    energies, forces = HoledBond().energy_and_forces(system, positions)
    return Frames(system.numbers, positions, energies, forces, source="toy")


class OnePointObjective:
    """An objective with one state point, whose parts are at hand."""

    def __init__(self, objective: StableObjective) -> None:
        self.whole = objective
        (self.point,) = objective.points
        self.epoch_frames = self.point.epoch_frames
        self.set_anchor = self.point.set_anchor

    def step(self, epoch: EpochFrames, *, assess: bool = False) -> StepRecord | None:
        return self.whole.step([epoch], assess=assess)

    @property
    def errors(self) -> LabelErrors:
        return self.point.errors

    @property
    def budget(self) -> ErrorBudget:
        return self.point.budget

    @property
    def steps_done(self) -> int:
        return self.whole.steps_done

    @property
    def rate_scale(self) -> float:
        return self.whole.rate_scale

    @rate_scale.setter
    def rate_scale(self, value: float) -> None:
        self.whole.rate_scale = value


@dataclass(frozen=True)
class Toy:
    """The molecule, its labelled frames, and models of it."""

    system: System
    train: Frames
    validation: Frames
    reference: Frames

    @staticmethod
    def model(depth: float = 1.0, stiffness: float = 4.3, length: float = 1.0) -> HoledBond:
        """A model with a hole and slightly wrong forces elsewhere."""
        return HoledBond(stiffness=stiffness, length=length, depth=depth)

    @staticmethod
    def frames(n: int, seed: int, temperature_k: float = TEMPERATURE_K) -> Frames:
        return thermal_frames(n, seed, temperature_k)

    def at(self, temperature_k: float) -> Toy:
        """The same molecule with frames of another temperature."""
        frames = thermal_frames(112, 2, temperature_k)
        train, validation, reference = (
            frames.select(slice(a, b)) for a, b in ((0, 32), (32, 64), (64, None))
        )
        return Toy(self.system, train, validation, reference)

    @staticmethod
    def settings(**changes: Any) -> StableSettings:
        """Settings that repair the hole, with some of them changed."""
        base: dict[str, Any] = {
            "dynamics": DynamicsSettings(
                temperature_k=TEMPERATURE_K,
                dt_fs=2.0,
                integrator="langevin",
                friction_per_ps=10.0,
                tau_fs=20.0,
                check_every=5,
                bond_threshold=0.5,
                max_temperature_k=30_000.0,
            ),
            "n_replicas": 24,
            "simulation_steps": 150,
            "max_windows": 2,
            "max_failed": 0.75,
            "target_failed": 0.0,
            "rewind_steps": 20,
            "failing_share": 0.75,
            "learning_replicas": 24,
            "confirmations": 0,
            "learning_steps": 50,
            "record_every": 5,
            "max_cycles": 4,
            "max_learning_epochs": 8,
            "observables": (
                DistanceDistributionSettings(r_max=3.0, n_bins=60, loss="mse", weight=0.1),
                BondExcessSettings(margin=1.0, loss="integrated_absolute", weight=1.0),
            ),
            "label_weight": 300.0,
            "anchor_weight": 1.0,
            "anchor_every": 25,
            "label_batch_size": 16,
            "optimizer": "adam",
            "learning_rate": 0.02,
            "gradient_clip": 1.0,
            "steps_per_epoch": 2,
            "min_n_eff": 0.3,
            "max_n_eff_loss": 0.1,
            "plateau_factor": 0.5,
            "plateau_patience": 5,
            "max_reductions": 2,
            "force_mae_budget": 1.1,
            "energy_mae_budget": None,
            "max_backward_frames": 64,
            "chunk_size": 64,
            "seed": 0,
        }
        return StableSettings(**{**base, **changes})

    def point(self, name: str = MAIN_POINT, **changes: Any) -> TrainingPoint:
        """A state point, by settings with some of them changed."""
        settings = self.settings(**changes)
        return TrainingPoint(
            name, self.system, self.train, self.validation, self.reference, settings
        )

    def objective(self, model: Potential, **changes: Any) -> OnePointObjective:
        """A training's objective, by settings with some of them changed."""
        point = self.point(**changes)
        return OnePointObjective(StableObjective(model, [point], point.settings))

    def sampled(
        self, model: Potential, n: int = 240, temperature_k: float = TEMPERATURE_K
    ) -> RecordedFrames:
        """Independent frames of the model's ensemble with 0.7 < r < 1.45 Å, 24 replicas."""
        generator = torch.Generator().manual_seed(5)
        grid = torch.linspace(0.7, 1.45, 2001, dtype=torch.float64)
        line = torch.zeros(2001, 2, 3, dtype=torch.float64)
        line[:, 1, 0] = grid
        energies, _ = model.for_sampling(self.system)(line)
        beta = units.beta(temperature_k)
        density = grid.square() * torch.exp(-beta * (energies - energies.min()))
        chosen = torch.multinomial(density, n, replacement=True, generator=generator)
        replica = torch.arange(n) % 24
        return RecordedFrames(line[chosen], energies[chosen], replica, 5 * replica)


@pytest.fixture(scope="session")
def toy() -> Toy:
    frames = thermal_frames(112, seed=1)
    system = System.create(["H", "H"], bonds=[[0, 1]], bond_lengths=[LENGTH])
    return Toy(
        system=system,
        train=frames.select(slice(0, 32)),
        validation=frames.select(slice(32, 64)),
        reference=frames.select(slice(64, None)),
    )


@pytest.fixture(scope="session")
def ethanol_frames() -> Frames:
    """Labelled ethanol structures of the package, decorrelated, at 500 K."""
    path = Path(stablemd.data.__file__).parents[1] / "demo" / "data" / "ethanol_gfn2_500K.npz"
    return read_frames(path).select(slice(0, None, 40))


@pytest.fixture(scope="session")
def without_wall_time() -> Callable[[Any], Any]:
    """Strips everything measured by a clock from nested records, so that runs can be compared."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in ("wall_s", "cpu_s")}
        return [strip(v) for v in value] if isinstance(value, list | tuple) else value

    return strip
