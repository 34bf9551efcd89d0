"""SPC/Fw water: labels of published frames, consistency of forces, resumption."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stablemd.data.generate import FlexibleWater, generate_water
from stablemd.data.generate.water import ANGLE, BOND_LENGTH, water_grid
from stablemd.errors import ConfigError, MissingDependencyError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "water"


@pytest.fixture
def _openmm() -> None:
    pytest.importorskip("openmm", reason="OpenMM is not installed (extra 'openmm')")


@pytest.mark.usefixtures("_openmm")
@pytest.mark.parametrize("exact", [True, False])
def test_labels_equal_those_of_the_reference_frames(exact: bool) -> None:
    path = SHARED / "water_1k_contiguous_10fs.npz"
    if not path.is_file():
        pytest.skip(f"the reference frames {path.name} are not beside the repository")
    with np.load(path) as file:
        chosen = slice(0, 1000, 250)
        positions, energies, forces = (file[key][chosen] for key in ("R", "E", "F"))
    method = FlexibleWater(64, exact=exact)
    for x, energy, force in zip(positions, energies.ravel(), forces, strict=True):
        found_energy, found_forces = method.energy_and_forces(x)
        np.testing.assert_allclose(found_forces, force, atol=1e-3, rtol=0)
        assert found_energy == pytest.approx(energy, abs=192 * (1e-5 if exact else 1e-4))


@pytest.mark.usefixtures("_openmm")
def test_forces_are_minus_the_gradient_of_the_energy() -> None:
    method = FlexibleWater(58, exact=True)
    x = water_grid(58, method.edge, (0, 0))
    _, forces = method.energy_and_forces(x)
    move = np.random.default_rng(0).normal(size=x.shape)
    h = 1e-4
    up, down = (method.energy_and_forces(x + s * move)[0] for s in (h, -h))
    assert (forces * move).sum() == pytest.approx(-(up - down) / (2 * h), rel=1e-4)


@pytest.mark.usefixtures("_openmm")
def test_an_interrupted_run_gives_the_same_frames(tmp_path: Path) -> None:
    plan = {"n_molecules": 58, "n_frames": 3, "stride": 4, "equilibration_steps": 0, "dt_fs": 0.25}
    whole = generate_water(**plan)
    partial = tmp_path / "partial"

    def stop(done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_water(**plan, checkpoint=partial, progress=stop)
    resumed = generate_water(**plan, checkpoint=partial)
    assert torch.equal(resumed.positions, whole.positions)
    assert whole.cell is not None and whole.forces is not None and bool(whole.pbc.all())
    bonds = whole.positions[:, 1::3] - whole.positions[:, ::3]
    assert float((bonds.norm(dim=-1) - BOND_LENGTH).abs().max()) < 0.2
    assert bool(whole.forces.isfinite().all())


def test_molecules_on_the_grid_are_whole_and_apart() -> None:
    x = water_grid(64, 12.4, (3, 0)).reshape(64, 3, 3)
    arms = x[:, 1:] - x[:, :1]
    np.testing.assert_allclose(np.linalg.norm(arms, axis=2), BOND_LENGTH)
    cosine = (arms[:, 0] * arms[:, 1]).sum(axis=1) / BOND_LENGTH**2
    np.testing.assert_allclose(np.arccos(cosine), ANGLE)
    apart = np.linalg.norm(x[:, None, 0] - x[None, :, 0], axis=2)
    assert apart[np.triu_indices(64, 1)].min() > 3.0
    assert abs(arms.mean()) < 0.1, "orientations are random"


def test_a_small_cell_and_a_missing_package_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"57 molecules .* 58 or more"):
        FlexibleWater(57)
    monkeypatch.setitem(sys.modules, "openmm", None)
    with pytest.raises(MissingDependencyError, match=r"stablemd\[openmm\]"):
        generate_water()
