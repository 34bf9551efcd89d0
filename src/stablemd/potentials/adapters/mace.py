"""MACE models.

Batatia, Kovács, Simm, Ortner, Csányi, "MACE: higher order equivariant message passing
neural networks for fast and accurate force fields", NeurIPS 2022.
"""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stablemd.atomic import write_atomic
from stablemd.errors import PotentialError
from stablemd.potentials.adapters.base import AdaptedPotential
from stablemd.potentials.adapters.edges import directed_edges
from stablemd.potentials.adapters.element_types import ElementTypes
from stablemd.potentials.adapters.mace_modules import faster_modules
from stablemd.potentials.adapters.packages import MACE
from stablemd.potentials.batch import Batch

SUFFIX = ".model"
LOAD_VARIABLE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


class MACEModel(AdaptedPotential):
    """A trained MACE.

    Args:
        model: the package's module.
        head: which of its heads; needed where there are several.
        isolated_atoms: whether energies contain those of isolated atoms.

    Raises:
        PotentialError: the head is missing or unknown, or the model is of a kind that has
            no energy or needs more than atoms and positions.
    """

    fixed_precision = False
    file_suffix = SUFFIX

    def __init__(
        self, model: nn.Module, *, head: str | None = None, isolated_atoms: bool = True
    ) -> None:
        super().__init__()
        _require_usable(model)
        heads: list[str] = list(getattr(model, "heads", None) or ["Default"])
        self._head = _head_index(heads, head)
        self._isolated_atoms = isolated_atoms
        self.cutoff = float(model.r_max)  # type: ignore[arg-type]
        self.model = model
        numbers: list[int] = model.atomic_numbers.tolist()  # type: ignore[operator]
        self._n_types = len(numbers)
        self.types = ElementTypes(numbers, "MACE")
        self.hyperparameters = {
            "elements": self.types.symbols,
            "cutoff": self.cutoff,
            "head": heads[self._head],
            "isolated_atoms": isolated_atoms,
        }
        if not any(p.requires_grad for p in model.parameters()):
            model.requires_grad_(True)  # a model that went through MACE's calculator
        self.eval()

    @classmethod
    def load(cls, path: Path, *, head: str | None = None, isolated_atoms: bool = True) -> MACEModel:
        """Read a ``.model`` file; this runs code in it.

        Args:
            path: a file of ``mace_run_train``.
            head: which head, for a model with several.
            isolated_atoms: whether energies contain those of isolated atoms.

        Raises:
            PotentialError: it can't be read or used, or the head is missing or unknown.
            MissingDependencyError: mace-torch is absent or too old.
        """
        with importing_mace():
            MACE.load("modules")
        try:
            model = torch.load(path, map_location="cpu", weights_only=False)
        except Exception as error:
            raise PotentialError(
                f"{path}: can't be read as a MACE model ({type(error).__name__}: {error}); give "
                "the .model file of mace_run_train, not the compiled one or a checkpoint"
            ) from error
        if isinstance(model, torch.jit.ScriptModule):
            raise PotentialError(
                f"{path}: is a compiled model, which can't be trained or saved again; give the "
                ".model file that it was compiled from"
            )
        return cls(model, head=head, isolated_atoms=isolated_atoms)

    def local_energies(self, batch: Batch) -> Tensor:
        """Atomic energies in eV, (n_atoms_total,) float64, with graph."""
        types = self.types(batch.numbers)
        edges = directed_edges(batch, self.cutoff)
        positions = batch.positions if batch.positions.requires_grad else batch.positions.clone()
        counts = torch.bincount(batch.structure, minlength=batch.n_structures)
        attributes = nn.functional.one_hot(types, self._n_types).to(positions)
        no_cells = positions.new_zeros(batch.n_structures, 3, 3)
        data = {
            "positions": positions,
            "node_attrs": attributes,
            "edge_index": edges.index,
            "shifts": edges.displacements(batch),
            "unit_shifts": edges.shifts,
            "cell": no_cells if batch.cells is None else batch.cells,
            "batch": batch.structure,
            "ptr": torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
            "head": torch.full((batch.n_structures,), self._head, device=types.device),
        }
        with faster_modules(self.model):
            result = self.model(data, compute_force=False)
        energies: Tensor = result["node_energy"].double()
        return energies if self._isolated_atoms else energies - self._isolated(attributes)

    def shift_energies(self, shift: float) -> None:
        """Add a constant (eV) to the energy of every atom."""
        scale_shift: Any = getattr(self.model, "scale_shift", None)
        with torch.no_grad():
            if scale_shift is None:
                energies: Any = self.model.atomic_energies_fn.atomic_energies  # type: ignore[union-attr]
                torch.atleast_2d(energies)[self._head].add_(shift)
            elif scale_shift.shift.ndim == 0:
                scale_shift.shift.add_(shift)
            else:
                scale_shift.shift[self._head] += shift

    def save(self, path: Path) -> None:
        """Write a ``.model`` that MACE's own tools load."""
        self._require_suffix(path, SUFFIX)
        stream = io.BytesIO()
        torch.save(copy.deepcopy(self.model).to("cpu"), stream)
        write_atomic(path, stream.getvalue())

    def _isolated(self, attributes: Tensor) -> Tensor:
        """Energies of the isolated atoms in eV, (n_atoms_total,) float64."""
        energies: Any = self.model.atomic_energies_fn(attributes)  # type: ignore[operator]
        return torch.atleast_2d(energies)[:, self._head].double()


def _head_index(heads: list[str], head: str | None) -> int:
    if head is None and len(heads) > 1:
        raise PotentialError(
            f"this MACE has the heads {', '.join(heads)}; name one as potential.options.head "
            "(in Python, head=...)"
        )
    if head is not None and head not in heads:
        raise PotentialError(f"this MACE has no head {head!r}; it has {', '.join(heads)}")
    return heads.index(head) if head is not None else 0


def _require_usable(model: nn.Module) -> None:
    name = type(model).__name__
    if not hasattr(model, "atomic_energies_fn") or not hasattr(model, "interactions"):
        raise PotentialError(
            f"{name} is not a MACE that gives energies; give a MACE or ScaleShiftMACE"
        )
    if hasattr(model, "joint_embedding"):
        raise PotentialError(
            f"this {name} takes further inputs than atoms and positions (such as charge or "
            "spin), which this adapter does not have; give a model without them"
        )


@contextmanager
def importing_mace() -> Iterator[None]:
    """Import MACE, which makes torch read files of all kinds, without keeping that."""
    before = os.environ.get(LOAD_VARIABLE)
    os.environ[LOAD_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(LOAD_VARIABLE, None)
        else:
            os.environ[LOAD_VARIABLE] = before
