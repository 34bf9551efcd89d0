"""The demo's embedded reference data are what they claim to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import stablemd.data
from stablemd.data import Frames, read_frames, system_from_frames
from stablemd.units import KB

PATH = Path(stablemd.data.__file__).parents[1] / "demo" / "data" / "ethanol_gfn2_500K.npz"


@pytest.fixture(scope="module")
def ethanol() -> Frames:
    return read_frames(PATH)


def test_it_is_intact_ethanol(ethanol: Frames) -> None:
    system = system_from_frames(ethanol)
    assert system.formula == "C2H6O"
    x = ethanol.positions
    i, j = system.bonds.T
    lengths = (x[:, i] - x[:, j]).norm(dim=-1)
    assert len(system.bonds) == 8
    assert float((lengths - system.bond_lengths).abs().max()) < 0.5


def test_energies_fluctuate_as_at_500_k(ethanol: Frames) -> None:
    """Near-harmonic internal degrees of freedom: var E = (3N - 6)/2 (kT)²."""
    energies, forces = ethanol.require_labels()
    expected = np.sqrt((3 * 9 - 6) / 2) * KB * 500.0
    assert float(energies.std()) == pytest.approx(expected, rel=0.1)
    # GFN2-xTB conserves momentum; the file's forces are in single precision.
    assert float(forces.sum(dim=1).abs().max()) < 1e-4


def test_its_labels_are_gfn2_xtb(ethanol: Frames) -> None:
    pytest.importorskip("tblite", reason="tblite is not installed (extra 'tblite')")
    from stablemd.data.generate import Gfn2Xtb

    energies, forces = ethanol.require_labels()
    method = Gfn2Xtb(ethanol.numbers.numpy())
    for i in (0, 1234, 3999):
        method.forget()
        energy, force = method.energy_and_forces(ethanol.positions[i].numpy())
        assert float(energies[i]) == pytest.approx(energy, abs=1e-4)
        np.testing.assert_allclose(forces[i].numpy(), force, atol=1e-3)


def test_its_origin_is_written_in_it() -> None:
    with np.load(PATH) as file:
        assert str(file["energy_unit"]) == "eV"
        assert "GFN2-xTB" in str(file["method"])
        assert float(file["temperature_k"]) == 500.0
        assert float(file["frame_interval_fs"]) >= 25.0
        assert np.array_equal(np.bincount(file["trajectory"]), [500] * 8)
    assert PATH.stat().st_size < 1_000_000
