from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stablemd.data.frames import Frames
from stablemd.errors import DataError
from stablemd.potentials.base import Potential
from stablemd.potentials.batch import Batch
from stablemd.system import System
from stablemd.training.label_errors import energy_and_force_mae


class HarmonicPairs(Potential):
    """E = k/2 Σ (r - r0)² over pairs, half of it on each atom."""

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        self.offset = offset

    def local_energies(self, batch: Batch) -> Tensor:
        i, j = batch.pairs
        distance = (batch.positions[i] - batch.positions[j]).norm(dim=1)
        pair = 0.25 * self.stiffness * (distance - 1.0) ** 2
        local = batch.positions.new_full((len(batch.numbers),), self.offset)
        return local.index_add(0, i, pair).index_add(0, j, pair)


SYSTEM = System.create(["O", "H", "H"])


def labelled(n: int) -> Frames:
    generator = torch.Generator().manual_seed(1)
    positions = torch.eye(3, dtype=torch.float64) + 0.2 * torch.randn(
        n, 3, 3, generator=generator, dtype=torch.float64
    )
    energies, forces = HarmonicPairs().energy_and_forces(SYSTEM, positions)
    return Frames(SYSTEM.numbers, positions, energies, forces)


def test_a_perfect_potential_has_no_error_and_an_offset_is_an_energy_error_only() -> None:
    frames = labelled(7)
    assert energy_and_force_mae(HarmonicPairs(), SYSTEM, frames) == (0.0, 0.0)
    errors = energy_and_force_mae(HarmonicPairs(offset=0.3), SYSTEM, frames)
    assert errors.energy_mae_ev == pytest.approx(0.9)
    assert errors.force_mae_ev_per_angstrom == pytest.approx(0.0, abs=1e-12)


def test_errors_are_means_over_structures_and_components_whatever_the_chunk() -> None:
    frames = labelled(7)
    doubled = HarmonicPairs()
    doubled.stiffness.data *= 2.0  # every energy and force is off by its own value
    energies, forces = frames.require_labels()
    for chunk in (1, 3, 100):
        errors = energy_and_force_mae(doubled, SYSTEM, frames, chunk)
        assert errors.energy_mae_ev == pytest.approx(float(energies.abs().mean()))
        assert errors.force_mae_ev_per_angstrom == pytest.approx(float(forces.abs().mean()))


def test_unusable_input_is_refused() -> None:
    frames = labelled(2)
    with pytest.raises(DataError, match="same order"):
        energy_and_force_mae(HarmonicPairs(), System.create(["H", "O", "H"]), frames)
    with pytest.raises(DataError, match="energies and forces missing"):
        energy_and_force_mae(HarmonicPairs(), SYSTEM, Frames(SYSTEM.numbers, frames.positions))
    with pytest.raises(DataError, match="chunk is 0"):
        energy_and_force_mae(HarmonicPairs(), SYSTEM, frames, 0)
    broken = HarmonicPairs()
    broken.stiffness.data *= float("nan")
    with pytest.raises(DataError, match="not finite"):
        energy_and_force_mae(broken, SYSTEM, frames)
