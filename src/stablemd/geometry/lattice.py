"""Periodic images: nearest ones by rounding, and all of them within a cutoff.

The distance between neighbouring lattice planes along cell vector i is h_i =
1/|b_i| with the reciprocal vector b_i.  A displacement d has the fractional
component |s_i| <= |d| / h_i, so an image shorter than the inscribed radius
min(h_i)/2 is unique and rounding the fractional components finds it, in any
triclinic cell.  Longer ones are found with the explicit shifts of
:func:`image_shifts`.

Nothing here waits for the device except :func:`image_shifts`.
"""

from __future__ import annotations

import itertools
import math

import torch
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


def perpendicular_heights(cells: Tensor, pbc: Tensor) -> Tensor:
    """Distances h_i (..., 3) in Å between lattice planes; infinite where not periodic."""
    heights = 1.0 / torch.linalg.vector_norm(reciprocal_rows(cells), dim=-1)
    return torch.where(pbc.to(cells.device), heights, torch.inf)


def inscribed_radius(cells: Tensor, pbc: Tensor) -> Tensor:
    """Radius (...) in Å up to which the image found by rounding is the nearest and the only one."""
    return 0.5 * perpendicular_heights(cells, pbc).amin(dim=-1)


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
    heights = perpendicular_heights(cells.detach(), pbc)
    heights = torch.where(torch.isfinite(heights), heights, torch.inf).amin(dim=0)
    # |s_i + n_i| <= cutoff / h_i with |s_i| <= 1/2
    reach = [max(0, math.ceil(cutoff / h - 0.5 - 1e-12)) for h in heights.tolist()]
    n_images = math.prod(2 * r + 1 for r in reach)
    if n_images > 20_000:
        raise SystemDefinitionError(
            f"a cutoff of {cutoff:g} Å reaches {n_images} images of a cell whose lattice planes "
            f"are {', '.join(f'{h:.2f}' for h in heights.tolist())} Å apart; use a smaller cutoff"
        )
    ranges = [sorted(range(-r, r + 1), key=abs) for r in reach]
    shifts = sorted(itertools.product(*ranges), key=lambda n: sum(map(abs, n)))
    return torch.tensor(shifts, dtype=torch.float64, device=cells.device)


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
    n = len(positions)
    given = system.cell if cells is None else cells
    if given.shape not in ((3, 3), (n, 3, 3)):
        raise SystemDefinitionError(
            f"cells must be ({n}, 3, 3) for {n} frames, or (3, 3), got {tuple(given.shape)}"
        )
    return given.to(device=positions.device, dtype=torch.float64).expand(n, 3, 3)


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
