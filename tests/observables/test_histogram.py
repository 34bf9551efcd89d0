"""Two routes to one histogram: the compiled loop, and the form with a gradient."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from stablemd.observables.histogram import Histogram

ENDS = [*product(("open", "reflect"), repeat=2), ("periodic", "periodic")]


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("width", [1, 2, 5])
def test_the_compiled_counts_equal_those_with_a_gradient(ends, width: int) -> None:
    histogram = Histogram(-1.0, 2.0, 30, bandwidth=width * 0.1, ends=ends)
    generator = torch.Generator().manual_seed(0)
    values = -1.5 + 4.0 * torch.rand(7, 400, dtype=torch.float64, generator=generator)
    values[0, :4] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e300])
    values[1, :4] = torch.tensor([-1.0, 2.0, -1.0 - 0.15 * width, 2.0 + 0.15 * width])
    compiled = histogram.counts(values)
    with_gradient = histogram.counts(values.clone().requires_grad_(True))
    assert with_gradient.requires_grad and not compiled.requires_grad
    torch.testing.assert_close(compiled, with_gradient.detach(), rtol=0, atol=1e-12)
    assert float(compiled.sum()) > 1000.0
    torch.testing.assert_close(histogram.counts(values, scale=0.5), 0.5 * compiled)


def test_without_rows_or_values_nothing_is_counted() -> None:
    histogram = Histogram(0.0, 1.0, 10)
    assert histogram.counts(torch.zeros(0, 5, dtype=torch.float64)).shape == (0, 10)
    assert float(histogram.counts(torch.zeros(3, 0, dtype=torch.float64)).abs().sum()) == 0.0
