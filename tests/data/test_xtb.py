"""GFN2-xTB labels: forces are minus the energy's gradient; generation resumes bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.io import write

from stablemd.data.generate import Gfn2Xtb, generate_xtb
from stablemd.errors import ConfigError, DataError, MissingDependencyError

WATER = {"temperature_k": 300.0, "n_frames": 4, "n_trajectories": 2, "stride": 3}


@pytest.fixture
def _tblite() -> None:
    pytest.importorskip("tblite", reason="tblite is not installed (extra 'tblite')")


@pytest.mark.usefixtures("_tblite")
def test_forces_are_minus_the_gradient_of_the_energy() -> None:
    atoms = molecule("CH3OH")
    rng = np.random.default_rng(0)
    x = atoms.positions + 0.05 * rng.normal(size=atoms.positions.shape)
    method = Gfn2Xtb(atoms.numbers)
    _, forces = method.energy_and_forces(x)
    h = 1e-3
    for atom, axis in [(0, 0), (1, 2), (3, 1)]:
        shift = np.zeros_like(x)
        shift[atom, axis] = h
        up, down = (method.energy_and_forces(x + s)[0] for s in (shift, -shift))
        # Self-consistency to 1e-6 hartree leaves about 1e-4 eV/Å in the forces.
        assert forces[atom, axis] == pytest.approx(-(up - down) / (2 * h), abs=5e-4)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-8)


@pytest.mark.usefixtures("_tblite")
def test_energy_agrees_with_the_package_own_calculator() -> None:
    from tblite.ase import TBLite

    atoms = molecule("H2O")
    energy, forces = Gfn2Xtb(atoms.numbers).energy_and_forces(atoms.positions)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=1e-4)


@pytest.mark.usefixtures("_tblite")
def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = generate_xtb("H2O", equilibration_steps=6, **WATER)

    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    path = tmp_path / "partial.npz"
    with pytest.raises(KeyboardInterrupt):
        generate_xtb("H2O", equilibration_steps=6, checkpoint=path, progress=interrupt, **WATER)
    resumed = generate_xtb("H2O", equilibration_steps=6, checkpoint=path, **WATER)
    assert torch.equal(resumed.positions, whole.positions)
    assert torch.equal(resumed.energies, whole.energies)
    assert torch.equal(resumed.forces, whole.forces)
    assert len(whole) == 4 and len(whole.energies.unique()) == 4


@pytest.mark.usefixtures("_tblite")
def test_labels_are_those_of_the_recorded_structures() -> None:
    frames = generate_xtb(molecule("H2O"), equilibration_steps=0, **WATER)
    energies, forces = frames.require_labels()
    method = Gfn2Xtb(frames.numbers.numpy())
    for i in range(len(frames)):
        method.forget()
        energy, force = method.energy_and_forces(frames.positions[i].numpy())
        assert float(energies[i]) == pytest.approx(energy, abs=1e-4)
        np.testing.assert_allclose(forces[i].numpy(), force, atol=1e-3)


@pytest.mark.usefixtures("_tblite")
def test_the_number_of_threads_is_left_as_it_was() -> None:
    atoms = molecule("H2O")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        Gfn2Xtb(atoms.numbers).energy_and_forces(atoms.positions)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("_tblite")
def test_start_structures_come_from_files_too(tmp_path: Path) -> None:
    write(tmp_path / "water.xyz", molecule("H2O"))
    one = {**WATER, "n_frames": 1, "n_trajectories": 1, "equilibration_steps": 0}
    from_file = generate_xtb(tmp_path / "water.xyz", **one)
    from_name = generate_xtb("H2O", **one)
    torch.testing.assert_close(from_file.positions, from_name.positions, rtol=0, atol=1e-6)


def test_impossible_requests() -> None:
    with pytest.raises(DataError, match="'unobtainium' is neither a file nor a molecule"):
        generate_xtb("unobtainium")
    with pytest.raises(DataError, match="is periodic"):
        generate_xtb(Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=np.eye(3) * 5, pbc=True))
    with pytest.raises(ConfigError, match="n_frames=5 must be a positive multiple"):
        generate_xtb("H2O", n_frames=5, n_trajectories=2)


def test_the_extra_is_named_where_tblite_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tblite", None)
    monkeypatch.setitem(sys.modules, "tblite.interface", None)
    with pytest.raises(MissingDependencyError, match=r"stablemd\[tblite\]"):
        Gfn2Xtb([8, 1, 1])
