"""Observables of trajectories as settings: which one, over which times, against what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from stablemd.observables.diffusion import DiffusionCoefficient
from stablemd.observables.mean_squared_displacement import MeanSquaredDisplacement
from stablemd.observables.reference import ReferenceAverage, ReferenceCurve, read_curve
from stablemd.observables.trajectory import TrajectoryObservable
from stablemd.observables.velocity_autocorrelation import (
    VelocityAutocorrelation,
    VibrationalSpectrum,
)
from stablemd.settings import Settings
from stablemd.system import System


class TimeCurveSettings(Settings):
    """A file that holds the reference of a curve over time or wave number."""

    path: Path = Field(description="text table or npz file, relative to the configuration file")
    x: str | int = Field(0, description="column of the abscissa: its number from 0, or its name")
    y: str | int = Field(1, description="column of the value")
    error: str | int | None = Field(None, description="column of the value's standard error")
    x_unit: Literal["fs", "ps", "1/cm"] = Field("fs", description="unit of column x")

    def at(self, axis_fs_or_per_cm: list[float]) -> ReferenceAverage:
        """The curve at the points of an observable's axis.

        Args:
            axis_fs_or_per_cm: lags in fs, or wave numbers in 1/cm.

        Raises:
            DataError: the file has no such column, or ends before the axis does.
        """
        curve = read_curve(self.path, x=self.x, y=self.y, error=self.error)
        scale = 1000.0 if self.x_unit == "ps" else 1.0
        scaled = ReferenceCurve(curve.x * scale, curve.y, curve.error, curve.source)
        return scaled.at(axis_fs_or_per_cm)


class _OfPaths(Settings):
    """What every observable of trajectories is told."""

    needs_velocities: ClassVar[bool] = False

    element: str | None = Field(None, description="chemical symbol of the atoms; null: all")
    path_ps: PositiveFloat = Field(
        description="length in ps of the pieces that replicas are cut into, whose scatter gives "
        "the error; a replica that failed earlier does not count"
    )

    @property
    def longest_lag_fs(self) -> float:
        """The longest lag that is looked at, in fs."""
        raise NotImplementedError

    def build(self, system: System, interval_fs: float) -> TrajectoryObservable:
        """The observable for frames that are ``interval_fs`` apart.

        Raises:
            ConfigError: the times do not fit together.
            SystemDefinitionError: there is no such atom.
        """
        raise NotImplementedError


class DiffusionSettings(_OfPaths):
    """The diffusion coefficient from the mean squared displacement."""

    name: Literal["diffusion_coefficient"] = "diffusion_coefficient"
    fit_ps: tuple[NonNegativeFloat, PositiveFloat] = Field(
        description="first and last lag of the straight line in ps"
    )
    viscosity_pa_s: PositiveFloat | None = Field(
        None, description="adds the finite-size correction of Yeh and Hummer for a cubic cell"
    )
    reference: float | None = Field(None, description="what it should be, in Å²/ps")

    @model_validator(mode="after")
    def _fits(self) -> DiffusionSettings:
        start, end = self.fit_ps
        if not start < end < self.path_ps:
            raise ValueError(
                f"fit_ps = {list(self.fit_ps)} must increase and end before path_ps = "
                f"{self.path_ps:g}"
            )
        return self

    @property
    def longest_lag_fs(self) -> float:
        return 1000.0 * self.fit_ps[1]

    def build(self, system: System, interval_fs: float) -> TrajectoryObservable:
        fit = (1000.0 * self.fit_ps[0], 1000.0 * self.fit_ps[1])
        return DiffusionCoefficient(
            system, fit_fs=fit, interval_fs=interval_fs, element=self.element
        )


class _Curve(_OfPaths):
    """An observable that is a curve."""

    reference: TimeCurveSettings | None = Field(
        None, description="a file with the curve as it should be"
    )

    @model_validator(mode="after")
    def _fits(self) -> _Curve:
        if not self.longest_lag_fs < 1000.0 * self.path_ps:
            raise ValueError(
                f"the longest lag, {self.longest_lag_fs:g} fs, must be shorter than path_ps = "
                f"{self.path_ps:g}"
            )
        return self


class MeanSquaredDisplacementSettings(_Curve):
    """The mean squared displacement, without the motion of the centre of mass."""

    name: Literal["mean_squared_displacement"] = "mean_squared_displacement"
    max_lag_ps: PositiveFloat = Field(description="longest lag in ps")

    @property
    def longest_lag_fs(self) -> float:
        return 1000.0 * self.max_lag_ps

    def build(self, system: System, interval_fs: float) -> TrajectoryObservable:
        return MeanSquaredDisplacement(
            system, max_lag_fs=self.longest_lag_fs, interval_fs=interval_fs, element=self.element
        )


class VelocityAutocorrelationSettings(_Curve):
    """The velocity autocorrelation, C(τ)/C(0); frames must be a few fs apart."""

    needs_velocities: ClassVar[bool] = True

    name: Literal["velocity_autocorrelation"] = "velocity_autocorrelation"
    max_lag_fs: PositiveFloat = Field(description="longest lag in fs")
    normalised: bool = Field(True, description="divided by its value at 0, else in Å²/fs²")

    @property
    def longest_lag_fs(self) -> float:
        return self.max_lag_fs

    def build(self, system: System, interval_fs: float) -> TrajectoryObservable:
        return VelocityAutocorrelation(
            system, max_lag_fs=self.max_lag_fs, interval_fs=interval_fs, element=self.element,
            normalised=self.normalised,
        )  # fmt: skip


class VibrationalSpectrumSettings(_Curve):
    """The vibrational density of states, up to half the rate of the frames."""

    needs_velocities: ClassVar[bool] = True

    name: Literal["vibrational_spectrum"] = "vibrational_spectrum"
    max_lag_fs: PositiveFloat = Field(
        description="longest lag in fs, which sets the resolution: 33356 / max_lag_fs in 1/cm"
    )

    @property
    def longest_lag_fs(self) -> float:
        return self.max_lag_fs

    def build(self, system: System, interval_fs: float) -> TrajectoryObservable:
        return VibrationalSpectrum(
            system, max_lag_fs=self.max_lag_fs, interval_fs=interval_fs, element=self.element
        )


TrajectoryObservableSettings = Annotated[
    DiffusionSettings
    | MeanSquaredDisplacementSettings
    | VelocityAutocorrelationSettings
    | VibrationalSpectrumSettings,
    Field(discriminator="name"),
]
