"""Geometry of periodic cells: volume, heights, nearest images.

Cells hold their vectors as rows, in Å.  Positions stay unwrapped everywhere;
what needs a nearest image asks for it here.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from ase.geometry.minkowski_reduction import minkowski_reduce
from torch import Tensor

from stablemd.errors import SystemDefinitionError


def volumes(cells: Tensor) -> Tensor:
    """Volume of each cell (..., 3, 3) in Å³, (...)."""
    a, b, c = cells.unbind(dim=-2)
    return (a * torch.linalg.cross(b, c)).sum(dim=-1).abs()


def heights(cells: Tensor) -> Tensor:
    """Distance between the two opposite faces along each cell vector in Å, (..., 3)."""
    return 1.0 / torch.linalg.vector_norm(torch.linalg.inv(cells), dim=-2)


def cells_of(cell: Tensor, n: int, cells: Tensor | None) -> Tensor:
    """The cells (n, 3, 3) in Å of n structures, by default the same one for all.

    Args:
        cell: the system's cell (3, 3), which stands where ``cells`` is None.
        n: number of structures.
        cells: one for all (3, 3), one each (n, 3, 3), or None.

    Raises:
        SystemDefinitionError: the shape does not fit.
    """
    given = cell if cells is None else cells
    if given.shape not in ((3, 3), (n, 3, 3)):
        raise SystemDefinitionError(
            f"cells must have shape ({n}, 3, 3), one per structure, or (3, 3), got "
            f"{tuple(given.shape)}"
        )
    return given.expand(n, 3, 3)


def lattice_offsets(positions: Tensor, cells: Tensor, pbc: Tensor) -> Tensor:
    """How many cells each atom is away from the home cell, along each vector.

    Args:
        positions: Å, (R, N, 3).
        cells: (R, 3, 3).
        pbc: periodic directions, (3,) bool.

    Returns:
        Whole numbers (R, N, 3) in the precision of ``positions``;
        ``positions - offsets @ cells`` lies in the home cell.  Zero in
        directions that are not periodic.
    """
    fractions = positions.detach() @ torch.linalg.inv(cells.detach())
    return fractions.floor() * pbc.to(fractions)


def minimum_image(vectors: Tensor, cells: Tensor, pbc: Tensor) -> Tensor:
    """The shortest of all periodic images of each vector, for any cell shape.

    Args:
        vectors: Å, (F, P, 3); differentiable.
        cells: one for all (3, 3) or one per frame (F, 3, 3); differentiable.
        pbc: periodic directions, (3,) bool.

    Returns:
        (F, P, 3).  A vector that is not finite stays so.

    Source: a vector reduced in the basis of a Minkowski-reduced cell is at most
    one cell vector of each kind away from its shortest image (Nguyen and
    Stehlé, ACM Trans. Algorithms 5, 46 (2009)).
    """
    if not bool(pbc.any()):
        return vectors
    boxes = cells_of(cells, len(vectors), None if cells.ndim == 2 else cells).to(vectors)
    if _is_diagonal(boxes):
        edges = boxes.diagonal(dim1=1, dim2=2)[:, None, :]
        safe = torch.where(pbc.to(edges.device), edges, torch.ones_like(edges))
        turns = (vectors.detach() / safe.detach()).round() * pbc.to(vectors)
        return vectors - turns * edges
    reduced = _reductions(boxes, pbc) @ boxes
    periodic_rows = reduced.detach() * pbc.to(vectors)[:, None]
    turns = (vectors.detach() @ torch.linalg.pinv(periodic_rows)).round()
    near = vectors - turns @ reduced
    images = _images(tuple(pbc.tolist())).to(near)
    length2 = torch.stack([(near + (n @ reduced)[:, None]).square().sum(-1) for n in images])
    return near + images[length2.argmin(dim=0)] @ reduced


def _is_diagonal(cells: Tensor) -> bool:
    off = cells.detach() - torch.diag_embed(cells.detach().diagonal(dim1=-2, dim2=-1))
    return not bool(off.any())


@lru_cache(maxsize=8)
def _images(pbc: tuple[bool, ...]) -> Tensor:
    """Whole-number neighbours of the home cell (n, 3), the home cell first."""
    ranges = [torch.tensor([0.0, -1.0, 1.0] if p else [0.0]) for p in pbc]
    return torch.cartesian_prod(*ranges).reshape(-1, 3)


def _reductions(cells: Tensor, pbc: Tensor) -> Tensor:
    """Whole-number matrices (F, 3, 3) that take each cell to its reduced one."""
    periodic = tuple(pbc.tolist())
    flat = cells.detach().double().cpu().flatten(1).tolist()
    operations = np.stack([_reduction(tuple(cell), periodic) for cell in flat])
    return torch.from_numpy(operations).to(cells)


@lru_cache(maxsize=65536)
def _reduction(cell: tuple[float, ...], pbc: tuple[bool, ...]) -> np.ndarray:
    return np.asarray(minkowski_reduce(np.array(cell).reshape(3, 3), pbc)[1], dtype=np.float64)
