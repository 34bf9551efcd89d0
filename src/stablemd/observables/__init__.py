"""Observables: what is compared with the reference, with error bars."""

from __future__ import annotations

from stablemd.observables.angle_distribution import AngleDistribution
from stablemd.observables.averages import Average, block_average, ensemble_average
from stablemd.observables.base import Observable
from stablemd.observables.bond_excess import BondExcess
from stablemd.observables.bond_lengths import BondLengths
from stablemd.observables.comparison import ObservableError, compare_with_reference
from stablemd.observables.contact_excess import ContactExcess
from stablemd.observables.coordination_number import CoordinationNumber
from stablemd.observables.density import Density
from stablemd.observables.diffusion import DiffusionCoefficient, yeh_hummer_correction
from stablemd.observables.dihedral_distribution import DihedralDistribution
from stablemd.observables.distance_distribution import DistanceDistribution
from stablemd.observables.heat_capacity import HeatCapacity
from stablemd.observables.intermolecular_distance import MinimumIntermolecularDistance
from stablemd.observables.mean_squared_displacement import MeanSquaredDisplacement
from stablemd.observables.pressure import Pressure
from stablemd.observables.radius_of_gyration import RadiusOfGyration
from stablemd.observables.rdf import RadialDistribution
from stablemd.observables.reference import (
    ReferenceAverage,
    ReferenceCurve,
    read_curve,
    read_soper2013,
    read_soper_benmore2008,
)
from stablemd.observables.registry import OBSERVABLES, make_observable, observable
from stablemd.observables.structure_factor import StructureFactor
from stablemd.observables.tetrahedral_order import TetrahedralOrder
from stablemd.observables.thermodynamic import (
    Estimate,
    ThermodynamicObservable,
    ThermodynamicSamples,
)
from stablemd.observables.trajectory import Trajectory, TrajectoryObservable
from stablemd.observables.velocity_autocorrelation import (
    VelocityAutocorrelation,
    VibrationalSpectrum,
)

for _kind in (
    DistanceDistribution,
    BondExcess,
    RadialDistribution,
    AngleDistribution,
    DihedralDistribution,
    BondLengths,
    MinimumIntermolecularDistance,
    ContactExcess,
    CoordinationNumber,
    TetrahedralOrder,
    RadiusOfGyration,
    Density,
    StructureFactor,
):
    OBSERVABLES[_kind.name] = _kind

TRAJECTORY_OBSERVABLES: dict[str, type[TrajectoryObservable]] = {
    MeanSquaredDisplacement.name: MeanSquaredDisplacement,
    DiffusionCoefficient.name: DiffusionCoefficient,
    VelocityAutocorrelation.name: VelocityAutocorrelation,
    VibrationalSpectrum.name: VibrationalSpectrum,
}
"""Observables of paths by name; each is built as ``cls(system, **options)``."""

THERMODYNAMIC_OBSERVABLES: dict[str, type[ThermodynamicObservable]] = {
    Pressure.name: Pressure,
    HeatCapacity.name: HeatCapacity,
}
"""Observables of energies, volumes and stress by name."""

__all__ = [
    "OBSERVABLES",
    "THERMODYNAMIC_OBSERVABLES",
    "TRAJECTORY_OBSERVABLES",
    "AngleDistribution",
    "Average",
    "BondExcess",
    "BondLengths",
    "ContactExcess",
    "CoordinationNumber",
    "Density",
    "DiffusionCoefficient",
    "DihedralDistribution",
    "DistanceDistribution",
    "Estimate",
    "HeatCapacity",
    "MeanSquaredDisplacement",
    "MinimumIntermolecularDistance",
    "Observable",
    "ObservableError",
    "Pressure",
    "RadialDistribution",
    "RadiusOfGyration",
    "ReferenceAverage",
    "ReferenceCurve",
    "StructureFactor",
    "TetrahedralOrder",
    "ThermodynamicObservable",
    "ThermodynamicSamples",
    "Trajectory",
    "TrajectoryObservable",
    "VelocityAutocorrelation",
    "VibrationalSpectrum",
    "block_average",
    "compare_with_reference",
    "ensemble_average",
    "make_observable",
    "observable",
    "read_curve",
    "read_soper2013",
    "read_soper_benmore2008",
    "yeh_hummer_correction",
]
