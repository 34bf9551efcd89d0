"""Springs between bonded atoms of one molecule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stablemd.errors import PotentialError
from stablemd.potentials.base import Potential
from stablemd.potentials.batch import Batch
from stablemd.system import System


class HarmonicBonds(Potential):
    """``½ k (r - r₀)²`` over named bonds of one kind of structure.

    Bonds are atom indices within a structure, so that every structure of a batch must be
    of that kind.  In a periodic system a bond joins nearest images.

    Args:
        bonds: pairs of atom indices, counted from 0.
        lengths: r₀ of every bond in Å.
        stiffness: k in eV/Å², one number or one per bond.
        n_atoms: atoms of a structure.
        trainable: whether lengths and stiffnesses take part in training.

    Raises:
        PotentialError: numbers and bonds do not fit together.
    """

    is_transferable = False

    def __init__(
        self,
        bonds: Sequence[tuple[int, int]] = (),
        lengths: Sequence[float] = (),
        stiffness: float | Sequence[float] = 20.0,
        n_atoms: int = 1,
        trainable: bool = True,
    ) -> None:
        super().__init__()
        index = torch.tensor([tuple(b) for b in bonds], dtype=torch.int64).reshape(-1, 2)
        k = [stiffness] * len(index) if isinstance(stiffness, int | float) else list(stiffness)
        if len(lengths) != len(index) or len(k) != len(index):
            raise PotentialError(
                f"HarmonicBonds: {len(index)} bonds, {len(lengths)} lengths and {len(k)} "
                "stiffnesses; give one of each per bond"
            )
        if len(index) and (int(index.min()) < 0 or int(index.max()) >= n_atoms):
            raise PotentialError(
                f"HarmonicBonds: bonds join atoms {int(index.min())} to {int(index.max())}, "
                f"expected 0 to {n_atoms - 1}"
            )
        self.hyperparameters = {
            "bonds": [tuple(b) for b in index.tolist()],
            "lengths": [float(r) for r in lengths],
            "stiffness": [float(s) for s in k],
            "n_atoms": n_atoms,
            "trainable": trainable,
        }
        self.register_buffer("index", index)
        self._n_atoms = n_atoms
        self.lengths = nn.Parameter(torch.tensor(list(lengths), dtype=torch.get_default_dtype()))
        self.stiffness = nn.Parameter(torch.tensor(k, dtype=torch.get_default_dtype()))
        for parameter in self.parameters():
            parameter.requires_grad_(trainable)
        self.cutoff = max([1.0, *(2.0 * float(r) for r in lengths)])

    index: Tensor

    @classmethod
    def of(cls, system: System, stiffness: float = 20.0, trainable: bool = True) -> HarmonicBonds:
        """All bonds of a system, at their mean lengths."""
        bonds = [(int(i), int(j)) for i, j in system.bonds]
        return cls(bonds, system.bond_lengths.tolist(), stiffness, system.n_atoms, trainable)

    def local_energies(self, batch: Batch) -> Tensor:
        """Atomic energies in eV, (n_atoms_total,), with graph: half a bond to either atom."""
        n = self._n_atoms
        if len(batch.numbers) != n * batch.n_structures:
            raise PotentialError(
                f"HarmonicBonds was made for structures of {n} atoms, and the batch has "
                f"{len(batch.numbers)} atoms in {batch.n_structures} structures"
            )
        offsets = n * torch.arange(batch.n_structures, device=self.index.device)
        bonds = (self.index[None] + offsets[:, None, None]).reshape(-1, 2)
        positions = batch.positions.to(self.dtype)
        vectors = positions[bonds[:, 1]] - positions[bonds[:, 0]]
        cells = batch.cells
        if cells is not None:
            rows = cells.to(self.dtype)[batch.structure[bonds[:, 0]]]
            fractions = torch.linalg.solve(rows.transpose(1, 2), vectors[:, :, None])[:, :, 0]
            vectors = vectors - torch.einsum("bi,bij->bj", fractions.detach().round(), rows)
        stretch = torch.linalg.vector_norm(vectors, dim=1).reshape(
            batch.n_structures, len(self.index)
        )
        energies = 0.5 * self.stiffness * (stretch - self.lengths).square()
        halves = (0.5 * energies).reshape(-1, 1).expand(-1, 2).reshape(-1)
        return halves.new_zeros(len(batch.numbers)).index_add(0, bonds.reshape(-1), halves)
