"""Small models of outside packages, made by the packages themselves.

Every package has an environment of its own (``make test-adapters``); here and there,
what is not installed is skipped.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from stablemd.potentials.adapters.packages import GRAPH_PES, MACE, NEQUIP

Reader = Callable[[Path], Any]


@dataclass(frozen=True)
class Case:
    """A kind of model of a package.

    Attributes:
        name: for reports.
        file: writes a model of H, C and O of a precision and returns its path.
        calculator: the package's own ASE calculator of such a file.
        options: of the adapter's reader.
        precisions: in which the package can build it.
    """

    name: str
    file: Callable[[Path, torch.dtype], Path]
    calculator: Callable[[Path, torch.dtype], Any]
    options: dict[str, Any]
    precisions: tuple[torch.dtype, ...] = (torch.float64, torch.float32)


@pytest.fixture(autouse=True)
def _default_precision() -> Iterator[None]:
    """Packages change the default precision of the process."""
    before = torch.get_default_dtype()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_default_dtype(before)


class InPrecision:
    """A package's calculator, called with the default precision that it counts on."""

    def __init__(self, calculator: Any, dtype: torch.dtype) -> None:
        self._calculator = calculator
        self._dtype = dtype

    def __call__(self, atoms: Atoms) -> tuple[float, np.ndarray]:
        before = torch.get_default_dtype()
        torch.set_default_dtype(self._dtype)
        try:
            atoms = atoms.copy()
            atoms.calc = self._calculator
            return atoms.get_potential_energy(), atoms.get_forces()
        finally:
            torch.set_default_dtype(before)


# NequIP


def nequip_package(folder: Path, dtype: torch.dtype) -> Path:
    from stablemd.potentials import NequIP

    model = NequIP(
        "small", elements=["H", "C", "O"], precision=str(dtype).removeprefix("torch."), seed=5
    )
    model.set_energy_scale(1.5, {1: -13.6, 6: -1030.0, 8: -2040.0})
    path = folder / f"{dtype}.nequip.zip"
    model.save(path)
    return path


def nequip_calculator(path: Path, dtype: torch.dtype) -> Any:
    from nequip.integrations.ase import NequIPCalculator

    before = torch.get_default_dtype()
    calculator = NequIPCalculator._from_saved_model(
        str(path), chemical_species_to_atom_type_map=True
    )
    torch.set_default_dtype(before)
    return InPrecision(calculator, torch.float64)


# MACE


def mace_module(
    dtype: torch.dtype,
    heads: list[str] | None = None,
    plain: bool = False,
    correlation: int = 2,
) -> Any:
    MACE.load("modules")
    from e3nn import o3
    from mace import modules

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    torch.manual_seed(7)
    energies = np.array([-13.6, -1030.0, -2040.0])
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    arguments = {
        "r_max": 4.0,
        "num_bessel": 6,
        "num_polynomial_cutoff": 5,
        "max_ell": 2,
        "interaction_cls": block,
        "interaction_cls_first": block,
        "num_interactions": 2,
        "num_elements": 3,
        "hidden_irreps": o3.Irreps("8x0e + 8x1o"),
        "MLP_irreps": o3.Irreps("8x0e"),
        "atomic_energies": np.stack([energies] * len(heads)) if heads else energies,
        "avg_num_neighbors": 8.0,
        "atomic_numbers": [1, 6, 8],
        "correlation": correlation,
        "gate": torch.nn.functional.silu,
        "heads": heads,
    }
    if plain:
        model = modules.MACE(**arguments)
    else:
        n = len(heads or ["Default"])
        scale, shift = ([0.8] * n, [0.1] * n) if heads else (0.8, 0.1)
        model = modules.ScaleShiftMACE(
            atomic_inter_scale=scale, atomic_inter_shift=shift, **arguments
        )
    torch.set_default_dtype(before)
    return model


def mace_file(folder: Path, dtype: torch.dtype) -> Path:
    path = folder / f"{dtype}.model"
    torch.save(mace_module(dtype), path)
    return path


def mace_cubic_file(folder: Path, dtype: torch.dtype) -> Path:
    path = folder / f"cubic_{dtype}.model"
    torch.save(mace_module(dtype, correlation=3), path)
    return path


def mace_plain_file(folder: Path, dtype: torch.dtype) -> Path:
    path = folder / f"plain_{dtype}.model"
    torch.save(mace_module(dtype, plain=True), path)
    return path


def mace_heads_file(folder: Path, dtype: torch.dtype) -> Path:
    path = folder / f"heads_{dtype}.model"
    torch.save(mace_module(dtype, heads=["pbe", "hybrid"]), path)
    return path


def mace_calculator(path: Path, dtype: torch.dtype, **arguments: Any) -> Any:
    from mace.calculators import MACECalculator

    name = str(dtype).removeprefix("torch.")
    return InPrecision(
        MACECalculator(str(path), device="cpu", default_dtype=name, **arguments), dtype
    )


def mace_heads_calculator(path: Path, dtype: torch.dtype) -> Any:
    return mace_calculator(path, dtype, head="hybrid")


@pytest.fixture
def mace_with_heads(tmp_path: Path) -> Path:
    return mace_heads_file(tmp_path, torch.float64)


@pytest.fixture
def mace_module_with() -> Callable[[int], Any]:
    """A MACE of a given correlation."""
    return lambda correlation: mace_module(torch.float64, correlation=correlation)


# graph-pes


def graph_pes_file(kind: str) -> Callable[[Path, torch.dtype], Path]:
    def make(folder: Path, dtype: torch.dtype) -> Path:
        models = GRAPH_PES.load("models")
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        torch.manual_seed(3)
        needs_elements = kind in ("NequIP", "MACE")
        arguments: dict[str, Any] = {"elements": ["H", "C", "O"]} if needs_elements else {}
        model = models.AdditionModel(
            offset=models.FixedOffset(H=-13.6, C=-1030.0, O=-2040.0),
            many_body=getattr(models, kind)(cutoff=4.0, **arguments),
        )
        torch.set_default_dtype(before)
        path = folder / f"{kind}_{dtype}.graph-pes.pt"
        torch.save(model.to(dtype), path)
        return path

    return make


def graph_pes_calculator(path: Path, dtype: torch.dtype) -> Any:
    model = GRAPH_PES.load("models").load_model(path).eval()
    return InPrecision(model.ase_calculator(skin=0.0), dtype)


SINGLE = (torch.float32,)
"""graph-pes's models on e3nn 0.4.4 mix precisions in float64, with its own calculator too."""


def cases() -> list[Case]:
    """Of the packages that are installed here."""
    found: list[Case] = []
    if NEQUIP.is_installed:
        found.append(Case("nequip", nequip_package, nequip_calculator, {}))
    if MACE.is_installed:
        found += [
            Case("mace", mace_file, mace_calculator, {}),
            Case("mace-cubic", mace_cubic_file, mace_calculator, {}),
            Case("mace-without-scale", mace_plain_file, mace_calculator, {}),
            Case("mace-heads", mace_heads_file, mace_heads_calculator, {"head": "hybrid"}),
        ]
    if GRAPH_PES.is_installed:
        calculator = graph_pes_calculator
        for kind in ("SchNet", "PaiNN", "TensorNet"):
            found.append(Case(f"graph-pes-{kind}", graph_pes_file(kind), calculator, {}))
        found.append(Case("graph-pes-NequIP", graph_pes_file("NequIP"), calculator, {}, SINGLE))
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", cases(), ids=lambda case: case.name)


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case, torch.dtype], Path]:
    """The file of a case in a precision, made once."""
    folder = tmp_path_factory.mktemp("models")
    made: dict[tuple[str, torch.dtype], Path] = {}

    def file(case: Case, dtype: torch.dtype) -> Path:
        key = (case.name, dtype)
        if key not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made[key] = case.file(folder, dtype)
        return made[key]

    return file


CHECKPOINT_CONFIG = """
run: [train]
seed: 1
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 1
  split_dataset: {{file_path: {data}, train: 6, val: 2}}
  transforms:
    - _target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper
      model_type_names: [H, C, O]
    - _target_: nequip.data.transforms.NeighborListTransform
      r_max: 4.0
  train_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 3}}
  val_dataloader: {{_target_: torch.utils.data.DataLoader, batch_size: 2}}
trainer:
  _target_: lightning.Trainer
  accelerator: cpu
  max_epochs: 2
  logger: false
  enable_progress_bar: false
  callbacks:
    - _target_: lightning.pytorch.callbacks.ModelCheckpoint
      dirpath: {out}
      filename: last
training_module:
  _target_: nequip.train.EMALightningModule
  ema_decay: 0.9
  loss:
    _target_: nequip.train.EnergyForceLoss
    per_atom_energy: true
    coeffs: {{total_energy: 1.0, forces: 1.0}}
  val_metrics:
    _target_: nequip.train.EnergyForceMetrics
    coeffs: {{total_energy_mae: 1.0, forces_mae: 1.0}}
  optimizer: {{_target_: torch.optim.Adam, lr: 0.01}}
  model:
    _target_: nequip.model.NequIPGNNModel
    seed: 1
    model_dtype: {dtype}
    type_names: [H, C, O]
    r_max: 4.0
    num_layers: 2
    l_max: 1
    num_features: 4
    radial_mlp_depth: 1
    radial_mlp_width: 8
    avg_num_neighbors: 8.0
    per_type_energy_scales: 1.0
    per_type_energy_shifts: {{H: -13.6, C: -1030.0, O: -2040.0}}
global_options: {{allow_tf32: false}}
"""


@pytest.fixture(scope="session")
def nequip_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``nequip-train`` leaves after two epochs with averaged weights."""
    import subprocess
    import sys

    from stablemd.data import read_frames, write_frames
    from stablemd.demo import DATA_PATH

    folder = tmp_path_factory.mktemp("nequip")
    write_frames(folder / "frames.extxyz", read_frames(DATA_PATH, index=":8"))
    text = CHECKPOINT_CONFIG.format(data=folder / "frames.extxyz", out=folder, dtype="float64")
    (folder / "config.yaml").write_text(text)
    command = [sys.executable, "-m", "nequip.scripts.train", "-cp", str(folder), "-cn", "config"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return folder / "last.ckpt"
