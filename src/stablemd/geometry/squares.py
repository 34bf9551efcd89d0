"""Squared distances of very many pairs at little cost, without gradients."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from stablemd.geometry.lattice import reciprocal_rows


def squared_distances(
    positions: Tensor,
    cells: Tensor | None,
    periodic: tuple[bool, ...],
    difference: Callable[[Tensor], Tensor],
) -> Tensor:
    """Squared distances in Å² to the image that rounding finds; see ``rounded_image``.

    Fractional coordinates are made once per atom; a pair then costs a rounding
    per component and the metric tensor, each on contiguous arrays.

    Args:
        positions: (R, N, 3) in Å.
        cells: (R, 3, 3) in Å, or None.
        periodic: which directions are periodic.
        difference: takes one component of all atoms, (R, N), to its differences
            over the pairs, (R, ...).

    Returns:
        (R, ...).
    """
    if cells is None:
        x, y, z = (difference(c) for c in positions.unbind(dim=2))
        return x.mul_(x).add_(y.mul_(y)).add_(z.mul_(z))
    fractional = positions @ reciprocal_rows(cells).transpose(1, 2)
    steps = []
    for component, wraps in zip(fractional.unbind(dim=2), periodic, strict=True):
        step = difference(component)
        steps.append(step.sub_(step.round()) if wraps else step)
    a, b, c = steps
    metric = (cells @ cells.transpose(1, 2)).reshape(len(cells), 9, *(1,) * (a.ndim - 1))
    aa, ab, ac, _, bb, bc, _, _, cc = metric.unbind(dim=1)
    # a (aa a + 2 ab b + 2 ac c) + b (bb b + 2 bc c) + cc c²
    along_a = (aa * a).addcmul_(2.0 * ab, b).addcmul_(2.0 * ac, c)
    along_b = (bb * b).addcmul_(2.0 * bc, c)
    return along_a.mul_(a).addcmul_(along_b, b).addcmul_(cc * c, c)
