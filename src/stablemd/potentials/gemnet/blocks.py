"""Blocks of GemNet-T: edge embedding, atom update, output, interaction."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from stablemd.potentials.gemnet.dense import INV_SQRT_2, SILU_GAIN, Dense, Linear, residual_stack
from stablemd.potentials.gemnet.edges import DirectedEdges
from stablemd.potentials.gemnet.scale_factor import ScaleFactor
from stablemd.potentials.gemnet.scaled import Scaled, scaled_sum
from stablemd.potentials.gemnet.triplet_interaction import TripletGeometry, TripletInteraction

OUTPUT_INIT = 0.1
"""Size of the outputs' first weights; with 1 the first forces exceed those to be learnt."""


class EdgeEmbedding(nn.Module):
    """``f(W [h_source, h_target, e])`` of atoms and what is known of the edge.

    The product with the atoms' part is formed per atom and then sent to its edges.
    """

    def __init__(self, n_atom: int, n_known: int, n_edge: int) -> None:
        super().__init__()
        whole = Linear(2 * n_atom + n_known, n_edge).weight.detach()
        parts = whole.split([n_atom, n_atom, n_known], dim=1)
        self.source, self.target, self.known = (nn.Parameter(p.clone()) for p in parts)

    def forward(self, atoms: Scaled, known: Scaled, edges: DirectedEdges) -> Scaled:
        """(P, 2, n_edge) from (n_atoms, n_atom) and (P, 1, n_known) or (P, 2, n_known)."""
        from_atoms = edges.spread(
            atoms.values @ (self.source * atoms.factor).T,
            atoms.values @ (self.target * atoms.factor).T,
        )
        return Scaled(silu(known.values @ (self.known * known.factor).T + from_atoms), SILU_GAIN)


class AtomUpdate(nn.Module):
    """Features of atoms from the edges that point to them."""

    def __init__(self, n_atom: int, n_edge: int, n_rbf: int, n_residual: int) -> None:
        super().__init__()
        self.radial = Linear(n_rbf, n_edge)
        self.scale = ScaleFactor()
        self.dense = Dense(n_edge, n_atom)
        self.residual = residual_stack(n_atom, n_residual)

    def forward(self, messages: Scaled, radial: Tensor, edges: DirectedEdges) -> Scaled:
        """(n_atoms, n_atom) from messages (P, 2, n_edge) and radial basis (P, n_rbf)."""
        weights = self.radial(Scaled(radial))[:, None]
        x = Scaled(edges.sum_at_target(messages.values * weights), messages.factor)
        y: Scaled = self.residual(self.dense(self.scale(x, reference=messages)))
        return y


class Output(nn.Module):
    """The share of one block in the atomic energies."""

    def __init__(self, n_atom: int, n_edge: int, n_rbf: int, n_residual: int) -> None:
        super().__init__()
        self.update = AtomUpdate(n_atom, n_edge, n_rbf, n_residual)
        self.energy = Linear(n_atom, 1)
        with torch.no_grad():
            self.energy.weight.mul_(OUTPUT_INIT)

    def forward(self, messages: Scaled, radial: Tensor, edges: DirectedEdges) -> Tensor:
        """(n_atoms,)."""
        energy: Tensor = self.energy(self.update(messages, radial, edges)).squeeze(1)
        return energy


class Interaction(nn.Module):
    """One interaction block: triplets, edge update, atom update, edges from atoms.

    Args:
        n_atom: features of an atom.
        n_edge: features of an edge.
        n_rbf: projected radial functions.
        n_before_skip: residual layers before the first skip connection.
        n_after_skip: residual layers after it.
        n_concat: residual layers after atoms have been sent to edges.
        n_atom_residual: residual layers of the atom update.
        triplets: the triplet interaction.
    """

    def __init__(
        self,
        n_atom: int,
        n_edge: int,
        n_rbf: int,
        n_before_skip: int,
        n_after_skip: int,
        n_concat: int,
        n_atom_residual: int,
        triplets: TripletInteraction,
    ) -> None:
        super().__init__()
        self.skip = Dense(n_edge, n_edge)
        self.triplets = triplets
        self.before_skip = residual_stack(n_edge, n_before_skip)
        self.after_skip = residual_stack(n_edge, n_after_skip)
        self.atom_update = AtomUpdate(n_atom, n_edge, n_rbf, n_atom_residual)
        self.concat = EdgeEmbedding(n_atom, n_edge, n_edge)
        self.concat_residual = residual_stack(n_edge, n_concat)

    def forward(
        self,
        atoms: Scaled,
        messages: Scaled,
        atom_radial: Tensor,
        geometry: TripletGeometry,
        edges: DirectedEdges,
    ) -> tuple[Scaled, Scaled]:
        """New features of atoms (n_atoms, n_atom) and edges (P, 2, n_edge)."""
        update = self.triplets(messages, geometry, edges)
        x = self.before_skip(scaled_sum(self.skip(messages), update, INV_SQRT_2))
        messages = self.after_skip(scaled_sum(messages, x, INV_SQRT_2))
        atoms = scaled_sum(atoms, self.atom_update(messages, atom_radial, edges), INV_SQRT_2)
        x = self.concat_residual(self.concat(atoms, messages, edges))
        return atoms, scaled_sum(messages, x, INV_SQRT_2)
