from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stablemd.errors import DataError
from stablemd.training.energy_offset import centre_energies


def test_the_mean_error_vanishes_and_nothing_else_changes(toy) -> None:
    model = toy.model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    _, forces = model.energy_and_forces(toy.system, toy.train.positions)
    moved = replace(toy.train, energies=toy.train.energies - 310.0)
    centre_energies(model, [replace(toy.point(), train=moved)])
    energies, same = model.energy_and_forces(toy.system, toy.train.positions)
    assert float((energies - moved.energies).mean()) == pytest.approx(0.0, abs=1e-10)
    assert torch.equal(same, forces)
    assert torch.equal(model.scaled, before["scaled"])
    # once is enough
    shift = model.shift.clone()
    centre_energies(model, [replace(toy.point(), train=moved)])
    assert float(model.shift - shift) == pytest.approx(0.0, abs=1e-12)


def test_labels_are_needed(toy) -> None:
    unlabelled = replace(toy.point(), train=replace(toy.train, energies=None))
    with pytest.raises(DataError, match="energies missing"):
        centre_energies(toy.model(), [unlabelled])
