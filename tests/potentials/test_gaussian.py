"""Gaussians whose tail stays out of the denormal numbers."""

from __future__ import annotations

import pytest
import torch

from stablemd.potentials.gaussian import gaussian


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_number_is_denormal_and_none_differs_beside_one(dtype: torch.dtype) -> None:
    x = torch.linspace(-8.0, 8.0, 4001, dtype=dtype)
    values = gaussian(x, 0.3)
    assert float(values.min()) > 1e10 * torch.finfo(torch.float32).tiny
    exact = torch.exp(-x.square() / 0.18)
    torch.testing.assert_close(values, exact, rtol=0, atol=2 * torch.finfo(dtype).eps)
    # The factor of the exponent is rounded once, which matters where the exponent is large.
    torch.testing.assert_close(
        values[exact > 1e-20], exact[exact > 1e-20], rtol=100 * torch.finfo(dtype).eps, atol=0
    )


def test_derivatives_are_those_of_the_gaussian() -> None:
    x = torch.tensor([-1.1, -0.2, 0.0, 0.4, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: gaussian(y, 0.5), x)
    assert torch.autograd.gradgradcheck(lambda y: gaussian(y, 0.5), x)
