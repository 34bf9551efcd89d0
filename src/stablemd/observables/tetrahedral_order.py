"""Tetrahedral order of the four nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd.errors import SystemDefinitionError
from stablemd.geometry import frame_cells
from stablemd.geometry.lattice import rounded_image
from stablemd.geometry.pairs import MAX_ELEMENTS, element_numbers
from stablemd.observables.base import Observable, only_finite_frames
from stablemd.system import System


class TetrahedralOrder(Observable):
    """How tetrahedral the four nearest neighbours stand, averaged over atoms.

    ``q = 1 - 3/8 Σ_{j<k} (cos ψ_jk + 1/3)²`` over the four nearest neighbours is
    1 in a perfect tetrahedral network and 0 on average for independent
    neighbours.  Each neighbour stands at its nearest image, found by rounding;
    the cell must be larger than twice the fourth neighbour's distance.

    Args:
        system: with five or more atoms of the element.
        element: symbol of the atoms that are both centre and neighbours.

    Raises:
        SystemDefinitionError: too few such atoms.
        ConfigError: an unknown symbol.

    Reference: Errington and Debenedetti, Nature 409, 318 (2001), eq. 1.
    """

    name = "tetrahedral_order"
    axis_label = "mean"
    value_label = "q"

    def __init__(self, system: System, *, element: str = "O") -> None:
        (number,) = element_numbers([element], 1)
        self.atoms = torch.nonzero(system.numbers == number).flatten()
        if len(self.atoms) < 5:
            raise SystemDefinitionError(
                f"tetrahedral_order needs five atoms {element} or more, {system.formula} has "
                f"{len(self.atoms)}; choose another element"
            )
        self._system = system
        self.label = f"{self.name}_{element}"
        self.axis = torch.zeros(1, dtype=torch.float64, device=system.device)

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Mean order (n, 1) float64; arguments as in the contract."""
        boxes = frame_cells(self._system, positions, cells)
        x = positions.to(torch.float64).index_select(1, self.atoms)
        size = max(1, MAX_ELEMENTS // len(self.atoms) ** 2)
        parts = [None] * len(x.split(size)) if boxes is None else list(boxes.split(size))
        q = [self._mean_order(part, box) for part, box in zip(x.split(size), parts, strict=True)]
        return only_finite_frames(torch.cat([*q, x.new_zeros(0)])[:, None], positions)

    def _mean_order(self, x: Tensor, cells: Tensor | None) -> Tensor:
        vectors = rounded_image(x[:, None, :] - x[:, :, None], cells, self._system.pbc)
        with torch.no_grad():
            squares = vectors.square().sum(dim=-1)
            squares = squares.masked_fill(
                torch.eye(len(self.atoms), dtype=torch.bool, device=x.device), torch.inf
            )
            nearest = squares.nan_to_num(torch.inf).topk(4, dim=-1, largest=False).indices
        arms = vectors.gather(2, nearest[..., None].expand(*nearest.shape, 3))
        arms = arms / torch.linalg.vector_norm(arms, dim=-1, keepdim=True)
        j, k = torch.triu_indices(4, 4, offset=1, device=x.device)
        cosines = (arms[:, :, j] * arms[:, :, k]).sum(dim=-1)
        return (1.0 - 0.375 * (cosines + 1.0 / 3.0).square().sum(dim=-1)).mean(dim=1)
