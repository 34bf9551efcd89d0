"""Settings of molecular dynamics, shared by training, evaluation and plain simulation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, FiniteFloat, PositiveFloat, PositiveInt, ValidationInfo, field_validator

from stablemd.md.integrators import Integrator, make_integrator
from stablemd.settings import Settings
from stablemd.stability import (
    DetectorSet,
    ReferenceStructures,
    make_detector,
    make_detectors,
)
from stablemd.stability.settings import DetectorSettings
from stablemd.system import System


class DynamicsSettings(Settings):
    """Thermostat, time step and stability criterion."""

    temperature_k: PositiveFloat = Field(500.0, description="temperature in K")
    dt_fs: PositiveFloat = Field(0.5, le=10.0, description="time step in fs")
    integrator: Literal["langevin", "nose_hoover", "csvr", "nve", "cell_rescaling"] = Field(
        "langevin",
        description="langevin (BAOAB), nose_hoover (chain), csvr (stochastic velocity rescaling), "
        "nve (velocity Verlet) or cell_rescaling (constant pressure, with csvr)",
    )
    friction_per_ps: PositiveFloat = Field(1.0, description="Langevin friction in 1/ps")
    tau_fs: PositiveFloat = Field(
        100.0, description="relaxation time of nose_hoover and csvr in fs"
    )
    pressure_bar: FiniteFloat = Field(1.0, description="pressure of cell_rescaling in bar")
    barostat_tau_fs: PositiveFloat = Field(
        1000.0, description="relaxation time of the volume in cell_rescaling in fs"
    )
    compressibility_per_bar: PositiveFloat = Field(
        4.5e-5,
        description="isothermal compressibility in 1/bar (that of water by default); sets the "
        "barostat's speed only",
    )
    coupling: Literal["isotropic", "anisotropic"] = Field(
        "isotropic",
        description="whether cell_rescaling changes the volume only, or all lengths and angles "
        "(for solids)",
    )
    check_every: PositiveInt = Field(10, description="steps between stability checks")
    bond_threshold: PositiveFloat = Field(
        0.5, description="a bond this far from its reference mean length, in Å, is a failure"
    )
    max_temperature_k: PositiveFloat | None = Field(
        None,
        description="kinetic temperature in K that counts as a failure; 20 × temperature_k "
        "by default",
    )

    detectors: tuple[DetectorSettings, ...] | None = Field(
        None,
        description="what counts as a failure, tested in this order after nonfinite; null: "
        "bond_length with bond_threshold where there are bonds, and temperature with "
        "max_temperature_k",
    )

    @field_validator("detectors")
    @classmethod
    def _has_conserved_energy(
        cls, detectors: tuple[DetectorSettings, ...] | None, info: ValidationInfo
    ) -> tuple[DetectorSettings, ...] | None:
        names = [choice.name for choice in detectors or ()]
        if "energy_drift" in names and info.data.get("integrator") == "langevin":
            raise ValueError(
                "energy_drift needs a conserved energy, which integrator: langevin does not have; "
                "use another integrator, or other detectors"
            )
        return detectors

    def make_integrator(self) -> Integrator:
        """The integrator of these settings."""
        options: dict[str, Any] = {}
        if self.integrator == "langevin":
            options["friction_per_ps"] = self.friction_per_ps
        elif self.integrator != "nve":
            options["tau_fs"] = self.tau_fs
        if self.integrator == "cell_rescaling":
            options |= {
                "pressure_bar": self.pressure_bar,
                "barostat_tau_fs": self.barostat_tau_fs,
                "compressibility_per_bar": self.compressibility_per_bar,
                "coupling": self.coupling,
            }
        return make_integrator(
            self.integrator, dt_fs=self.dt_fs, temperature_k=self.temperature_k, **options
        )

    def make_detectors(
        self, system: System, reference: ReferenceStructures | None = None
    ) -> DetectorSet:
        """What counts as a failure, tested in order.

        Args:
            system: the atoms.
            reference: structures that limits are learnt from where none are given.

        Raises:
            ConfigError: a detector needs reference structures and there are none, or a
                limit does not fit the system.
            SystemDefinitionError: a detector does not apply to the system.
        """
        if self.detectors is not None:
            chosen = [c.build(system, reference) for c in self.detectors if c.name != "nonfinite"]
            return DetectorSet([make_detector("nonfinite", system), *chosen])
        limit = self.max_temperature_k or 20.0 * self.temperature_k
        options: dict[str, dict[str, Any]] = {"nonfinite": {}}
        if len(system.bonds):
            options["bond_length"] = {"threshold": self.bond_threshold}
        options["temperature"] = {"max_temperature_k": limit}
        return make_detectors(options, system)
