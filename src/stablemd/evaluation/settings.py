"""Settings of an evaluation."""

from __future__ import annotations

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from stablemd.md.settings import DynamicsSettings
from stablemd.observables.settings import DistanceDistributionSettings, ObservableSettings
from stablemd.observables.thermodynamic_settings import ThermodynamicObservableSettings
from stablemd.observables.trajectory_settings import TrajectoryObservableSettings
from stablemd.settings import Settings


class EvaluationSettings(Settings):
    """Many replicas from test structures, until they fail or the time is up."""

    dynamics: DynamicsSettings = Field(default_factory=DynamicsSettings)
    n_replicas: PositiveInt = Field(64, description="replicas, from the first test structures")
    length_ps: PositiveFloat = Field(5.0, description="time at most per replica in ps")
    record_every_fs: PositiveFloat = Field(25.0, description="time between recorded frames in fs")
    discard_fs: float = Field(
        250.0, ge=0.0, description="time at the start that does not enter the observables, in fs"
    )
    observables: tuple[ObservableSettings, ...] = Field(
        (DistanceDistributionSettings(),),
        min_length=1,
        description="what is compared with the reference",
    )
    dynamical: tuple[TrajectoryObservableSettings, ...] = Field(
        (), description="what to measure from the paths of the replicas, e.g. diffusion"
    )
    thermodynamic: tuple[ThermodynamicObservableSettings, ...] = Field(
        (), description="pressure and heat capacity"
    )
    max_movie_frames: PositiveInt = Field(120, description="frames of a failing replica to keep")
    seed: NonNegativeInt = Field(1_000, description="of velocities and noise")
