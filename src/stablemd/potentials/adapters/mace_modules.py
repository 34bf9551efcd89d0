"""Parts of a MACE that are computed faster here than by its package on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from stablemd.potentials.adapters.mace_contraction import FoldedContraction
from stablemd.potentials.adapters.mace_convolution import SummedConvolution
from stablemd.potentials.adapters.packages import MACE


@contextmanager
def faster_modules(model: nn.Module) -> Iterator[None]:
    """Within, a MACE computes contractions and sums over neighbours by modules of this package.

    They give the same numbers up to rounding, from the same parameters.  The model is as before
    afterwards, so that it stays what its package saves and loads.  Modules of other kinds, such
    as accelerated ones for GPUs, are left alone.
    """
    contraction = MACE.load("modules.symmetric_contraction").SymmetricContraction
    replaced: list[tuple[Any, str, Any]] = []

    def replace(block: Any, name: str, module: nn.Module) -> None:
        replaced.append((block, name, getattr(block, name)))
        setattr(block, name, module)

    blocks: Any = getattr(model, "products", ())
    interactions: Any = getattr(model, "interactions", ())
    try:
        for block in blocks:
            own = block.symmetric_contractions
            if type(own) is contraction and FoldedContraction.can_be_folded(own):
                replace(block, "symmetric_contractions", FoldedContraction(own))
        for block in interactions:
            own = getattr(block, "conv_tp", None)
            if not hasattr(block, "conv_fusion") and SummedConvolution.can_be_summed(own):
                replace(block, "conv_tp", SummedConvolution(own))
                block.conv_fusion = True
        yield
    finally:
        for block, name, module in replaced:
            setattr(block, name, module)
            if name == "conv_tp":
                del block.conv_fusion
