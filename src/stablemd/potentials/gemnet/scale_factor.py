"""Constants that keep the variance of activations through sums and products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from stablemd.potentials.gemnet.scaled import Scaled


class ScaleFactor(nn.Module):
    """A constant factor, fitted once on structures of the training data.

    Sums over neighbours and products with basis functions change the variance
    by an amount that depends on the data; the factor sets it back to that of a
    reference (GemNet, section 5, "scaling factors").  It is 1 until fitted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.ones(()))
        self.fitting = False

    value: Tensor

    def forward(self, x: Scaled, reference: Scaled) -> Scaled:
        """``x`` times the factor, which is fitted first while ``fitting`` is set.

        Args:
            x: what is scaled, (..., F).
            reference: what it was made from, (..., F').
        """
        if self.fitting:
            self._fit(x, reference)
        return Scaled(x.values, self.value * x.factor)

    @torch.no_grad()
    def _fit(self, x: Scaled, reference: Scaled) -> None:
        found, wanted = _variance(x), _variance(reference)
        if found > 0.0 and wanted > 0.0:
            self.value.fill_((wanted / found) ** 0.5)


def _variance(x: Scaled) -> float:
    """Variance over samples, averaged over features; 0 where there are not two samples."""
    samples = x.values.reshape(-1, x.values.shape[-1]).double()
    return float(x.factor) ** 2 * float(samples.var(dim=0).mean()) if len(samples) > 1 else 0.0


@contextmanager
def fitting_scale_factors(model: nn.Module) -> Iterator[None]:
    """While this is open one pass through the model fits its factors.

    Each layer scales its output by its new factor before the next layer sees
    it, so one pass is enough.
    """
    factors = [module for module in model.modules() if isinstance(module, ScaleFactor)]
    for factor in factors:
        factor.value.fill_(1.0)
        factor.fitting = True
    try:
        yield
    finally:
        for factor in factors:
            factor.fitting = False
