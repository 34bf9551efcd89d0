"""GemNet-T: directional message passing on edges, with angles between them.

Gasteiger, Becker, Günnemann, "GemNet: Universal Directional Graph Neural
Networks for Molecules", NeurIPS 2021 (arXiv 2106.08903).
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from stablemd.errors import PotentialError
from stablemd.potentials.base import Potential, SamplingForm
from stablemd.potentials.batch import Batch
from stablemd.potentials.gemnet.angular_basis import angular_basis, parity_signs
from stablemd.potentials.gemnet.blocks import EdgeEmbedding, Interaction, Output
from stablemd.potentials.gemnet.dense import Linear
from stablemd.potentials.gemnet.edges import DirectedEdges
from stablemd.potentials.gemnet.radial_basis import RADIAL_BASES, RadialBasis
from stablemd.potentials.gemnet.scale_factor import fitting_scale_factors
from stablemd.potentials.gemnet.scaled import Scaled
from stablemd.potentials.gemnet.triplet_interaction import (
    CircularProjection,
    TripletGeometry,
    TripletInteraction,
)
from stablemd.system import System

N_ELEMENTS = 100

PRESETS: dict[str, dict[str, Any]] = {
    "small": {
        "n_blocks": 2,
        "n_atom": 32,
        "n_edge": 32,
        "n_triplet": 16,
        "n_bilinear": 16,
        "n_rbf": 8,
        "n_cbf": 8,
        "n_radial": 6,
        "n_spherical": 4,
        "n_before_skip": 1,
        "n_after_skip": 1,
        "n_concat": 1,
        "n_atom_residual": 1,
        "cutoff": 5.0,
        "radial_basis": "bessel",
        "envelope_exponent": 5,
    },
    "paper": {
        "n_blocks": 4,
        "n_atom": 128,
        "n_edge": 128,
        "n_triplet": 64,
        "n_bilinear": 64,
        "n_rbf": 16,
        "n_cbf": 16,
        "n_radial": 6,
        "n_spherical": 7,
        "n_before_skip": 1,
        "n_after_skip": 1,
        "n_concat": 1,
        "n_atom_residual": 2,
        "cutoff": 5.0,
        "radial_basis": "gaussian",
        "envelope_exponent": 5,
    },
}
"""Hyper-parameters by name; "paper" is the water model of Raja et al. (TMLR 2025)."""


class GemNetT(Potential):
    """GemNet-T with atomic energies, conservative forces and the energy scale inside.

    ``E = sum_a (energy_scale * sum_blocks network_a + atomic_shift[Z_a])``; both
    constants are buffers in float64.  Every contribution of an edge carries the
    envelope of its own length and, in a triplet, that of both edges, so that
    energy and forces are continuous where atoms come within the cutoff.

    An atom with K neighbours has K (K - 1) triplets, none of which is listed:
    sums over them are products with spherical harmonics
    (``gemnet/angular_basis.py``), so that time and memory grow as K.  The
    largest arrays are ``n_cbf * n_triplet`` numbers per directed edge and block.

    Arguments that are None are those of the preset.

    Args:
        preset: "small" trains on a CPU; "paper" is the water model of Raja et al.
        n_blocks: interaction blocks.
        n_atom: features of an atom.
        n_edge: features of a directed edge.
        n_triplet: features of an edge in sums over triplets.
        n_bilinear: features after the bilinear layer.
        n_rbf: size that radial bases are projected to.
        n_cbf: size that the radial part of the angular basis is projected to.
        n_radial: radial functions.
        n_spherical: Legendre polynomials of the angle, degrees 0 to n_spherical - 1.
        n_before_skip: residual layers before a block's first skip connection.
        n_after_skip: residual layers after it.
        n_concat: residual layers after edges have been told of their atoms.
        n_atom_residual: residual layers of atom updates and outputs.
        cutoff: range of an edge in Å.
        radial_basis: "bessel" as in GemNet, or "gaussian" as in Raja et al.'s configuration.
        envelope_exponent: p of the polynomial envelope.

    Raises:
        PotentialError: a value is out of range.
    """

    def __init__(
        self,
        preset: Literal["small", "paper"] = "small",
        n_blocks: int | None = None,
        n_atom: int | None = None,
        n_edge: int | None = None,
        n_triplet: int | None = None,
        n_bilinear: int | None = None,
        n_rbf: int | None = None,
        n_cbf: int | None = None,
        n_radial: int | None = None,
        n_spherical: int | None = None,
        n_before_skip: int | None = None,
        n_after_skip: int | None = None,
        n_concat: int | None = None,
        n_atom_residual: int | None = None,
        cutoff: float | None = None,
        radial_basis: Literal["bessel", "gaussian"] | None = None,
        envelope_exponent: int | None = None,
    ) -> None:
        given = {k: v for k, v in locals().items() if k not in ("self", "preset", "__class__")}
        super().__init__()
        h = _resolve(preset, given)
        self.hyperparameters = h
        self.cutoff = float(h["cutoff"])
        self._n_spherical, self._n_cbf = int(h["n_spherical"]), int(h["n_cbf"])
        self.radial_basis = RadialBasis(
            h["radial_basis"], h["n_radial"], self.cutoff, h["envelope_exponent"]
        )
        self.triplet_radial = Linear(h["n_radial"], h["n_rbf"])
        self.atom_radial = Linear(h["n_radial"], h["n_rbf"])
        self.output_radial = Linear(h["n_radial"], h["n_rbf"])
        self.circular = CircularProjection(h["n_radial"], self._n_spherical, h["n_cbf"])
        self.atom_embedding = nn.Embedding(N_ELEMENTS, h["n_atom"])
        nn.init.uniform_(self.atom_embedding.weight, -math.sqrt(3.0), math.sqrt(3.0))
        self.edge_embedding = EdgeEmbedding(h["n_atom"], h["n_radial"], h["n_edge"])
        self.interactions = nn.ModuleList(_interaction(h) for _ in range(h["n_blocks"]))
        self.outputs = nn.ModuleList(
            Output(h["n_atom"], h["n_edge"], h["n_rbf"], h["n_atom_residual"])
            for _ in range(h["n_blocks"] + 1)
        )
        self.register_buffer("energy_scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("atomic_shift", torch.zeros(N_ELEMENTS, dtype=torch.float64))

    energy_scale: Tensor
    atomic_shift: Tensor

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """Move as asked, but keep the energy constants in float64."""
        scale, shift = self.energy_scale, self.atomic_shift
        super()._apply(fn, recurse)
        self.energy_scale = scale.to(self.energy_scale.device)
        self.atomic_shift = shift.to(self.atomic_shift.device)
        return self

    def local_energies(self, batch: Batch) -> Tensor:
        """Atomic energies in eV, (n_atoms_total,) float64, with graph."""
        network = self._network(batch).double()
        return network * self.energy_scale + self.atomic_shift[batch.numbers]

    def _network(self, batch: Batch) -> Tensor:
        """Atomic energies in units of ``energy_scale``, (n_atoms_total,)."""
        pairs, vectors = _within_cutoff(batch.pairs, batch.pair_vectors(), self.cutoff)
        edges = DirectedEdges.of_pairs(pairs, len(batch.positions))
        distances = torch.linalg.vector_norm(vectors, dim=1)
        radial = self.radial_basis(distances)
        geometry = self._geometry(vectors / distances[:, None], radial, edges)
        atom_radial, output_radial = (
            layer(Scaled(radial)) for layer in (self.atom_radial, self.output_radial)
        )
        atoms = Scaled(self.atom_embedding(batch.numbers))
        messages = self.edge_embedding(atoms, Scaled(radial[:, None]), edges)
        outputs = [cast(Output, output) for output in self.outputs]
        energies: Tensor = outputs[0](messages, output_radial, edges)
        for interaction, output in zip(self.interactions, outputs[1:], strict=True):
            atoms, messages = interaction(atoms, messages, atom_radial, geometry, edges)
            energies = energies + output(messages, output_radial, edges)
        return energies

    def _geometry(
        self, directions: Tensor, radial: Tensor, edges: DirectedEdges
    ) -> TripletGeometry:
        harmonics = angular_basis(directions, self._n_spherical)
        circular = self.circular(radial)[:, None].expand(-1, 2, -1)
        signs = parity_signs(self._n_spherical, directions.dtype, directions.device)
        return TripletGeometry(
            radial=self.triplet_radial(Scaled(radial)),
            harmonics=edges.by_target(torch.stack([harmonics, harmonics * signs], dim=1)),
            circular=edges.by_target(circular).view(-1, self._n_cbf, self._n_spherical),
        )

    def fit_scale_factors(self, batch: Batch) -> None:
        """Fit the factors that keep variances, on structures like those to be trained on."""
        with torch.no_grad(), fitting_scale_factors(self):
            self._network(batch)

    def set_energy_scale(self, scale: float, shifts: dict[int, float]) -> None:
        """Set the energy scale (eV) and the constant energy of each element (eV)."""
        self.energy_scale.fill_(scale)
        for number, shift in shifts.items():
            self.atomic_shift[number] = shift

    def shift_energies(self, shift: float) -> None:
        """Add a constant (eV) to the energy of every atom."""
        self.atomic_shift += shift

    def for_sampling(self, system: System, reference: Tensor | None = None) -> SamplingForm:
        """A compiled form in float32 on a CPU; else a frozen copy."""
        from stablemd.potentials.gemnet_compiled import CompiledGemNetSampling
        from stablemd.potentials.gemnet_sampling import GemNetSampling

        if self.dtype == torch.float32 and self.device.type == "cpu":
            return CompiledGemNetSampling(self, system)
        return GemNetSampling(self, system)


def _interaction(h: dict[str, Any]) -> Interaction:
    triplets = TripletInteraction(
        h["n_edge"], h["n_triplet"], h["n_bilinear"], h["n_rbf"], h["n_cbf"], h["n_spherical"]
    )
    return Interaction(
        h["n_atom"],
        h["n_edge"],
        h["n_rbf"],
        h["n_before_skip"],
        h["n_after_skip"],
        h["n_concat"],
        h["n_atom_residual"],
        triplets,
    )


def _within_cutoff(pairs: Tensor, vectors: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Pairs and vectors without those that can't contribute; what is not a number stays."""
    far = vectors.detach().square().sum(dim=1) >= cutoff**2
    if not bool(far.any()):
        return pairs, vectors
    (kept,) = torch.nonzero(~far, as_tuple=True)
    return pairs.index_select(1, kept), vectors.index_select(0, kept)


def _resolve(preset: str, given: dict[str, Any]) -> dict[str, Any]:
    """The preset's values where nothing else is given.

    Raises:
        PotentialError: a value is out of range.
    """
    if preset not in PRESETS:
        raise PotentialError(f"GemNetT: preset = {preset!r}; choose one of {', '.join(PRESETS)}")
    h = {**PRESETS[preset], **{k: v for k, v in given.items() if v is not None}}
    for name, value in h.items():
        if name in ("cutoff", "radial_basis"):
            continue
        least = _LEAST.get(name, 2)
        if value < least:
            raise PotentialError(f"GemNetT: {name} = {value} is too small; give at least {least}")
    if not h["cutoff"] > 0:
        raise PotentialError(f"GemNetT: cutoff = {h['cutoff']} Å must be positive")
    if h["radial_basis"] not in RADIAL_BASES:
        raise PotentialError(
            f"GemNetT: radial_basis = {h['radial_basis']!r}; "
            f"choose one of {', '.join(RADIAL_BASES)}"
        )
    h["cutoff"] = float(h["cutoff"])
    return h


_LEAST = {
    "n_blocks": 1,
    "n_spherical": 1,
    "n_before_skip": 0,
    "n_after_skip": 0,
    "n_concat": 0,
    "n_atom_residual": 0,
    "envelope_exponent": 1,
}
