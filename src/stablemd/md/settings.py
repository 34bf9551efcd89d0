"""Settings of molecular dynamics, shared by training, evaluation and plain simulation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from stablemd.md.integrators import Integrator, make_integrator
from stablemd.settings import Settings
from stablemd.stability import DetectorSet, make_detectors
from stablemd.system import System


class DynamicsSettings(Settings):
    """Thermostat, time step and stability criterion."""

    temperature_k: PositiveFloat = Field(500.0, description="temperature in K")
    dt_fs: PositiveFloat = Field(0.5, le=10.0, description="time step in fs")
    integrator: Literal["langevin", "nose_hoover", "nve"] = Field(
        "langevin", description="langevin (BAOAB), nose_hoover (chain) or nve (velocity Verlet)"
    )
    friction_per_ps: PositiveFloat = Field(1.0, description="Langevin friction in 1/ps")
    tau_fs: PositiveFloat = Field(100.0, description="Nosé–Hoover relaxation time in fs")
    check_every: PositiveInt = Field(10, description="steps between stability checks")
    bond_threshold: PositiveFloat = Field(
        0.5, description="a bond this far from its reference mean length, in Å, is a failure"
    )
    max_temperature_k: PositiveFloat | None = Field(
        None,
        description="kinetic temperature in K that counts as a failure; 20 × temperature_k "
        "by default",
    )

    def make_integrator(self) -> Integrator:
        """The integrator of these settings."""
        options: dict[str, Any] = {}
        if self.integrator == "langevin":
            options["friction_per_ps"] = self.friction_per_ps
        elif self.integrator == "nose_hoover":
            options["tau_fs"] = self.tau_fs
        return make_integrator(
            self.integrator, dt_fs=self.dt_fs, temperature_k=self.temperature_k, **options
        )

    def make_detectors(self, system: System) -> DetectorSet:
        """Non-finite values, bond lengths and kinetic temperature, tested in that order."""
        limit = self.max_temperature_k or 20.0 * self.temperature_k
        options: dict[str, dict[str, Any]] = {"nonfinite": {}}
        if len(system.bonds):
            options["bond_length"] = {"threshold": self.bond_threshold}
        options["temperature"] = {"max_temperature_k": limit}
        return make_detectors(options, system)
