"""Models of graph-pes: SchNet, PaiNN, NequIP, MACE, TensorNet and others.

Gardner, Gardner, Deringer, "graph-pes: train and use graph-based models of potential
energy surfaces", https://github.com/jla-gardner/graph-pes.
"""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stablemd.atomic import write_atomic
from stablemd.errors import PotentialError
from stablemd.potentials.adapters.base import AdaptedPotential
from stablemd.potentials.adapters.edges import directed_edges
from stablemd.potentials.adapters.packages import GRAPH_PES
from stablemd.potentials.batch import Batch

SUFFIX = ".graph-pes.pt"


class GraphPESPotential(AdaptedPotential):
    """A model of graph-pes.

    Args:
        model: the package's ``GraphPESModel``, with energies in eV and lengths in Å.
    """

    fixed_precision = False
    file_suffix = SUFFIX

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not callable(getattr(model, "predict_local_energies", None)):
            raise PotentialError(
                f"{type(model).__name__} is not a GraphPESModel, so it has no local energies; "
                "give a model of the potential energy"
            )
        GRAPH_PES.require()
        self.cutoff = float(model.cutoff)  # type: ignore[arg-type]
        self.model = model
        self.hyperparameters = {"model": type(model).__name__, "cutoff": self.cutoff}
        self.eval()

    @classmethod
    def load(cls, path: Path) -> GraphPESPotential:
        """Read a model of ``graph-pes-train``; this runs code in it.

        Raises:
            PotentialError: it can't be read.
            MissingDependencyError: graph-pes is absent or too old.
        """
        models = GRAPH_PES.load("models")
        try:
            model = models.load_model(path)
        except Exception as error:
            raise PotentialError(
                f"{path}: graph-pes can't read it ({type(error).__name__}: {error}); give the "
                "model.pt of graph-pes-train"
            ) from error
        if isinstance(model, models.ScriptedModel):
            raise PotentialError(
                f"{path}: is a compiled model, which can't be trained or saved again; give the "
                "model.pt that it was compiled from"
            )
        return cls(model)

    def local_energies(self, batch: Batch) -> Tensor:
        """Atomic energies in eV, (n_atoms_total,), with graph."""
        edges = directed_edges(batch, self.cutoff)
        counts = torch.bincount(batch.structure, minlength=batch.n_structures)
        no_cells = batch.positions.new_zeros(batch.n_structures, 3, 3)
        graph = GRAPH_PES.load().AtomicGraph(
            Z=batch.numbers,
            R=batch.positions,
            cell=no_cells if batch.cells is None else batch.cells,
            neighbour_list=edges.index,
            neighbour_cell_offsets=edges.shifts,
            properties={},
            cutoff=self.cutoff,
            other={},
            batch=batch.structure,
            ptr=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        )
        energies: Tensor = self.model(graph)["local_energies"]
        return energies.reshape(-1)

    def shift_energies(self, shift: float) -> None:
        """Add a constant (eV) to the energy of every atom, where the model has offsets."""
        offsets: Any = GRAPH_PES.load("models.offsets").EnergyOffset
        for module in self.model.modules():
            if isinstance(module, offsets):
                with torch.no_grad():
                    module._offsets.data.add_(shift)
                return

    def save(self, path: Path) -> None:
        """Write a file that ``graph_pes.models.load_model`` reads."""
        self._require_suffix(path, ".pt")
        stream = io.BytesIO()
        torch.save(copy.deepcopy(self.model).to("cpu"), stream)
        write_atomic(path, stream.getvalue())
