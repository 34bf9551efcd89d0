"""Settings of StABlE Training; defaults for a molecule on a laptop."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from stablemd.md.settings import DynamicsSettings
from stablemd.observables.settings import (
    BondExcessSettings,
    DistanceDistributionSettings,
    ObservableSettings,
)
from stablemd.settings import Settings
from stablemd.training.label_loss import LabelLossSettings


class StableSettings(Settings):
    """The simulate-learn cycle."""

    dynamics: DynamicsSettings = Field(default_factory=DynamicsSettings)
    n_replicas: PositiveInt = Field(32, ge=2, description="replicas that run in parallel")
    simulation_steps: PositiveInt = Field(
        2000, description="steps of one window of the simulation phase"
    )
    max_windows: PositiveInt = Field(
        5, description="windows of a simulation phase at most; the phase ends earlier at max_failed"
    )
    max_failed: float = Field(
        0.25, gt=0.0, le=1.0, description="failed fraction that ends a simulation phase"
    )
    enough_failures: PositiveInt | None = Field(
        None,
        description="failed replicas, with those that are remembered, that end a simulation phase "
        "too once more than target_failed have failed in it; none: max_failed alone",
    )
    target_failed: float = Field(
        0.0, ge=0.0, lt=1.0, description="failed fraction that ends a learning phase"
    )
    rewind_steps: NonNegativeInt = Field(
        100,
        description="failed replicas restart this many steps before their failure; 0: from "
        "the start of the window, as in the paper",
    )
    failing_share: float = Field(
        0.75,
        ge=0.0,
        le=1.0,
        description="share of the replicas of a learning phase that start "
        "from failed ones (copies with partly redrawn velocities); the others go on from where "
        "they were. 0: every replica goes on by itself, as in the paper",
    )
    remembered_failures: NonNegativeInt = Field(
        0,
        description="failed replicas of earlier simulation phases at most that a learning phase "
        "copies too; 0: those of its own phase alone, as in the paper",
    )
    learning_replicas: PositiveInt = Field(
        128,
        description="replicas of a learning phase, filled up with copies; with fewer than "
        "n_replicas, or failing_share = 0, there are as many as n_replicas",
    )
    learning_steps: PositiveInt = Field(500, description="steps of one learning epoch")
    record_every: PositiveInt = Field(50, description="steps between frames of a learning epoch")
    confirmations: NonNegativeInt = Field(
        1,
        description="further simulation phases that a model without failures has to pass before "
        "training ends",
    )
    max_cycles: PositiveInt = Field(16, description="simulate-learn cycles at most")
    max_learning_epochs: PositiveInt = Field(10, description="epochs of a learning phase at most")
    max_minutes: PositiveFloat | None = Field(None, description="wall time at most; none: no limit")

    observables: tuple[ObservableSettings, ...] = Field(
        (DistanceDistributionSettings(), BondExcessSettings()),
        min_length=1,
        description="what the frames of learning epochs are compared with, each with a loss and "
        "a weight",
    )
    estimator: Literal["boltzmann", "localized"] = Field(
        "boltzmann",
        description="boltzmann: averages of the whole system; localized: observables of single "
        "atoms or bonds against the energies of their neighbourhoods",
    )
    neighbourhoods: Literal["molecule", "bond", "nearest", "within", "given"] = Field(
        "molecule",
        description="of the localized estimator: molecules, bonds, atoms with their "
        "neighbourhood_atoms nearest ones, atoms with all within neighbourhood_radius, or "
        "neighbourhood_groups",
    )
    neighbourhood_atoms: PositiveInt = Field(
        6, description="atoms around the one in the middle, with neighbourhoods: nearest"
    )
    neighbourhood_radius: PositiveFloat = Field(
        3.0, description="in Å, with neighbourhoods: within"
    )
    neighbourhood_groups: tuple[tuple[NonNegativeInt, ...], ...] | None = Field(
        None, description="atoms of every group, counted from 0, with neighbourhoods: given"
    )
    relative_entropy_weight: NonNegativeFloat = Field(
        0.0,
        description="weight of the relative entropy from the reference structures to the frames, "
        "which matches the structures themselves; 0: off",
    )
    label_weight: NonNegativeFloat = Field(
        10.0, description="weight of the energy/force loss (λ of the paper)"
    )
    anchor_weight: NonNegativeFloat = Field(
        10.0,
        description="weight of the mean squared change of forces on frames of the model's "
        "own stable dynamics, which keeps it from changing where nothing is wrong; 0: off",
    )
    anchor_every: PositiveInt = Field(200, description="steps between such frames")
    label_loss: LabelLossSettings = Field(default_factory=LabelLossSettings)
    label_batch_size: PositiveInt = Field(32, description="reference structures per step")

    optimizer: Literal["adam", "sgd"] = Field("adam", description="adam, or sgd as in the paper")
    learning_rate: PositiveFloat = Field(5e-4, description="step size at the start")
    gradient_clip: PositiveFloat = Field(1.0, description="largest norm of the combined gradient")
    steps_per_epoch: PositiveInt = Field(
        4,
        description="reweighted optimizer steps per learning epoch at most; 1: as in the paper",
    )
    min_n_eff: float = Field(
        0.5,
        ge=0.0,
        le=1.0,
        description="an epoch's steps end once the effective share of its frames falls under this",
    )
    max_n_eff_loss: float = Field(
        0.2,
        gt=0.0,
        le=1.0,
        description="a step is shrunk until it lowers the effective share of "
        "the frames by this at most",
    )
    plateau_factor: float = Field(0.2, gt=0.0, lt=1.0, description="learning rate reduction")
    plateau_patience: PositiveInt = Field(
        10,
        description="epochs without progress before it; with the default max_learning_epochs that "
        "limit comes first",
    )
    max_reductions: PositiveInt = Field(
        2, description="a learning phase ends when it would reduce the rate more often than this"
    )

    force_mae_budget: float | None = Field(
        1.1, ge=1.0, description="the validation force MAE may grow by this factor; none: no bound"
    )
    energy_mae_budget: float | None = Field(None, ge=1.0, description="the same for the energy MAE")
    max_backward_frames: int | None = Field(
        32,
        ge=2,
        description="frames in the estimator's backward pass at most, an unbiased "
        "sample of all; localized: pairs of frame and neighbourhood; none: every one",
    )
    chunk_size: PositiveInt = Field(64, description="frames per pass of the estimator")
    seed: int = Field(0, ge=0, description="of start structures, velocities, noise and data order")

    @property
    def neighbourhood_options(self) -> dict[str, Any]:
        """The options of the chosen neighbourhoods."""
        options: dict[str, dict[str, Any]] = {
            "nearest": {"k": self.neighbourhood_atoms},
            "within": {"radius": self.neighbourhood_radius},
            "given": {"groups": self.neighbourhood_groups or ()},
        }
        return options.get(self.neighbourhoods, {})
