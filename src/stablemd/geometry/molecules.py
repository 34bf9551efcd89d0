"""Whole molecules from positions that may be wrapped atom by atom."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order
from torch import Tensor

from stablemd.geometry.lattice import rounded_image
from stablemd.system import System


class MoleculeUnfolding:
    """Puts the atoms of each molecule next to each other, bond by bond.

    An atom stands at the nearest image of the atom that it hangs on in the
    molecule's tree of bonds; atoms of a molecule that no bond reaches stand at
    the nearest image of the molecule's first atom.

    Args:
        system: bonds and molecule ids.
    """

    def __init__(self, system: System) -> None:
        self._pbc = system.pbc
        self._parent, levels = _forest(system)
        self._levels = [level.to(system.device) for level in levels]
        self._parent = self._parent.to(system.device)

    def __call__(self, positions: Tensor, cells: Tensor | None) -> Tensor:
        """Positions (n, N, 3) in Å with every molecule whole; differentiable."""
        if cells is None:
            return positions
        steps = positions - positions.index_select(1, self._parent)
        steps = rounded_image(steps, cells, self._pbc)
        whole = positions
        for level in self._levels:
            placed = whole.index_select(1, self._parent[level]) + steps.index_select(1, level)
            whole = whole.index_copy(1, level, placed)
        return whole


def _forest(system: System) -> tuple[Tensor, list[Tensor]]:
    """Parent of every atom (roots are their own) and the atoms of each depth from 1 on."""
    n = system.n_atoms
    bonds = system.bonds.cpu().numpy()
    ids = system.molecule_ids.cpu().numpy()
    inside = bonds[ids[bonds[:, 0]] == ids[bonds[:, 1]]]
    graph = coo_matrix((np.ones(len(inside)), (inside[:, 0], inside[:, 1])), shape=(n, n)).tocsr()
    parent, depth = np.arange(n), np.full(n, -1)
    root_of: dict[int, int] = {}
    for atom in range(n):
        if depth[atom] >= 0:
            continue
        root = root_of.setdefault(int(ids[atom]), atom)
        order, before = breadth_first_order(graph, atom, directed=False)
        parent[atom], depth[atom] = root, 0 if root == atom else 1
        for reached in order[1:]:
            parent[reached] = before[reached]
            depth[reached] = depth[before[reached]] + 1
    levels = [np.flatnonzero(depth == d) for d in range(1, int(depth.max()) + 1)]
    return torch.from_numpy(parent), [torch.from_numpy(level) for level in levels]
