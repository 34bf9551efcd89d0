"""Detectors as settings: explicit limits, or limits learnt from reference structures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from stablemd.settings import Settings
from stablemd.stability.base import Detector
from stablemd.stability.bond_length import BondLength
from stablemd.stability.coordination import Coordination
from stablemd.stability.distance_window import DistanceWindow
from stablemd.stability.energy_drift import EnergyDrift
from stablemd.stability.intermolecular_distance import IntermolecularDistance
from stablemd.stability.max_force import MaximumForce
from stablemd.stability.nonfinite import NonFinite
from stablemd.stability.rdf_drift import RdfDrift
from stablemd.stability.temperature import KineticTemperature
from stablemd.stability.thresholds import ReferenceStructures, require_reference
from stablemd.system import System

Pair = tuple[str, str]
QUANTILE = "share of the reference structures that would fail without the margin; 0: none"


class _DetectorSettings(Settings):
    def build(self, system: System, reference: ReferenceStructures | None) -> Detector:
        """The detector for a system; ``reference`` structures set limits that are not given."""
        raise NotImplementedError


class NonFiniteSettings(_DetectorSettings):
    """Positions, momenta or energies that are infinite or not a number."""

    name: Literal["nonfinite"] = "nonfinite"

    def build(self, system: System, reference: ReferenceStructures | None) -> Detector:
        return NonFinite(system)


class BondLengthSettings(_DetectorSettings):
    """Bonds that are far from their mean length in the reference."""

    name: Literal["bond_length"] = "bond_length"
    threshold: PositiveFloat | None = Field(
        0.5, description="largest deviation in Å; null: learnt from the reference"
    )
    quantile: float = Field(0.0, ge=0.0, lt=0.5, description=QUANTILE)
    margin: NonNegativeFloat = Field(0.2, description="of a learnt limit, in Å")

    def build(self, system: System, reference: ReferenceStructures | None) -> Detector:
        if self.threshold is not None:
            return BondLength(system, self.threshold)
        reference = require_reference(reference, self.name, "threshold in Å")
        return BondLength.from_reference(
            system, reference, quantile=self.quantile, margin=self.margin
        )


class TemperatureSettings(_DetectorSettings):
    """Replicas that heat up."""

    name: Literal["temperature"] = "temperature"
    max_temperature_k: PositiveFloat = Field(5000.0, description="kinetic temperature in K")

    def build(self, system: System, reference: ReferenceStructures | None) -> Detector:
        return KineticTemperature(system, self.max_temperature_k)


class IntermolecularDistanceSettings(_DetectorSettings):
    """Atoms of different molecules that come too close."""

    name: Literal["intermolecular_distance"] = "intermolecular_distance"
    min_distance: PositiveFloat | None = Field(
        None, description="shortest distance in Å; null: learnt from the reference"
    )
    quantile: float = Field(0.0, ge=0.0, lt=0.5, description=QUANTILE)
    margin: NonNegativeFloat = Field(0.3, description="of a learnt limit, in Å")

    def build(self, system: System, reference: ReferenceStructures | None) -> Detector:
        if self.min_distance is not None:
            return IntermolecularDistance(system, min_distance=self.min_distance)
        reference = require_reference(reference, self.name, "min_distance in Å")
        return IntermolecularDistance.from_reference(
            system, reference, quantile=self.quantile, margin=self.margin
        )


class DistanceWindowSettings(_DetectorSettings):
    """Nearest neighbours of every pair of elements at distances that the reference never shows."""

    name: Literal["distance_window"] = "distance_window"
    quantile: float = Field(0.0, ge=0.0, lt=0.5, description=QUANTILE)
    margin: NonNegativeFloat = Field(0.3, description="beyond what the reference shows, in Å")

    def build(self, system: System, reference: ReferenceStructures | None) -> Detector:
        reference = require_reference(reference, self.name, "reference structures")
        return DistanceWindow.from_reference(
            system, reference, quantile=self.quantile, margin=self.margin
        )


class CoordinationSettings(_DetectorSettings):
    """Atoms with too few or too many neighbours."""

    name: Literal["coordination"] = "coordination"
    pair: Pair | None = Field(None, description="symbols of atom and neighbour; null: all atoms")
    cutoff: PositiveFloat = Field(3.0, description="distance in Å up to which a neighbour counts")
    lowest: NonNegativeFloat | None = Field(
        None, description="fewest neighbours; null: learnt from the reference, as is highest"
    )
    highest: NonNegativeFloat | None = Field(None, description="most neighbours")
    quantile: float = Field(0.0, ge=0.0, lt=0.5, description=QUANTILE)
    margin: NonNegativeFloat = Field(1.0, description="of learnt limits, in neighbours")

    def build(self, system: System, reference: ReferenceStructures | None) -> Detector:
        if self.lowest is not None and self.highest is not None:
            return Coordination(
                system, cutoff=self.cutoff, lowest=self.lowest, highest=self.highest, pair=self.pair
            )
        reference = require_reference(reference, self.name, "lowest and highest")
        learnt = Coordination.from_reference(
            system, reference, cutoff=self.cutoff, pair=self.pair, quantile=self.quantile,
            margin=self.margin,
        )  # fmt: skip
        low, high = learnt.thresholds
        return Coordination(
            system,
            cutoff=self.cutoff,
            lowest=low if self.lowest is None else self.lowest,
            highest=high if self.highest is None else self.highest,
            pair=self.pair,
        )


class MaximumForceSettings(_DetectorSettings):
    """Forces that are larger than any in the reference."""

    name: Literal["max_force"] = "max_force"
    max_force: PositiveFloat | None = Field(
        None, description="in eV/Å; null: learnt from the reference"
    )
    quantile: float = Field(0.0, ge=0.0, lt=0.5, description=QUANTILE)
    margin: NonNegativeFloat = Field(10.0, description="of a learnt limit, in eV/Å")

    def build(self, system: System, reference: ReferenceStructures | None) -> Detector:
        if self.max_force is not None:
            return MaximumForce(system, max_force=self.max_force)
        reference = require_reference(reference, self.name, "max_force in eV/Å")
        return MaximumForce.from_reference(
            system, reference, quantile=self.quantile, margin=self.margin
        )


class EnergyDriftSettings(_DetectorSettings):
    """Drift of the conserved energy (not under Langevin dynamics, which has none)."""

    name: Literal["energy_drift"] = "energy_drift"
    max_drift: PositiveFloat = Field(
        0.01, description="change since the start of a run, in eV per atom"
    )

    def build(self, system: System, reference: ReferenceStructures | None) -> Detector:
        return EnergyDrift(system, max_drift=self.max_drift)


class RdfDriftSettings(_DetectorSettings):
    """An RDF over the last checks that is far from the reference's."""

    name: Literal["rdf_drift"] = "rdf_drift"
    max_error: PositiveFloat | None = Field(
        None, description="integral of |g - g_ref| in Å; null: learnt from the reference"
    )
    window: PositiveInt = Field(100, description="checks that are averaged")
    pair: Pair | None = Field(None, description="two chemical symbols; null: all pairs")
    r_max: PositiveFloat | None = Field(
        None, description="longest distance in Å; null: half the distance of the lattice planes"
    )
    n_bins: PositiveInt = Field(60, ge=10, description="bins on [0, r_max]")
    intramolecular: bool = Field(True, description="whether pairs within a molecule count")
    quantile: float = Field(0.0, ge=0.0, lt=0.5, description=QUANTILE)
    margin: NonNegativeFloat = Field(1.0, description="of a learnt limit, in Å")

    def build(self, system: System, reference: ReferenceStructures | None) -> Detector:
        reference = require_reference(reference, self.name, "reference structures")
        options = self.model_dump(exclude={"name"})
        return RdfDrift.from_reference(system, reference, **options)


DetectorSettings = Annotated[
    NonFiniteSettings
    | BondLengthSettings
    | TemperatureSettings
    | IntermolecularDistanceSettings
    | DistanceWindowSettings
    | CoordinationSettings
    | MaximumForceSettings
    | EnergyDriftSettings
    | RdfDriftSettings,
    Field(discriminator="name"),
]
