"""Parts of a NequIP model that are computed faster here than by its package on a CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from stablemd.potentials.adapters.replaced_modules import Replacement, replaced
from stablemd.potentials.adapters.summed_convolution import SummedConvolution, summed_convolution


class NequIPConvolution(nn.Module):
    """A ``SummedConvolution`` with the arguments of nequip's ``TensorProductScatter``."""

    def __init__(self, convolution: SummedConvolution) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(
        self,
        x: Tensor,
        edge_attr: Tensor,
        edge_weight: Tensor,
        edge_dst: Tensor,
        edge_src: Tensor,
    ) -> Tensor:
        """Messages (n, irreps) from nodes, edges, weights, and the atoms that receive and send."""
        messages: Tensor = self.convolution(x, edge_attr, edge_weight, (edge_src, edge_dst))
        return messages


def faster_modules(model: nn.Module) -> AbstractContextManager[None]:
    """Within, a NequIP model sums over neighbours by modules of this package.

    They give the same numbers up to rounding.  Modules of other kinds, such as accelerated ones
    for GPUs, are left alone.
    """
    found: list[Replacement] = []
    for block in list(model.modules()):
        own: Any = getattr(block, "tp_scatter", None)
        # By name, since a model from a package file brings its classes along.
        if type(own).__name__ != "TensorProductScatter":
            continue
        convolution = summed_convolution(own.tp)
        if convolution is not None:
            found.append((block, "tp_scatter", NequIPConvolution(convolution)))
    return replaced(found)
