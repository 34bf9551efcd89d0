"""Atomic numbers to the type indices of a model that knows certain elements."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers, chemical_symbols
from torch import Tensor, nn

from stablemd.errors import PotentialError

N_ELEMENTS = 119


class ElementTypes(nn.Module):
    """A table from atomic numbers to types.

    Args:
        numbers: atomic number of every type, in order.
        model: what the model is called, for messages.
    """

    table: Tensor

    def __init__(self, numbers: Sequence[int], model: str) -> None:
        super().__init__()
        table = torch.full((N_ELEMENTS,), -1, dtype=torch.int64)
        for index, number in enumerate(numbers):
            table[number] = index
        self._model = model
        self.symbols = [chemical_symbols[n] for n in numbers]
        self.register_buffer("table", table, persistent=False)

    @classmethod
    def from_symbols(cls, symbols: Sequence[str], model: str) -> ElementTypes:
        """From chemical symbols, one per type.

        Raises:
            PotentialError: a name is not a chemical symbol.
        """
        unknown = [s for s in symbols if s not in atomic_numbers]
        if unknown:
            raise PotentialError(
                f"{model}: its types {list(symbols)} are not all chemical symbols ({unknown} are "
                "not), so atoms can't be assigned to them; give a model whose types are elements"
            )
        return cls([atomic_numbers[s] for s in symbols], model)

    def forward(self, numbers: Tensor) -> Tensor:
        """Types (n,) of atomic numbers (n,).

        Raises:
            PotentialError: an element is not one of the model's.
        """
        types = self.table[numbers]
        if bool((types < 0).any()):
            absent = sorted({chemical_symbols[int(n)] for n in numbers[types < 0]})
            raise PotentialError(
                f"{self._model} knows the elements {', '.join(self.symbols)}, and the structure "
                f"has {', '.join(absent)}; give a model that was trained on them"
            )
        return types
