"""MACE's symmetric contraction as one polynomial per element and channel.

Batatia et al., NeurIPS 2022, eq. 10 and 11: every output is a polynomial, of the degree of the
correlation, in the features of one channel of an atom.  The package contracts the features one
by one with all coupling coefficients, through arrays of (atoms, channels, l, l, ...); here the
parameters are folded into the coefficients first, and each element's atoms are multiplied with
them at once.  The numbers are the same up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

HIGHEST_CORRELATION = 3
"""Beyond it the products of features outgrow what the package keeps."""


class FoldedContraction(nn.Module):
    """The same function as a ``SymmetricContraction`` of mace, of its live parameters.

    Args:
        contraction: the package's module, one that ``can_be_folded``.
    """

    def __init__(self, contraction: nn.Module) -> None:
        super().__init__()
        self.parts: Any = contraction.contractions

    @staticmethod
    def can_be_folded(contraction: Any) -> bool:
        """Whether its correlation is low enough."""
        return all(part.correlation <= HIGHEST_CORRELATION for part in contraction.contractions)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Contracted features (n, channels * outputs).

        Args:
            x: features (n, channels, l).
            y: elements as one-hot vectors (n, elements).
        """
        types = y.argmax(dim=1)
        kinds, counts = torch.unique(types, return_counts=True)
        order = torch.argsort(types, stable=True)
        features = x.index_select(0, order).transpose(0, 1).contiguous()
        highest = max(part.correlation for part in self.parts)
        polynomial = [
            torch.cat([_coefficients(part, power, kinds) for part in self.parts], dim=3)
            for power in range(1, highest + 1)
        ]
        values = [
            _evaluate(some, [coefficients[element] for coefficients in polynomial])
            for element, some in enumerate(features.split(counts.tolist(), dim=1))
        ]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        by_atom = torch.cat(values, dim=1).transpose(0, 1).index_select(0, back)
        sizes = [_n_outputs(part) for part in self.parts]
        return torch.cat([v.flatten(1) for v in by_atom.split(sizes, dim=2)], dim=1)


def _evaluate(features: Tensor, polynomial: list[Tensor]) -> Tensor:
    """Outputs (channels, n, outputs) of one element's atoms.

    Args:
        features: (channels, n, l).
        polynomial: coefficients (channels, l^(p - 1), outputs, l) of the powers p = 1, 2, ...
    """
    n_outputs, n_ell = polynomial[0].shape[2:]
    inner = polynomial[0].flatten(2)
    products = features
    for power, coefficients in enumerate(polynomial[1:]):
        if power:
            products = (products[..., :, None] * features[..., None, :]).flatten(-2)
        inner = torch.baddbmm(inner, products, coefficients.flatten(2))
    if inner.shape[1] == 1:  # a polynomial of degree 1
        inner = inner.expand(-1, features.shape[1], -1)
    return (inner.unflatten(2, (n_outputs, n_ell)) * features[:, :, None, :]).sum(dim=3)


def _coefficients(part: Any, power: int, kinds: Tensor) -> Tensor:
    """Coefficients (elements, channels, l^(power - 1), outputs, l), parameters folded in."""
    weights = [part.weights_max, *part.weights]  # of the highest power first
    coupling: Tensor = part.U_tensors(min(power, part.correlation))
    n_ell = coupling.shape[-2]
    n_outputs = _n_outputs(part)
    if power > part.correlation:
        shape = (len(kinds), weights[0].shape[2], n_ell ** (power - 1), n_outputs, n_ell)
        return weights[0].new_zeros(shape)
    weight = weights[part.correlation - power].index_select(0, kinds)
    coupling = coupling.reshape(n_outputs, n_ell, n_ell ** (power - 1), coupling.shape[-1])
    return torch.einsum("olmk,ekc->ecmol", coupling, weight)


def _n_outputs(part: Any) -> int:
    coupling: Tensor = part.U_tensors(1)
    return coupling.shape[0] if coupling.ndim == 3 else 1
