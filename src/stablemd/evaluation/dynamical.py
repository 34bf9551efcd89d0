"""Dynamical observables of an evaluation: mean squared displacement and diffusion."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from stablemd.errors import DataError
from stablemd.md import RecordedFrames
from stablemd.observables import DiffusionCoefficient, Trajectory, yeh_hummer_correction
from stablemd.settings import Settings
from stablemd.system import System


class DiffusionSettings(Settings):
    """The diffusion coefficient from the mean squared displacement."""

    name: Literal["diffusion_coefficient"] = "diffusion_coefficient"
    element: str | None = Field(None, description="chemical symbol of the atoms; null: all")
    fit_ps: tuple[NonNegativeFloat, PositiveFloat] = Field(
        description="first and last lag of the straight line in ps"
    )
    path_ps: PositiveFloat = Field(
        description="length in ps of the pieces that replicas are cut into, whose scatter gives "
        "the error; a replica that failed earlier does not count"
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

    def evaluate(
        self, system: System, frames: RecordedFrames, dt_fs: float, temperature_k: float
    ) -> dict[str, Any]:
        """Value, error, N_eff and reference in Å²/ps, as JSON.

        Raises:
            DataError: no replica lasted for ``path_ps``, or frames are not equally spaced.
            SystemDefinitionError: the correction is asked for in a cell that is not cubic.
        """
        spacing = int(frames.step.unique().diff()[0]) if len(frames) > 1 else 1
        interval = spacing * dt_fs
        trajectory = Trajectory.from_frames(
            frames.positions,
            frames.replica,
            frames.step,
            dt_fs,
            n_frames=round(1000.0 * self.path_ps / interval) + 1,
        )
        d = DiffusionCoefficient(
            system,
            fit_fs=(1000.0 * self.fit_ps[0], 1000.0 * self.fit_ps[1]),
            interval_fs=interval,
            element=self.element,
        )
        average = d.average(trajectory)
        correction = 0.0
        if self.viscosity_pa_s is not None:
            correction = yeh_hummer_correction(
                system, temperature_k=temperature_k, viscosity_pa_s=self.viscosity_pa_s
            )
        return {
            "value": float(average.mean) + correction,
            "stderr": float(average.stderr),
            "n_eff": average.n_eff,
            "n_paths": average.n_frames,
            "finite_size_correction": correction,
            "reference": self.reference,
            "unit": "Å²/ps",
        }


def evaluate_dynamical(
    choices: tuple[DiffusionSettings, ...],
    system: System,
    frames: RecordedFrames,
    dt_fs: float,
    temperature_k: float,
) -> dict[str, Any]:
    """Every dynamical observable by name, or why it could not be had.

    Too short a life of the replicas is a result here, not an error.
    """
    system = system.to(frames.positions.device)
    found: dict[str, Any] = {}
    for choice in choices:
        key = choice.name if choice.element is None else f"{choice.name}_{choice.element}"
        try:
            found[key] = choice.evaluate(system, frames, dt_fs, temperature_k)
        except DataError as error:
            found[key] = {"value": None, "stderr": None, "why": str(error)}
    return found
