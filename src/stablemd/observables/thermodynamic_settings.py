"""Thermodynamic observables as settings."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from stablemd.observables.heat_capacity import HeatCapacity
from stablemd.observables.pressure import Pressure
from stablemd.observables.thermodynamic import ThermodynamicObservable
from stablemd.settings import Settings


class PressureSettings(Settings):
    """The pressure, from the stress of recorded frames of a periodic system."""

    needs_stress: ClassVar[bool] = True
    needs_constant_volume: ClassVar[bool] = False

    name: Literal["pressure"] = "pressure"
    max_frames: PositiveInt = Field(
        500, ge=2, description="frames whose stress is computed at most, evenly spaced in time"
    )
    reference: float | None = Field(None, description="what it should be, in bar")

    def build(self) -> ThermodynamicObservable:
        """The observable."""
        return Pressure()


class HeatCapacitySettings(Settings):
    """The heat capacity at constant volume, from the fluctuations of the potential energy."""

    needs_stress: ClassVar[bool] = False
    needs_constant_volume: ClassVar[bool] = True

    name: Literal["heat_capacity"] = "heat_capacity"
    reference: float | None = Field(None, description="what it should be, in k_B per atom")

    def build(self) -> ThermodynamicObservable:
        """The observable."""
        return HeatCapacity()


ThermodynamicObservableSettings = Annotated[
    PressureSettings | HeatCapacitySettings, Field(discriminator="name")
]
