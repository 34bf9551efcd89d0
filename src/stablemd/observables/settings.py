"""Observables as settings: which one, how it is compared, and with what weight."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.observables.angle_distribution import AngleDistribution
from stablemd.observables.base import Observable
from stablemd.observables.bond_excess import BondExcess
from stablemd.observables.bond_lengths import BondLengths
from stablemd.observables.contact_excess import ContactExcess
from stablemd.observables.coordination_number import CoordinationNumber
from stablemd.observables.density import Density
from stablemd.observables.dihedral_distribution import DihedralDistribution
from stablemd.observables.distance_distribution import DistanceDistribution
from stablemd.observables.intermolecular_distance import MinimumIntermolecularDistance
from stablemd.observables.radius_of_gyration import RadiusOfGyration
from stablemd.observables.rdf import RadialDistribution
from stablemd.observables.reference import ReferenceAverage, read_curve
from stablemd.observables.registry import OBSERVABLES, make_observable
from stablemd.observables.structure_factor import StructureFactor
from stablemd.observables.tetrahedral_order import TetrahedralOrder
from stablemd.settings import Settings
from stablemd.system import System

LossName = Literal["mse", "integrated_absolute", "huber", "hinge", "wasserstein", "kl"]
Pair = tuple[str, str]


class _Compared(Settings):
    """How an observable is compared with its reference."""

    loss: LossName = Field("mse", description="distance between average and reference")
    weight: NonNegativeFloat = Field(1.0, description="weight of this loss in training")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        """The observable.

        Args:
            system: the atoms.
            reference: positions (n, N, 3) in Å of reference structures, for what is learnt
                from them.
            cells: their cells (n, 3, 3) in Å; the system's by default.
        """
        raise NotImplementedError


class DistanceDistributionSettings(_Compared):
    """h(r), the distribution of interatomic distances."""

    name: Literal["distance_distribution"] = "distance_distribution"
    r_max: PositiveFloat = Field(10.0, description="longest distance in Å")
    n_bins: PositiveInt = Field(500, ge=10, description="bins on [0, r_max]")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        return DistanceDistribution(system, r_max=self.r_max, n_bins=self.n_bins)


class BondExcessSettings(_Compared):
    """Excursions of bonds beyond the lengths that the reference visits."""

    name: Literal["bond_excess"] = "bond_excess"
    margin: PositiveFloat = Field(
        1.1, description="tolerance per bond as a multiple of its largest reference deviation"
    )
    loss: LossName = Field("integrated_absolute", description="distance to the reference")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        return BondExcess.from_reference(system, reference, cells, margin=self.margin)


class CurveFileSettings(Settings):
    """A file that holds the reference average as a curve, e.g. an experiment."""

    path: Path = Field(description="text table or npz file, relative to the configuration file")
    x: str | int = Field(0, description="column of the distance: its number from 0, or its name")
    y: str | int = Field(1, description="column of the value")
    error: str | int | None = Field(
        None,
        description="column of the value's standard error; training then measures deviations in "
        "units of it (not with wasserstein and kl)",
    )
    least_error: PositiveFloat = Field(
        0.01, description="smallest error that counts, for points that state none"
    )
    length_unit: Literal["angstrom", "nm"] = Field("angstrom", description="unit of column x")

    def average(self, axis: Tensor) -> ReferenceAverage:
        """The curve averaged over the bins around ``axis`` (D,)."""
        curve = read_curve(**self.model_dump(exclude={"least_error"}))
        average = curve.over_bins(axis)
        if average.stderr is None:
            return average
        return replace(average, stderr=average.stderr.clamp_min(self.least_error))


class RadialDistributionSettings(_Compared):
    """g(r), the radial distribution function of a periodic system."""

    name: Literal["rdf"] = "rdf"
    pair: Pair | None = Field(None, description="two chemical symbols; null: all pairs")
    r_max: PositiveFloat = Field(6.0, description="longest distance in Å, also beyond half a cell")
    n_bins: PositiveInt = Field(120, ge=10, description="bins on [0, r_max]")
    intramolecular: bool = Field(True, description="whether pairs within a molecule count")
    kernel: Literal["spline", "box"] = Field(
        "spline", description="spline: differentiable; box: plain counting"
    )
    reference: CurveFileSettings | None = Field(
        None, description="a file as the reference; null: the reference structures"
    )

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        rdf = RadialDistribution(
            system, pair=self.pair, r_max=self.r_max, n_bins=self.n_bins,
            intramolecular=self.intramolecular, kernel=self.kernel,
        )  # fmt: skip
        if self.reference is not None:
            rdf.reference = self.reference.average(rdf.axis.cpu())
        return rdf


class AngleDistributionSettings(_Compared):
    """The distribution of bond angles."""

    name: Literal["angle_distribution"] = "angle_distribution"
    elements: tuple[str, str, str] | None = Field(
        None, description="three chemical symbols, the vertex in the middle; null: all angles"
    )
    n_bins: PositiveInt = Field(180, ge=10, description="bins between 0° and 180°")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        return AngleDistribution(system, elements=self.elements, n_bins=self.n_bins)


class DihedralDistributionSettings(_Compared):
    """The distribution of dihedral angles."""

    name: Literal["dihedral_distribution"] = "dihedral_distribution"
    elements: tuple[str, str, str, str] | None = Field(
        None, description="four chemical symbols along the bonds; null: all dihedrals"
    )
    atoms: tuple[int, int, int, int] | None = Field(
        None, description="or four atoms, counted from 0, of the one dihedral"
    )
    n_bins: PositiveInt = Field(180, ge=10, description="bins between -180° and 180°")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        return DihedralDistribution(
            system, elements=self.elements, atoms=self.atoms, n_bins=self.n_bins
        )


class BondLengthsSettings(_Compared):
    """Mean lengths of bonds."""

    name: Literal["bond_lengths"] = "bond_lengths"
    by_elements: bool = Field(False, description="one mean per pair of elements, not per bond")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        return BondLengths(system, by_elements=self.by_elements)


class IntermolecularDistanceSettings(_Compared):
    """The shortest distance between atoms of different molecules."""

    name: Literal["intermolecular_distance"] = "intermolecular_distance"
    pair: Pair | None = Field(None, description="two chemical symbols; null: any")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        return MinimumIntermolecularDistance(system, pair=self.pair)


class ContactExcessSettings(_Compared):
    """Contacts of different molecules that are closer than any in the reference."""

    name: Literal["contact_excess"] = "contact_excess"
    margin: NonNegativeFloat = Field(
        0.05, description="of the closest distances below those of the reference, in Å"
    )
    width: PositiveFloat = Field(0.1, description="intrusion in Å that counts one")
    loss: LossName = Field("integrated_absolute", description="distance to the reference")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        return ContactExcess.from_reference(
            system, reference, cells, margin=self.margin, width=self.width
        )


class CoordinationNumberSettings(_Compared):
    """The mean number of neighbours within a cutoff."""

    name: Literal["coordination_number"] = "coordination_number"
    pair: Pair | None = Field(None, description="symbols of atom and neighbour; null: all atoms")
    cutoff: PositiveFloat = Field(3.5, description="distance in Å where a neighbour counts half")
    width: PositiveFloat = Field(0.2, description="width of the transition in Å")
    intramolecular: bool = Field(True, description="whether atoms of the same molecule count")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        return CoordinationNumber(
            system, pair=self.pair, cutoff=self.cutoff, width=self.width,
            intramolecular=self.intramolecular,
        )  # fmt: skip


class TetrahedralOrderSettings(_Compared):
    """Tetrahedral order of the four nearest neighbours."""

    name: Literal["tetrahedral_order"] = "tetrahedral_order"
    element: str = Field("O", description="chemical symbol of centres and neighbours")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        return TetrahedralOrder(system, element=self.element)


class RadiusOfGyrationSettings(_Compared):
    """Mean radius of gyration of the molecules."""

    name: Literal["radius_of_gyration"] = "radius_of_gyration"

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        return RadiusOfGyration(system)


class DensitySettings(_Compared):
    """Mass density, in g/cm³."""

    name: Literal["density"] = "density"

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        return Density(system)


class StructureFactorSettings(_Compared):
    """S(q), the structure factor of a periodic system."""

    name: Literal["structure_factor"] = "structure_factor"
    pair: Pair | None = Field(None, description="two chemical symbols; null: all atoms")
    q_max: PositiveFloat = Field(6.0, description="longest wave vector in 1/Å")
    bin_width: PositiveFloat = Field(0.1, description="of the bins over |q| in 1/Å")
    max_vectors: PositiveInt = Field(24, description="wave vectors per bin at most")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        return StructureFactor(
            system, pair=self.pair, q_max=self.q_max, bin_width=self.bin_width,
            max_vectors=self.max_vectors,
        )  # fmt: skip


class UserDefinedSettings(_Compared):
    """A function of your own, made an observable with ``stablemd.observables.observable``."""

    name: Literal["user_defined"] = "user_defined"
    module: str = Field(description="Python module that defines it; importing it registers it")
    observable: str = Field(description="the name it is registered by")
    options: dict[str, Any] = Field(default_factory=dict, description="its options")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        try:
            importlib.import_module(self.module)
        except ImportError as error:
            raise ConfigError(
                f"the module {self.module!r} of the observable {self.observable!r} can't be "
                f"imported ({error}); put its folder on PYTHONPATH"
            ) from error
        if self.observable not in OBSERVABLES:
            raise ConfigError(
                f"module {self.module!r} registers no observable {self.observable!r}; known are "
                f"{sorted(OBSERVABLES)}"
            )
        return make_observable(self.observable, system, **self.options)


ObservableSettings = Annotated[
    DistanceDistributionSettings
    | BondExcessSettings
    | RadialDistributionSettings
    | AngleDistributionSettings
    | DihedralDistributionSettings
    | BondLengthsSettings
    | IntermolecularDistanceSettings
    | ContactExcessSettings
    | CoordinationNumberSettings
    | TetrahedralOrderSettings
    | RadiusOfGyrationSettings
    | DensitySettings
    | StructureFactorSettings
    | UserDefinedSettings,
    Field(discriminator="name"),
]
