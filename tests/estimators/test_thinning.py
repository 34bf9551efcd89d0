"""Thinning keeps every coefficient on average, and both sums exactly."""

from __future__ import annotations

import pytest
import torch

from stablemd.estimators import thin_coefficients


def coefficients(n: int = 60) -> torch.Tensor:
    c = torch.randn(n, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    c[5], c[17] = 30.0, -25.0
    return c - c.mean()


def test_every_coefficient_is_right_on_average() -> None:
    c = coefficients()
    total = torch.zeros_like(c)
    square = torch.zeros_like(c)
    n_seeds = 4000
    for seed in range(n_seeds):
        index, kept = thin_coefficients(c, 16, seed=seed)
        total[index] += kept
        square[index] += kept**2
    mean = total / n_seeds
    stderr = ((square / n_seeds - mean**2).clamp_min(0.0) / n_seeds).sqrt()
    # 60 coefficients: 4.5 standard errors leave a chance of about 4e-4.
    assert bool(((mean - c).abs() <= 4.5 * stderr + 1e-9).all())


@pytest.mark.parametrize("n_max", [2, 7, 16, 59])
def test_sums_of_both_signs_are_exact_and_the_number_is_bounded(n_max: int) -> None:
    c = coefficients()
    for seed in range(20):
        index, kept = thin_coefficients(c, n_max, seed=seed)
        assert len(index) <= n_max
        assert len(index.unique()) == len(index)
        assert float(kept[kept > 0].sum()) == pytest.approx(float(c[c > 0].sum()), rel=1e-12)
        assert float(kept[kept < 0].sum()) == pytest.approx(float(c[c < 0].sum()), rel=1e-12)


def test_large_coefficients_are_kept_as_they_are() -> None:
    c = coefficients()
    for seed in range(20):
        index, kept = thin_coefficients(c, 16, seed=seed)
        for large in (5, 17):
            assert float(kept[index == large]) == float(c[large])


def test_few_frames_stay_untouched() -> None:
    c = coefficients()[:10]
    index, kept = thin_coefficients(c, 10, seed=0)
    assert torch.equal(index, torch.arange(10))
    assert torch.equal(kept, c)


def test_one_sided_coefficients_use_all_places() -> None:
    c = torch.ones(40, dtype=torch.float64)
    index, kept = thin_coefficients(c, 8, seed=1)
    assert len(index) == 8
    assert float(kept.sum()) == pytest.approx(40.0)
