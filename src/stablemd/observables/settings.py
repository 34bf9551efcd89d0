"""Observables as settings: which one, how it is compared, and with what weight."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from stablemd.observables.base import Observable
from stablemd.observables.bond_excess import BondExcess
from stablemd.observables.distance_distribution import DistanceDistribution
from stablemd.settings import Settings
from stablemd.system import System

LossName = Literal["mse", "integrated_absolute", "huber", "wasserstein"]


class DistanceDistributionSettings(Settings):
    """h(r), the distribution of interatomic distances."""

    name: Literal["distance_distribution"] = "distance_distribution"
    r_max: PositiveFloat = Field(10.0, description="longest distance in Å")
    n_bins: PositiveInt = Field(500, ge=10, description="bins on [0, r_max]")
    loss: LossName = Field("mse", description="distance between average and reference")
    weight: NonNegativeFloat = Field(1.0, description="weight of this loss in training")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        """The observable; ``reference`` positions (n, N, 3) are not needed for this one."""
        return DistanceDistribution(system, r_max=self.r_max, n_bins=self.n_bins)


class BondExcessSettings(Settings):
    """Excursions of bonds beyond the lengths that the reference visits."""

    name: Literal["bond_excess"] = "bond_excess"
    margin: PositiveFloat = Field(
        1.1, description="tolerance per bond as a multiple of its largest reference deviation"
    )
    loss: LossName = Field("integrated_absolute", description="distance to the reference")
    weight: NonNegativeFloat = Field(1.0, description="weight of this loss in training")

    def build(self, system: System, reference: Tensor, cells: Tensor | None = None) -> Observable:
        """The observable with tolerances from reference positions (n, N, 3) in Å."""
        return BondExcess.from_reference(system, reference, cells, margin=self.margin)


ObservableSettings = Annotated[
    DistanceDistributionSettings | BondExcessSettings, Field(discriminator="name")
]
