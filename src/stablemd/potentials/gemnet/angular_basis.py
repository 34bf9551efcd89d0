"""Legendre polynomials of all angles at an atom, without a list of triplets.

A message to the edge c→a sums over the other edges b→a at the same atom,

    sum_{b≠c} P_l(cos angle(c, a, b)) x_ba .

By the addition theorem ``P_l(u·v) = sum_m C_lm(u) C_lm(v)``, where ``C_lm`` are
real spherical harmonics times ``sqrt(4π/(2l+1))`` (Racah's normalisation).  The
sum over b is then done once per atom instead of once per edge: K neighbours cost
of the order of K n_spherical² products instead of K² n_spherical, and no array
has an entry per triplet.  Both ways give the same number.  ``C_lm`` are polynomials of the
unit vector, smooth also where atoms are collinear.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor


def angular_basis(directions: Tensor, n_spherical: int) -> Tensor:
    """``C_lm`` of unit vectors, (P, n_spherical²), ordered by l < n_spherical.

    Args:
        directions: unit vectors, (P, 3).
        n_spherical: number of degrees, at least 1.
    """
    x, y, z = directions[:, 0:1], directions[:, 1:2], directions[:, 2:3]
    like = directions.dtype, directions.device
    rows = [torch.full_like(z, _scale(0, 0))]
    cosines, sines = [x], [y]
    for _ in range(2, n_spherical):
        cosines.append(x * cosines[-1] - y * sines[-1])
        sines.append(x * sines[-1] + y * cosines[-2])
    cosine, sine = (torch.cat(part, dim=1) for part in (cosines, sines))
    parts = [rows[0]]
    for degree in range(1, n_spherical):
        rows.append(_next_row(rows, z, degree, *like))
        associated = rows[degree][:, 1:]
        parts += [
            rows[degree][:, :1],
            associated * cosine[:, :degree],
            associated * sine[:, :degree],
        ]
    return torch.cat(parts, dim=1)


def parity_signs(n_spherical: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``(-1)^l`` of every ``C_lm``: what turning a direction round multiplies it by."""
    signs = [(-1.0) ** degree for degree in range(n_spherical) for _ in range(2 * degree + 1)]
    return torch.tensor(signs, dtype=dtype, device=device)


def _next_row(
    rows: list[Tensor], z: Tensor, degree: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Scaled associated Legendre functions over ``sin^m``, of one degree and all m ≥ 0."""
    along, back, last = _coefficients(degree, dtype, device)
    lower = z * rows[degree - 1] * along
    if degree > 1:
        lower = torch.cat([lower[:, :-1] - back * rows[degree - 2], lower[:, -1:]], dim=1)
    return torch.cat([lower, last.expand(len(z), 1)], dim=1)


@lru_cache(maxsize=64)
def _coefficients(
    degree: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of ``recurrence`` for one degree as tensors."""
    along, back, last = recurrence(degree + 1)
    options: dict[str, Any] = {"dtype": dtype, "device": device}
    return (
        torch.tensor(along[degree, :degree], **options),
        torch.tensor(back[degree, : degree - 1], **options),
        torch.tensor(last[degree : degree + 1], **options),
    )


def recurrence(n_spherical: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factors of ``(l-m) P_l = (2l-1) z P_(l-1) - (l+m-1) P_(l-2)`` between scaled functions.

    Returns:
        Those of ``z P_(l-1)`` and of ``P_(l-2)`` by l and m, (n_spherical, n_spherical),
        and what the function of m = l is, (n_spherical,).
    """
    along, back = np.zeros((n_spherical, n_spherical)), np.zeros((n_spherical, n_spherical))
    last = np.ones(n_spherical)
    for degree in range(1, n_spherical):
        for m in range(degree):
            along[degree, m] = (2 * degree - 1) / (degree - m)
            along[degree, m] *= _scale(degree, m) / _scale(degree - 1, m)
        for m in range(degree - 1):
            back[degree, m] = (degree + m - 1) / (degree - m)
            back[degree, m] *= _scale(degree, m) / _scale(degree - 2, m)
        last[degree] = _scale(degree, degree) * math.prod(range(1, 2 * degree, 2))
    return along, back, last


def _scale(degree: int, m: int) -> float:
    """Factor of an associated Legendre function in ``C_lm``."""
    ratio = math.factorial(degree - m) / math.factorial(degree + m)
    return math.sqrt((1.0 if m == 0 else 2.0) * ratio)
