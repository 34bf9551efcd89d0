"""Observables: what is compared with the reference, with error bars."""

from __future__ import annotations

from stablemd.observables.angle_distribution import AngleDistribution
from stablemd.observables.averages import Average, block_average, ensemble_average
from stablemd.observables.base import Observable
from stablemd.observables.bond_excess import BondExcess
from stablemd.observables.bond_lengths import BondLengths
from stablemd.observables.comparison import ObservableError, compare_with_reference
from stablemd.observables.coordination_number import CoordinationNumber
from stablemd.observables.density import Density
from stablemd.observables.dihedral_distribution import DihedralDistribution
from stablemd.observables.distance_distribution import DistanceDistribution
from stablemd.observables.intermolecular_distance import MinimumIntermolecularDistance
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

for _kind in (
    DistanceDistribution,
    BondExcess,
    RadialDistribution,
    AngleDistribution,
    DihedralDistribution,
    BondLengths,
    MinimumIntermolecularDistance,
    CoordinationNumber,
    TetrahedralOrder,
    RadiusOfGyration,
    Density,
    StructureFactor,
):
    OBSERVABLES[_kind.name] = _kind

__all__ = [
    "OBSERVABLES",
    "AngleDistribution",
    "Average",
    "BondExcess",
    "BondLengths",
    "CoordinationNumber",
    "Density",
    "DihedralDistribution",
    "DistanceDistribution",
    "MinimumIntermolecularDistance",
    "Observable",
    "ObservableError",
    "RadialDistribution",
    "RadiusOfGyration",
    "ReferenceAverage",
    "ReferenceCurve",
    "StructureFactor",
    "TetrahedralOrder",
    "block_average",
    "compare_with_reference",
    "ensemble_average",
    "make_observable",
    "observable",
    "read_curve",
    "read_soper2013",
    "read_soper_benmore2008",
]
