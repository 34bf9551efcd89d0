from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from stablemd.errors import SystemDefinitionError
from stablemd.estimators.losses import LOSSES
from stablemd.observables import OBSERVABLES, BondExcess, DistanceDistribution
from stablemd.observables.settings import (
    BondExcessSettings,
    DistanceDistributionSettings,
    ObservableSettings,
)
from stablemd.system import System
from tests.observables.conftest import (
    make_methanol,
    make_methanol_frames,
    make_water_box,
    make_water_frames,
)

ANY: TypeAdapter[Any] = TypeAdapter(ObservableSettings)


def test_every_observable_can_be_chosen_by_its_name() -> None:
    systems = [
        (make_water_box(), make_water_frames()),
        (make_methanol(), make_methanol_frames()),
    ]
    for name, kind in OBSERVABLES.items():
        choice = ANY.validate_python({"name": name})
        built = []
        for system, frames in systems:
            with contextlib.suppress(SystemDefinitionError):
                built.append(choice.build(system, frames))
        assert built, name
        assert all(type(o) is kind and o.name == choice.name == name for o in built)


def test_options_reach_the_observable(methanol: System, frames: Tensor) -> None:
    distances = DistanceDistributionSettings(r_max=4.0, n_bins=80).build(methanol, frames)
    assert isinstance(distances, DistanceDistribution)
    assert len(distances.axis) == 80 and distances.r_max == 4.0
    excess = BondExcessSettings(margin=1.7).build(methanol, frames)
    assert isinstance(excess, BondExcess)
    expected = BondExcess.from_reference(methanol, frames, margin=1.7)
    torch.testing.assert_close(excess.tolerance, expected.tolerance, rtol=0, atol=0)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_can_be_chosen(loss: str) -> None:
    for name in OBSERVABLES:
        assert ANY.validate_python({"name": name, "loss": loss}).loss == loss


@pytest.mark.parametrize(
    "given",
    [
        {"name": "rdfs"},
        {"name": "rdf", "pair": ["O"]},
        {"name": "rdf", "reference": {"path": "g.txt", "length_unit": "m"}},
        {"name": "user_defined", "observable": "mine"},  # no module
        {"name": "bond_excess", "n_bins": 100},  # an option of the other one
        {"name": "bond_excess", "margin": 0.0},
        {"name": "distance_distribution", "n_bins": 5},
        {"name": "distance_distribution", "r_max": -1.0},
        {"name": "distance_distribution", "loss": "l3"},
        {"name": "distance_distribution", "weight": -1.0},
        {"name": "distance_distribution", "r_max": float("inf")},
    ],
)
def test_impossible_choices_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ANY.validate_python(given)
