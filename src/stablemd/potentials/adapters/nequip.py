"""NequIP models: loaded from checkpoints and packages, or built afresh.

Batzner et al., "E(3)-equivariant graph neural networks for data-efficient and
accurate interatomic potentials", Nature Communications 13, 2453 (2022).
Allegro and other models of the same framework load in the same way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from stablemd.atomic import write_atomic
from stablemd.errors import PotentialError
from stablemd.potentials.adapters.base import AdaptedPotential
from stablemd.potentials.adapters.edges import directed_edges
from stablemd.potentials.adapters.element_types import ElementTypes
from stablemd.potentials.adapters.nequip_files import (
    CHECKPOINT_SUFFIX,
    PACKAGE_SUFFIX,
    NequIPFile,
    new_package,
    read_model_file,
)
from stablemd.potentials.adapters.nequip_modules import faster_modules
from stablemd.potentials.adapters.nequip_state import initialized_nequip
from stablemd.potentials.adapters.packages import NEQUIP
from stablemd.potentials.batch import Batch

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "cutoff": 5.0,
        "n_layers": 3,
        "l_max": 1,
        "parity": True,
        "n_features": 32,
        "n_bessel": 8,
        "polynomial_cutoff_p": 6,
        "radial_depth": 2,
        "radial_width": 64,
    },
    "small": {
        "cutoff": 4.0,
        "n_layers": 2,
        "l_max": 1,
        "parity": False,
        "n_features": 8,
        "n_bessel": 8,
        "polynomial_cutoff_p": 6,
        "radial_depth": 1,
        "radial_width": 16,
    },
}
"""``paper``: the tetrapeptide model of Raja et al. (TMLR 2025), with the radial network of
two hidden layers of 64 that NequIP had by default then; ``small``: for trying things out."""

DEFAULT_ELEMENTS = ("H", "C", "N", "O")


class NequIPModel(AdaptedPotential):
    """A model of the NequIP framework.

    Args:
        model: the package's ``GraphModel``.
        file: the file it came from; None for a new one, which is saved as a package.
    """

    def __init__(self, model: nn.Module, file: NequIPFile | None) -> None:
        super().__init__()
        metadata: dict[str, str] = model.metadata  # type: ignore[assignment]
        self.cutoff = float(metadata["r_max"])
        self.model = model
        self._file = file
        self.types = ElementTypes.from_symbols(metadata["type_names"].split(), "NequIP")
        self.hyperparameters = {
            "elements": metadata["type_names"].split(),
            "cutoff": self.cutoff,
            "precision": metadata["model_dtype"],
        }
        self.eval()

    @classmethod
    def load(cls, path: Path, *, model: str = "sole_model") -> NequIPModel:
        """Read a checkpoint (``.ckpt``) or a package (``.nequip.zip``); this runs code in it.

        Args:
            path: a file of ``nequip-train`` or ``nequip-package``.
            model: which model, for a file that holds several.

        Raises:
            PotentialError: it can't be read, or holds no such model.
            MissingDependencyError: nequip is absent or too old.
        """
        NEQUIP.require()
        with initialized_nequip():
            graph_model, file = read_model_file(path, model)
        return cls(graph_model, file)

    @property
    def file_suffix(self) -> str:  # type: ignore[override]
        return PACKAGE_SUFFIX if self._file is None else self._file.suffix

    @property
    def position_dtype(self) -> torch.dtype:
        """NequIP takes positions in float64 whatever the precision of its network."""
        return torch.float64

    def local_energies(self, batch: Batch) -> Tensor:
        """Atomic energies in eV, (n_atoms_total,) float64, with graph."""
        edges = directed_edges(batch, self.cutoff)
        data = {
            "pos": batch.positions,
            "edge_index": edges.index,
            "edge_vectors": edges.vectors,
            "atom_types": self.types(batch.numbers),
            "batch": batch.structure,
            "num_atoms": torch.bincount(batch.structure, minlength=batch.n_structures),
        }
        module = self._energy_module
        with faster_modules(module):
            energies: Tensor = module(data)["atomic_energy"]
        return energies.squeeze(1)

    def set_energy_scale(self, scale: float, shifts: dict[int, float]) -> None:
        """Set the energy scale (eV) and the constant energy of each element (eV)."""
        constants = self._constants()
        if constants is None:
            return
        with torch.no_grad():
            if constants.has_scales:
                constants.scales.fill_(scale)
            if constants.has_shifts and constants.shifts.numel() > 1:
                for number, shift in shifts.items():
                    constants.shifts[int(self.types.table[number])] = shift

    def shift_energies(self, shift: float) -> None:
        """Add a constant (eV) to the energy of every atom."""
        constants = self._constants()
        if constants is not None and constants.has_shifts:
            with torch.no_grad():
                constants.shifts.add_(shift)

    def save(self, path: Path) -> None:
        """Write a package (``.nequip.zip``), or a checkpoint if it came from one."""
        self._require_suffix(path, PACKAGE_SUFFIX, CHECKPOINT_SUFFIX)
        with initialized_nequip():
            if self._file is not None and path.name.endswith(self._file.suffix):
                content = self._file.with_weights(self.model)
            elif path.name.endswith(CHECKPOINT_SUFFIX):
                raise PotentialError(
                    f"{path}: a checkpoint holds a training run of nequip, which this model has "
                    f"none of; save it as a package, {PACKAGE_SUFFIX}"
                )
            else:
                content = new_package(self.model)
        write_atomic(path, content)

    @property
    def _energy_module(self) -> nn.Module:
        """The energy without the package's own differentiation."""
        outer: Any = self.model.model
        return outer.func if hasattr(outer, "do_derivatives") else outer

    def _constants(self) -> Any:
        """The module that scales and shifts atomic energies, if there is one."""
        for name, module in self._energy_module.named_modules():
            if name.endswith("per_type_energy_scale_shift"):
                return module
        return None


class NequIP(NequIPModel):
    """A new NequIP model.

    Args:
        preset: values of what is not given: ``paper`` or ``small``.
        elements: chemical symbols it is to know; a run takes those of its training data,
            otherwise H, C, N and O.
        cutoff: Å.
        n_layers: interaction blocks.
        l_max: highest rotation order of features.
        parity: whether features of odd mirror parity are there.
        n_features: multiplicity of every irreducible representation.
        n_bessel: radial basis functions.
        polynomial_cutoff_p: exponent of the cutoff's envelope.
        radial_depth: hidden layers of the radial network.
        radial_width: their width.
        average_neighbours: mean number of neighbours, which normalizes sums over them; a
            run takes that of its training data, otherwise 15.
        precision: ``float32`` or ``float64``.
        seed: of the weights.
    """

    def __init__(
        self,
        preset: Literal["paper", "small"] = "paper",
        elements: list[str] | None = None,
        cutoff: float | None = None,
        n_layers: int | None = None,
        l_max: int | None = None,
        parity: bool | None = None,
        n_features: int | None = None,
        n_bessel: int | None = None,
        polynomial_cutoff_p: int | None = None,
        radial_depth: int | None = None,
        radial_width: int | None = None,
        average_neighbours: float | None = None,
        precision: Literal["float32", "float64"] = "float32",
        seed: int | None = None,
    ) -> None:
        if preset not in PRESETS:
            raise PotentialError(f"nequip: preset {preset!r} is unknown; choose {sorted(PRESETS)}")
        given = {
            "cutoff": cutoff,
            "n_layers": n_layers,
            "l_max": l_max,
            "parity": parity,
            "n_features": n_features,
            "n_bessel": n_bessel,
            "polynomial_cutoff_p": polynomial_cutoff_p,
            "radial_depth": radial_depth,
            "radial_width": radial_width,
        }
        chosen = PRESETS[preset] | {k: v for k, v in given.items() if v is not None}
        for name, value in chosen.items():
            if not isinstance(value, bool) and value < (0 if name in ("l_max",) else 1):
                raise PotentialError(f"nequip: {name} = {value} is too small; give at least 1")
        symbols = list(elements or DEFAULT_ELEMENTS)
        builder = NEQUIP.load("model").NequIPGNNModel
        with initialized_nequip():
            model = builder(
                seed=int(torch.randint(2**31, ())) if seed is None else seed,
                model_dtype=precision,
                type_names=symbols,
                r_max=float(chosen["cutoff"]),
                num_layers=chosen["n_layers"],
                l_max=chosen["l_max"],
                parity=chosen["parity"],
                num_features=chosen["n_features"],
                num_bessels=chosen["n_bessel"],
                polynomial_cutoff_p=chosen["polynomial_cutoff_p"],
                radial_mlp_depth=chosen["radial_depth"],
                radial_mlp_width=chosen["radial_width"],
                avg_num_neighbors=float(average_neighbours or 15.0),
                per_type_energy_scales=1.0,
                per_type_energy_shifts=dict.fromkeys(symbols, 0.0),
            )
        super().__init__(model, None)

    @classmethod
    def fitted_hyperparameters(
        cls, numbers: Tensor, positions: Tensor, given: dict[str, Any]
    ) -> dict[str, Any]:
        """Elements and mean number of neighbours of the training structures."""
        preset = PRESETS.get(given.get("preset", "paper"), PRESETS["paper"])
        cutoff = given.get("cutoff") or preset["cutoff"]
        some = positions[:: max(1, len(positions) // 50)]
        neighbours = (torch.cdist(some, some) < cutoff).sum(dim=2).double().mean() - 1.0
        found = {
            "elements": [chemical_symbols[int(n)] for n in numbers.unique()],
            "average_neighbours": max(1.0, float(neighbours)),
        }
        return found | {k: v for k, v in given.items() if v is not None}
