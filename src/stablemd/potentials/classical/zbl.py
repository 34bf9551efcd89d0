"""The universal screened repulsion of nuclei."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stablemd.potentials.classical.pair_term import PairTerm

COULOMB = 14.399645478
"""e²/(4 π ε₀) in eV Å (CODATA 2018)."""

SCREENING_LENGTH = 0.46850
"""0.8854 bohr in Å."""

COEFFICIENTS = (0.18175, 0.50986, 0.28022, 0.02817)
EXPONENTS = (3.19980, 0.94229, 0.40290, 0.20162)
CHARGE_POWER = 0.23


class ZBL(PairTerm):
    """Ziegler, Biersack and Littmark's repulsion ``Z₁ Z₂ e²/r φ(r/a)`` at short distance.

    Added to a learned model it keeps atoms apart where there are no training data.

    Args:
        cutoff: Å; at bond lengths the envelope leaves part of it, so that a model is
            best trained together with it.
        trainable: whether the screening function takes part in training; its amplitudes
            and ranges are then scaled by parameters that stay positive.

    Source: J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in
    Matter (Pergamon, 1985).
    """

    coefficients: Tensor
    exponents: Tensor

    def __init__(self, cutoff: float = 2.0, trainable: bool = False) -> None:
        super().__init__(cutoff, trainable)
        self.hyperparameters = {"cutoff": self.cutoff, "trainable": trainable}
        self.register_buffer("coefficients", torch.tensor(COEFFICIENTS))
        self.register_buffer("exponents", torch.tensor(EXPONENTS))
        self.log_amplitude = nn.Parameter(torch.zeros(()))
        self.log_range = nn.Parameter(torch.zeros(()))
        self._freeze_unless_trainable()

    def pair_energies(self, first: Tensor, second: Tensor, distances: Tensor) -> Tensor:
        z1, z2 = first.to(distances), second.to(distances)
        length = SCREENING_LENGTH * self.log_range.exp() / (z1**CHARGE_POWER + z2**CHARGE_POWER)
        reduced = (distances / length)[:, None]
        screening = (self.coefficients * torch.exp(-self.exponents * reduced)).sum(dim=1)
        return COULOMB * self.log_amplitude.exp() * z1 * z2 / distances * screening
