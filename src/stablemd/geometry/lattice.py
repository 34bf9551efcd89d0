"""Periodic cells: volume, heights, nearest images, and all images within a cutoff.

Cells hold their vectors as rows, in Å.  Positions stay unwrapped everywhere; what needs an image
asks for it here.  The distance between neighbouring lattice planes along cell vector i is h_i =
1/|b_i| with the reciprocal vector b_i.  A displacement d has the fractional
component |s_i| <= |d| / h_i, so an image shorter than the inscribed radius
min(h_i)/2 is unique and rounding the fractional components finds it, in any
triclinic cell (:func:`rounded_image`).  The nearest image of a longer one is
that of :func:`minimum_image`, and every image up to a distance comes with the
shifts of :func:`image_shifts`; only these two wait for the device.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
import torch
from ase.geometry.minkowski_reduction import minkowski_reduce
from torch import Tensor

from stablemd.errors import SystemDefinitionError
from stablemd.system import System


def reciprocal_rows(cells: Tensor) -> Tensor:
    """Reciprocal vectors b_i with a_i · b_j = δ_ij as rows, from cells (..., 3, 3) with rows a_i.

    Written with cross products: a general inverse would wait for the device.
    """
    a, b, c = cells.unbind(dim=-2)
    bc = torch.linalg.cross(b, c)
    volume = (a * bc).sum(dim=-1)[..., None, None]
    return torch.stack([bc, torch.linalg.cross(c, a), torch.linalg.cross(a, b)], dim=-2) / volume


def volumes(cells: Tensor) -> Tensor:
    """Volume of each cell (..., 3, 3) in Å³, (...)."""
    a, b, c = cells.unbind(dim=-2)
    return (a * torch.linalg.cross(b, c)).sum(dim=-1).abs()


def heights(cells: Tensor, pbc: Tensor | None = None) -> Tensor:
    """Distances h_i (..., 3) in Å between lattice planes; infinite where not periodic.

    Args:
        cells: (..., 3, 3) in Å.
        pbc: periodic directions, (3,) bool; all by default.
    """
    found = 1.0 / torch.linalg.vector_norm(reciprocal_rows(cells), dim=-1)
    return found if pbc is None else torch.where(pbc.to(cells.device), found, torch.inf)


def inscribed_radius(cells: Tensor, pbc: Tensor) -> Tensor:
    """Radius (...) in Å up to which the image found by rounding is the nearest and the only one."""
    return 0.5 * heights(cells, pbc).amin(dim=-1)


def rounded_image(vectors: Tensor, cells: Tensor | None, pbc: Tensor) -> Tensor:
    """Displacements moved by lattice vectors so that their fractional components are smallest.

    The result is the nearest image wherever it is shorter than
    ``inscribed_radius``, and in orthorhombic cells always; elsewhere it is an
    image that is no shorter than that radius.

    Args:
        vectors: (n, ..., 3) in Å; the gradient passes through unchanged.
        cells: (n, 3, 3) in Å, or None for no periodicity.
        pbc: periodic directions, (3,) bool.
    """
    if cells is None:
        return vectors
    flat = vectors if vectors.ndim == 3 else vectors.flatten(1, -2)
    with torch.no_grad():
        fractional = flat @ reciprocal_rows(cells).transpose(-1, -2)
        shift = torch.where(pbc.to(flat.device), fractional.round(), 0.0)
    return (flat - shift @ cells).reshape(vectors.shape)


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


def image_shifts(cells: Tensor | None, pbc: Tensor, cutoff: float) -> Tensor:
    """Lattice shifts that, added to the rounded image, give every image within a cutoff.

    Args:
        cells: (n, 3, 3) in Å, or None.
        pbc: (3,) bool.
        cutoff: Å.

    Returns:
        (S, 3) float64, the zero shift first; S = 1 up to the inscribed radius.

    Raises:
        SystemDefinitionError: a cell is so flat that more than 20000 images are in reach.
    """
    if cells is None or not len(cells):
        return torch.zeros(1, 3, dtype=torch.float64)
    apart = heights(cells.detach(), pbc)
    apart = torch.where(torch.isfinite(apart), apart, torch.inf).amin(dim=0)
    # |s_i + n_i| <= cutoff / h_i with |s_i| <= 1/2
    reach = [max(0, math.ceil(cutoff / h - 0.5 - 1e-12)) for h in apart.tolist()]
    n_images = math.prod(2 * r + 1 for r in reach)
    if n_images > 20_000:
        raise SystemDefinitionError(
            f"a cutoff of {cutoff:g} Å reaches {n_images} images of a cell whose lattice planes "
            f"are {', '.join(f'{h:.2f}' for h in apart.tolist())} Å apart; use a smaller cutoff"
        )
    ranges = [sorted(range(-r, r + 1), key=abs) for r in reach]
    shifts = sorted(itertools.product(*ranges), key=lambda n: sum(map(abs, n)))
    return torch.tensor(shifts, dtype=torch.float64, device=cells.device)


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
            f"cells must be ({n}, 3, 3), one per structure, or (3, 3), got {tuple(given.shape)}"
        )
    return given.expand(n, 3, 3)


def frame_cells(system: System, positions: Tensor, cells: Tensor | None) -> Tensor | None:
    """The cell of every frame in float64, or None for a system that is not periodic.

    Args:
        system: gives ``pbc``, and the cell where ``cells`` is None.
        positions: (n, N, 3) in Å.
        cells: (n, 3, 3) or (3, 3) in Å, or None.

    Raises:
        SystemDefinitionError: the shapes do not fit.
    """
    if positions.ndim != 3 or positions.shape[1:] != (system.n_atoms, 3):
        raise SystemDefinitionError(
            f"positions must be (frames, {system.n_atoms}, 3) for {system.formula}, got "
            f"{tuple(positions.shape)}"
        )
    if not system.is_periodic:
        return None
    given = system.cell if cells is None else cells
    own = given.to(device=positions.device, dtype=torch.float64)
    return cells_of(own, len(positions), None)


def unwrap(positions: Tensor, cells: Tensor | None, pbc: Tensor) -> Tensor:
    """Continuous paths from a trajectory that was wrapped into the cell.

    Every atom follows the nearest image from one frame to the next, so no atom
    may move farther than the inscribed radius between two frames.  Displacements
    are added up, which keeps diffusion right under a changing cell too.

    Args:
        positions: consecutive frames (n, ..., 3) in Å, wrapped in any way.
        cells: (n, 3, 3) or (3, 3) in Å, or None.
        pbc: (3,) bool.

    Reference: Bullerjahn et al., J. Chem. Theory Comput. 19, 3406 (2023), the
    "toroidal-view-preserving" scheme.
    """
    if cells is None or len(positions) < 2:
        return positions
    every = cells.to(positions.dtype).expand(len(positions), 3, 3)
    steps = rounded_image(positions[1:] - positions[:-1], every[1:], pbc)
    return torch.cat([positions[:1], positions[:1] + steps.cumsum(dim=0)])


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
