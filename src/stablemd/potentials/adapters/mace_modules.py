"""Parts of a MACE that are computed faster here than by its package on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from stablemd.potentials.adapters.mace_contraction import FoldedContraction
from stablemd.potentials.adapters.packages import MACE
from stablemd.potentials.adapters.replaced_modules import Replacement, replaced
from stablemd.potentials.adapters.summed_convolution import summed_convolution


@contextmanager
def faster_modules(model: nn.Module) -> Iterator[None]:
    """Within, a MACE computes contractions and sums over neighbours by modules of this package.

    They give the same numbers up to rounding, from the same parameters.  Modules of other kinds,
    such as accelerated ones for GPUs, are left alone.
    """
    convolutions = _convolutions(model)
    with replaced([*_contractions(model), *convolutions]):
        # MACE's word for a tensor product that also sums over neighbours.
        for block, _, _ in convolutions:
            block.conv_fusion = True  # type: ignore[assignment]
        try:
            yield
        finally:
            for block, _, _ in convolutions:
                del block.conv_fusion


def _contractions(model: Any) -> list[Replacement]:
    kind = MACE.load("modules.symmetric_contraction").SymmetricContraction
    name = "symmetric_contractions"
    return [
        (block, name, FoldedContraction(getattr(block, name)))
        for block in getattr(model, "products", ())
        if type(getattr(block, name)) is kind
        and FoldedContraction.can_be_folded(getattr(block, name))
    ]


def _convolutions(model: Any) -> list[Replacement]:
    found: list[Replacement] = []
    for block in getattr(model, "interactions", ()):
        if hasattr(block, "conv_fusion") or not hasattr(block, "conv_tp"):
            continue
        convolution = summed_convolution(block.conv_tp)
        if convolution is not None:
            found.append((block, "conv_tp", convolution))
    return found
