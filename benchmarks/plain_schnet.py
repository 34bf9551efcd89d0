"""stablemd's SchNet in PyTorch's own operations alone: no compiled loops, no tables."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from stablemd.potentials.schnet import Interaction, SchNet


class PlainInteraction(Interaction):
    """An interaction whose messages are gathered, multiplied and summed by PyTorch."""

    def convolved(self, features: Tensor, filters: Tensor, pairs: Tensor) -> Tensor:
        first, second = pairs
        sums = torch.zeros_like(features).index_add(0, first, filters * features[second])
        return sums.index_add(0, second, filters * features[first])


def plain_schnet(potential: SchNet) -> SchNet:
    """A copy with the same weights that runs operation by operation, as PyTorch code is written.

    This is what "eager" means for a PyTorch model; ``Potential.local_energies`` of stablemd's
    SchNet already uses compiled loops for its sums over pairs, and tables for its filters.
    """
    plain = copy.deepcopy(potential)
    plain.tabulate_filters = False
    for block in plain.blocks:
        block.__class__ = PlainInteraction
    return plain
