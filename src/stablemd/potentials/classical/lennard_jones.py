"""The Lennard-Jones potential."""

from __future__ import annotations

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from stablemd.errors import PotentialError
from stablemd.potentials.classical.pair_term import PairTerm

N_ELEMENTS = 119


class LennardJones(PairTerm):
    """``4 ε ((σ/r)¹² - (σ/r)⁶)`` between all pairs, by element.

    Unlike elements combine by Lorentz and Berthelot's rules: the arithmetic mean of σ
    and the geometric mean of ε.

    Args:
        parameters: (σ in Å, ε in eV) of each chemical symbol; elements that are not
            named do not interact.  The default is argon's.
        cutoff: Å.
        trainable: whether σ and ε take part in training.

    Raises:
        PotentialError: a symbol is unknown, or σ is not positive, or ε is negative.

    Source: J. E. Jones, Proc. R. Soc. Lond. A 106, 463 (1924).
    """

    def __init__(
        self,
        parameters: dict[str, tuple[float, float]] | None = None,
        cutoff: float = 8.5,
        trainable: bool = True,
    ) -> None:
        super().__init__(cutoff, trainable)
        given = {"Ar": (3.405, 0.010323)} if parameters is None else parameters
        sigma, root = torch.ones(N_ELEMENTS), torch.zeros(N_ELEMENTS)
        for symbol, (size, depth) in given.items():
            if symbol not in atomic_numbers:
                raise PotentialError(f"LennardJones: {symbol!r} is not a chemical symbol")
            if not size > 0 or not depth >= 0:
                raise PotentialError(
                    f"LennardJones: {symbol} has σ = {size} Å and ε = {depth} eV; give a "
                    "positive σ and an ε that is not negative"
                )
            sigma[atomic_numbers[symbol]] = size
            root[atomic_numbers[symbol]] = depth**0.5
        self.hyperparameters = {
            "parameters": {k: tuple(v) for k, v in given.items()},
            "cutoff": self.cutoff,
            "trainable": trainable,
        }
        self.sigma = nn.Parameter(sigma)
        self.root_epsilon = nn.Parameter(root)
        self._freeze_unless_trainable()

    def pair_energies(self, first: Tensor, second: Tensor, distances: Tensor) -> Tensor:
        sigma = 0.5 * (self.sigma[first] + self.sigma[second])
        epsilon = self.root_epsilon[first] * self.root_epsilon[second]
        sixth = (sigma / distances) ** 6
        return 4.0 * epsilon * (sixth.square() - sixth)
