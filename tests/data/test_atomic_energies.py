"""Fitted element energies reproduce mean energies, and the elements' where determined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule

from stablemd.data import Frames, fit_atomic_energies
from stablemd.errors import DataError


def _frames(name: str, energies: list[float]) -> Frames:
    atoms = molecule(name)
    return Frames(
        numbers=torch.from_numpy(atoms.numbers.astype(np.int64)),
        positions=torch.from_numpy(np.tile(atoms.positions, (len(energies), 1, 1))),
        energies=torch.tensor(energies, dtype=torch.float64),
    )


def test_one_composition_shares_the_mean_energy_equally() -> None:
    fitted = fit_atomic_energies(_frames("CH3CH2OH", [-90.0, -92.0, -97.0]))
    assert fitted == pytest.approx({1: -93.0 / 9, 6: -93.0 / 9, 8: -93.0 / 9})


def test_enough_compositions_determine_the_elements() -> None:
    exact = {1: -13.6, 6: -1030.0, 8: -2040.0}
    datasets = []
    for name in ("H2O", "CH4", "CO2", "CH3OH"):
        total = sum(exact[int(z)] for z in molecule(name).numbers)
        datasets.append(_frames(name, [total + 0.5, total - 0.5]))
    assert fit_atomic_energies(*datasets) == pytest.approx(exact)


def test_compositions_count_with_their_frames() -> None:
    """Two contradicting sets of one composition: the mean over all frames."""
    fitted = fit_atomic_energies(_frames("H2O", [-3.0] * 3), _frames("H2O", [-9.0]))
    assert sum(fitted[z] for z in (8, 1, 1)) == pytest.approx(-4.5)


def test_energies_are_needed(labelled: Frames) -> None:
    with pytest.raises(DataError, match="energies are missing"):
        fit_atomic_energies(Frames(numbers=labelled.numbers, positions=labelled.positions))
    with pytest.raises(DataError, match="no frames were given"):
        fit_atomic_energies()
