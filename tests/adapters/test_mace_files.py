"""Files of MACE: models with several heads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials.adapters.packages import MACE
from stablemd.potentials.files import load_potential
from stablemd.system import System


@pytest.mark.skipif(not MACE.is_installed, reason="mace-torch is not installed here")
def test_a_head_is_named_or_it_is_an_error(
    mace_with_heads: Path, ethanol: System, ethanol_positions: Tensor
) -> None:
    path = mace_with_heads
    with pytest.raises(PotentialError, match="has the heads pbe, hybrid; name one"):
        load_potential(path)
    with pytest.raises(PotentialError, match="no head 'dft'"):
        load_potential(path, options={"head": "dft"})
    with pytest.raises(PotentialError, match="haed"):
        load_potential(path, options={"haed": "pbe"})
    with_atoms = load_potential(path, options={"head": "pbe"})
    without = load_potential(path, options={"head": "pbe", "isolated_atoms": False})
    difference = with_atoms.energy(ethanol, ethanol_positions) - without.energy(
        ethanol, ethanol_positions
    )
    isolated = 6 * -13.6 + 2 * -1030.0 + -2040.0
    torch.testing.assert_close(difference, torch.full_like(difference, isolated))
