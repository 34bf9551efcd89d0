"""Files of nequip: a checkpoint of its own training, and its own tools on what is saved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from torch import Tensor

from stablemd.config import RunConfig
from stablemd.config_file import _absolute, read_yaml
from stablemd.errors import PotentialError
from stablemd.potentials import NequIP
from stablemd.potentials.adapters.packages import NEQUIP
from stablemd.potentials.files import load_potential, save_potential
from stablemd.system import System

pytestmark = pytest.mark.skipif(not NEQUIP.is_installed, reason="nequip is not installed here")


def own_energy(path: Path) -> float:
    from nequip.integrations.ase import NequIPCalculator

    calculator = NequIPCalculator._from_saved_model(
        str(path), chemical_species_to_atom_type_map=True
    )
    torch.set_default_dtype(torch.float64)
    atoms = molecule("CH3CH2OH")
    atoms.calc = calculator
    return float(atoms.get_potential_energy())


def here() -> Tensor:
    return torch.from_numpy(molecule("CH3CH2OH").positions)[None]


def test_a_checkpoint_is_loaded_changed_and_saved(
    nequip_checkpoint: Path, tmp_path: Path, ethanol: System
) -> None:
    """Its averaged weights, which nequip's own tools take, are read and written."""
    model = load_potential(nequip_checkpoint)
    energy = float(model.energy(ethanol, here()).detach())
    assert energy == pytest.approx(own_energy(nequip_checkpoint), rel=1e-10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.05)
    changed = float(model.energy(ethanol, here()).detach())
    assert abs(changed - energy) > 1e-6
    save_potential(model, tmp_path / "changed.ckpt")
    assert changed == pytest.approx(own_energy(tmp_path / "changed.ckpt"), rel=1e-10)
    save_potential(model, tmp_path / "changed.nequip.zip")
    assert changed == pytest.approx(own_energy(tmp_path / "changed.nequip.zip"), rel=1e-10)


def test_nequip_package_takes_the_saved_checkpoint(
    nequip_checkpoint: Path, tmp_path: Path, ethanol: System
) -> None:
    model = load_potential(nequip_checkpoint)
    save_potential(model, tmp_path / "again.ckpt")
    target = tmp_path / "own.nequip.zip"
    command = [sys.executable, "-m", "nequip.scripts.package", "build"]
    ended = subprocess.run(
        [*command, str(tmp_path / "again.ckpt"), str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    packaged = load_potential(target)
    torch.testing.assert_close(
        packaged.energy(ethanol, here()), model.energy(ethanol, here()), rtol=1e-12, atol=0
    )


def test_a_new_model_can_not_pretend_to_be_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(PotentialError, match="save it as a package"):
        save_potential(NequIP("small"), tmp_path / "model.ckpt")
    with pytest.raises(PotentialError, match="ends in .nequip.zip or .ckpt"):
        save_potential(NequIP("small"), tmp_path / "model.pt")


def test_the_preset_is_that_of_the_paper() -> None:
    model = NequIP("paper", elements=["H", "C", "N", "O"])
    assert model.cutoff == 5.0 and model.dtype == torch.float32
    layers = [n for n, _ in model.model.named_modules() if n.endswith("_convnet")]
    assert len(layers) == 3
    assert "32x0e" in str(model.model) or model.n_parameters > 100_000


def test_the_example_that_builds_a_model_is_valid() -> None:
    path = Path(__file__).parents[2] / "examples" / "tetrapeptide.yaml"
    values = _absolute(read_yaml(path), path.parent)
    config = RunConfig.from_values(values, str(path))
    assert config.potential.name == "nequip" and config.potential.preset == "small"


def test_reading_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "model.nequip.zip"
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    save_potential(NequIP("small", seed=1), path)
    load_potential(path)
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.rand(3), expected)


def test_unknown_elements_and_files_are_explained(tmp_path: Path) -> None:
    model = NequIP("small", elements=["H", "O"])
    with pytest.raises(PotentialError, match="knows the elements H, O, and the structure has C"):
        model.energy(System.create(["C", "H"]), torch.rand(1, 2, 3).double())
    (tmp_path / "broken.nequip.zip").write_bytes(b"no zip")
    with pytest.raises(PotentialError, match="nequip can't read it"):
        load_potential(tmp_path / "broken.nequip.zip")


def test_precision_stays_what_it_is() -> None:
    with pytest.raises(PotentialError, match="can't be changed to float64"):
        NequIP("small").double()
    NequIP("small").to("cpu").float()
