"""Messages between edges that point to the same atom."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stablemd.potentials.gemnet.dense import INV_SQRT_2, Dense, Linear, orthogonal_weights_
from stablemd.potentials.gemnet.edges import DirectedEdges
from stablemd.potentials.gemnet.scale_factor import ScaleFactor
from stablemd.potentials.gemnet.scaled import Scaled, scaled_sum


@dataclass(frozen=True)
class TripletGeometry:
    """What all interaction blocks share of distances and angles.

    Attributes:
        radial: projected radial basis of every pair, (P, n_rbf).
        harmonics: ``C_lm`` of every edge by target, (n_atoms, width, n_spherical²).
        circular: projected radial part of the angular basis of every edge by
            target, (n_atoms width, n_cbf, n_spherical).
    """

    radial: Tensor
    harmonics: Tensor
    circular: Tensor


class CircularProjection(nn.Module):
    """Radial part of the angular basis, projected to few functions for every degree.

    Args:
        n_radial: radial functions.
        n_spherical: degrees.
        n_cbf: functions that they are projected to.
    """

    def __init__(self, n_radial: int, n_spherical: int, n_cbf: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_cbf, n_spherical * n_radial))
        self._norms = [math.sqrt((2 * n + 1) / (4.0 * math.pi)) for n in range(n_spherical)]
        orthogonal_weights_(self.weight)

    def forward(self, radial: Tensor) -> Tensor:
        """(P, n_cbf n_spherical) of the radial basis (P, n_radial)."""
        return radial @ self.folded(radial.shape[1]).T

    def folded(self, n_radial: int) -> Tensor:
        """The weights with the norms of the harmonics in them, (n_cbf n_spherical, n_radial)."""
        n_cbf, n_spherical = len(self.weight), len(self._norms)
        # Y_l0 = sqrt((2l+1)/4π) P_l: the norm stands here, P_l comes from the harmonics.
        norms = self.weight.new_tensor(self._norms)[:, None]
        weight = self.weight.view(n_cbf, n_spherical, n_radial) * norms
        return weight.view(n_cbf * n_spherical, n_radial)


class TripletInteraction(nn.Module):
    """Directional message passing from edges b→a to edges c→a (GemNet, equation 9).

    Args:
        n_edge: features of an edge.
        n_triplet: features of an edge inside the sum.
        n_bilinear: features after the bilinear layer.
        n_rbf: projected radial functions.
        n_cbf: projected radial functions of the angular basis.
        n_spherical: degrees of the angular basis.
    """

    def __init__(
        self,
        n_edge: int,
        n_triplet: int,
        n_bilinear: int,
        n_rbf: int,
        n_cbf: int,
        n_spherical: int,
    ) -> None:
        super().__init__()
        self._n_spherical = n_spherical
        self.dense = Dense(n_edge, n_edge)
        self.radial = Linear(n_rbf, n_edge)
        self.radial_scale = ScaleFactor()
        self.down = Dense(n_edge, n_triplet)
        self.bilinear = Linear(n_triplet * n_cbf, n_bilinear)
        self.sum_scale = ScaleFactor()
        self.up = Dense(n_bilinear, n_edge)
        self.up_back = Dense(n_bilinear, n_edge)

    def forward(self, messages: Scaled, geometry: TripletGeometry, edges: DirectedEdges) -> Scaled:
        """Update (P, 2, n_edge) of the messages (P, 2, n_edge)."""
        x = self.dense(messages)
        radial = self.radial(Scaled(geometry.radial))[:, None]
        x = self.down(self.radial_scale(Scaled(x.values * radial, x.factor), reference=x))
        inside = edges.by_target(x.values)
        sums = sum_over_neighbours(inside, geometry.harmonics, self._n_spherical)
        mixed = torch.bmm(geometry.circular, sums.view(-1, self._n_spherical, inside.shape[2]))
        y = Scaled(self.bilinear(Scaled(mixed.flatten(1), x.factor)))
        y = Scaled(edges.from_target(y.values))
        y = self.sum_scale(y, reference=x)
        back = self.up_back(y)
        return scaled_sum(self.up(y), Scaled(back.values.flip(1), back.factor), INV_SQRT_2)


def sum_over_neighbours(x: Tensor, harmonics: Tensor, n_spherical: int) -> Tensor:
    """``sum_{b≠c} P_l(cos angle(c, a, b)) x_ba`` for every edge c→a and degree l.

    Args:
        x: features of edges by target, (n_atoms, width, F).
        harmonics: ``C_lm`` by target, (n_atoms, width, n_spherical²).
        n_spherical: number of degrees.

    Returns:
        (n_atoms, width, n_spherical, F).
    """
    sizes = [2 * degree + 1 for degree in range(n_spherical)]
    at_atom = torch.bmm(harmonics.transpose(1, 2), x).split(sizes, dim=1)
    parts = [torch.bmm(h, a) for h, a in zip(harmonics.split(sizes, dim=2), at_atom, strict=True)]
    # P_l(1) = 1: the edge itself.
    return torch.stack(parts, dim=2) - x[:, :, None]
