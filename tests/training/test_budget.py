from __future__ import annotations

import pytest

from stablemd.training.budget import ErrorBudget
from stablemd.training.label_errors import LabelErrors

START = LabelErrors(energy_mae_ev=0.04, force_mae_ev_per_angstrom=0.1)


def errors(energy: float = 1.0, force: float = 1.0) -> LabelErrors:
    """Errors as multiples of the start."""
    return LabelErrors(energy * START.energy_mae_ev, force * START.force_mae_ev_per_angstrom)


def test_usage_grows_from_0_at_the_start_to_1_at_the_bound() -> None:
    budget = ErrorBudget(START, force_factor=1.2, energy_factor=None)
    assert budget.usage(START) == 0.0
    for share in (0.25, 0.5, 1.0, 2.0):
        assert budget.usage(errors(force=1.0 + 0.2 * share)) == pytest.approx(share)
    assert budget.usage(errors(force=0.3)) == 0.0  # a better model uses nothing
    assert budget.usage(errors(energy=50.0)) == 0.0  # that error has no bound
    assert budget.allows(errors(force=1.199)) and not budget.allows(errors(force=1.201))


def test_with_two_bounds_the_tighter_one_counts() -> None:
    budget = ErrorBudget(START, force_factor=1.2, energy_factor=2.0)
    assert budget.usage(errors(energy=1.5, force=1.05)) == pytest.approx(0.5)
    assert budget.usage(errors(energy=1.1, force=1.15)) == pytest.approx(0.75)
    assert not budget.allows(errors(energy=2.1, force=0.5))
    assert ErrorBudget(START, None, 2.0).allows(errors(energy=1.9, force=9.0))


def test_without_a_bound_everything_is_allowed() -> None:
    budget = ErrorBudget(START, None, None)
    assert budget.usage(errors(energy=1e6, force=1e6)) == 0.0
    assert budget.allows(errors(energy=1e6, force=1e6))


def test_a_factor_of_one_allows_no_growth_at_all() -> None:
    budget = ErrorBudget(START, force_factor=1.0, energy_factor=None)
    assert budget.allows(START) and budget.allows(errors(force=0.999))
    assert not budget.allows(errors(force=1.0 + 1e-9))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_errors_that_are_not_finite_are_over_every_bound(broken: float) -> None:
    for factors in ((1.1, None), (None, 1.1), (1.1, 1.1)):
        budget = ErrorBudget(START, *factors)
        assert not budget.allows(errors(energy=broken, force=broken))
