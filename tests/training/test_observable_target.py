from __future__ import annotations

import pytest
import torch

from stablemd.observables import ReferenceAverage
from stablemd.observables.settings import BondExcessSettings, DistanceDistributionSettings
from stablemd.training.observable_target import ObservableTarget

DISTANCES = DistanceDistributionSettings(r_max=3.0, n_bins=60, loss="mse", weight=0.5)
EXCESS = BondExcessSettings(margin=1.0, loss="integrated_absolute", weight=2.0)


def test_values_stand_side_by_side(toy) -> None:
    target = ObservableTarget(toy.system, toy.reference.positions, (DISTANCES, EXCESS))
    values = target.values(toy.train.positions)
    assert values.shape == (len(toy.train), 61) and values.dtype == torch.float64
    distances, excess = target.observables
    assert [distances.name, excess.name] == ["distance_distribution", "bond_excess"]
    assert torch.equal(values[:, :60], distances.values(toy.train.positions))
    assert torch.equal(values[:, 60:], excess.values(toy.train.positions))


def test_the_loss_is_zero_at_the_reference_average_and_nowhere_else(toy) -> None:
    target = ObservableTarget(toy.system, toy.reference.positions, (DISTANCES, EXCESS))
    at_home = target.values(toy.reference.positions).mean(dim=0)
    assert float(target.loss(at_home)) == 0.0
    for component in (20, 60):
        moved = at_home.clone()
        moved[component] += 0.1
        assert float(target.loss(moved)) > 0.0


def test_the_loss_is_the_weighted_sum_of_each_observables_own(toy) -> None:
    """An integral over the axis for a distribution, a plain sum for separate bonds."""
    target = ObservableTarget(toy.system, toy.reference.positions, (DISTANCES, EXCESS))
    at_home = target.values(toy.reference.positions).mean(dim=0)
    deviation = torch.linspace(-0.3, 0.4, 61, dtype=torch.float64)
    bin_width = 3.0 / 60
    squared = float(deviation[:60].square().sum()) * bin_width
    expected = 0.5 * squared + 2.0 * float(deviation[60].abs())
    assert float(target.loss(at_home + deviation)) == pytest.approx(expected, rel=1e-12)


def test_weights_scale_the_gradient(toy) -> None:
    stretched = 1.4 * toy.train.positions

    def slope(*settings) -> torch.Tensor:
        target = ObservableTarget(toy.system, toy.reference.positions, settings)
        mean = target.values(stretched).mean(dim=0).requires_grad_(True)
        return torch.autograd.grad(target.loss(mean), mean)[0]

    heavy = EXCESS.model_copy(update={"weight": 6.0})
    both = slope(DISTANCES, heavy)
    torch.testing.assert_close(both[:60], slope(DISTANCES), rtol=1e-12, atol=0)
    torch.testing.assert_close(both[60:], 3.0 * slope(EXCESS), rtol=1e-12, atol=0)
    assert float(both[60]) == 6.0  # absolute deviation: a slope of one times its weight


@pytest.mark.parametrize(("loss", "scaled"), [("mse", True), ("wasserstein", False)])
def test_a_reference_with_errors_is_reached_in_units_of_them(toy, loss, scaled) -> None:
    mean = torch.zeros(60, dtype=torch.float64)

    class FromFile(DistanceDistributionSettings):
        stderr: float

        def build(self, system, reference, cells=None):
            made = super().build(system, reference, cells)
            made.reference = ReferenceAverage(mean, torch.full_like(mean, self.stderr), "a file")
            return made

    deviation = torch.linspace(-0.3, 0.4, 60, dtype=torch.float64)
    losses = []
    for stderr in (1.0, 0.5):
        choice = FromFile(r_max=3.0, n_bins=60, loss=loss, stderr=stderr)
        target = ObservableTarget(toy.system, toy.reference.positions, (choice,))
        assert float(target.loss(mean)) == 0.0
        losses.append(float(target.loss(deviation)))
    assert losses[1] == pytest.approx((4.0 if scaled else 1.0) * losses[0])
