"""The arrays that GemNet-T's compiled kernels work on: folded weights and scratch memory.

While parameters are frozen, every projection of the radial basis is one matrix, and what
the first messages take from the atoms' embeddings is a constant of each atom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from stablemd.potentials.aligned_arrays import aligned, padded, whole_vectors
from stablemd.potentials.float_vector import LANES
from stablemd.potentials.gemnet.angular_basis import recurrence
from stablemd.potentials.gemnet.blocks import AtomUpdate, Interaction, Output
from stablemd.potentials.gemnet.dense import Linear, Residual
from stablemd.system import System

if TYPE_CHECKING:
    from stablemd.potentials.gemnet_t import GemNetT


class RadialShape(NamedTuple):
    """What the radial basis is; no frequencies where it is Gaussian."""

    frequencies: np.ndarray
    n_radial: int
    cutoff: float
    exponent: int


class Angles(NamedTuple):
    """Coefficients of the recurrence of the harmonics."""

    along: np.ndarray
    back: np.ndarray
    last: np.ndarray


class Layer(NamedTuple):
    """Weights of one linear map in every block, input by output, and output by input."""

    forward: np.ndarray
    backward: np.ndarray


class Update(NamedTuple):
    """Weights of an atom update in every block."""

    dense: Layer
    first: Layer
    second: Layer


class Model(NamedTuple):
    """A frozen GemNet-T for one system; columns are those of the projected radial functions."""

    basis: RadialShape
    angles: Angles
    n_atoms: int
    radial: Layer
    circular_column: int
    triplet_column: int
    atom_column: int
    output_column: int
    from_source: np.ndarray
    to_target: np.ndarray
    atoms: np.ndarray
    updates: Update
    outputs: Update
    energy: np.ndarray
    dense: Layer
    down: Layer
    bilinear: Layer
    up: Layer
    up_back: Layer
    skip: Layer
    before_first: Layer
    before_second: Layer
    after_first: Layer
    after_second: Layer
    source: Layer
    target: Layer
    known: Layer
    concat_first: Layer
    concat_second: Layer
    scale: float
    zeros: np.ndarray


class Edges(NamedTuple):
    """Pairs of one replica, and both directions of each in the order of their targets."""

    pairs: np.ndarray
    distances: np.ndarray
    directions: np.ndarray
    forward: np.ndarray
    starts: np.ndarray
    free: np.ndarray
    source: np.ndarray
    target: np.ndarray
    pair: np.ndarray
    reverse: np.ndarray
    parts: np.ndarray


class Work(NamedTuple):
    """Scratch memory for one replica; ``g_`` are gradients of the energy."""

    edges: Edges
    values: np.ndarray
    slopes: np.ndarray
    radial: np.ndarray
    g_radial: np.ndarray
    g_basis: np.ndarray
    harmonics: np.ndarray
    g_harmonics: np.ndarray
    messages: np.ndarray
    middle: np.ndarray
    embedding_slopes: np.ndarray
    dense_values: np.ndarray
    dense_slopes: np.ndarray
    inside: np.ndarray
    g_inside: np.ndarray
    down_slopes: np.ndarray
    at_atom: np.ndarray
    up_slopes: np.ndarray
    up_back_slopes: np.ndarray
    skip_slopes: np.ndarray
    before_slopes: np.ndarray
    after_slopes: np.ndarray
    known_slopes: np.ndarray
    concat_slopes: np.ndarray
    update_slopes: np.ndarray
    update_residual_slopes: np.ndarray
    output_slopes: np.ndarray
    output_residual_slopes: np.ndarray
    update: np.ndarray
    update_back: np.ndarray
    rows: np.ndarray
    more_rows: np.ndarray
    mixed: np.ndarray
    bilinear: np.ndarray
    g: np.ndarray
    atoms: np.ndarray
    atom_values: np.ndarray
    atom_rows: np.ndarray
    sums: np.ndarray
    from_source: np.ndarray
    to_target: np.ndarray
    g_outputs: np.ndarray
    degree_sums: np.ndarray
    g_at_atom: np.ndarray
    g_at_atom_t: np.ndarray
    circular_products: np.ndarray
    products: np.ndarray


def pack_model(potential: GemNetT, system: System) -> Model:
    """The weights with all constant factors folded in; widths are padded with zeros."""
    h = potential.hyperparameters
    blocks = [cast(Interaction, block) for block in potential.interactions]
    outputs = [cast(Output, output) for output in potential.outputs]
    triplets = [block.triplets for block in blocks]
    columns, radial = _radial_maps(potential, blocks, outputs)
    embedding = potential.edge_embedding
    atoms = potential.atom_embedding(system.numbers)
    basis = potential.radial_basis
    along, back, last = recurrence(int(h["n_spherical"]))
    n_triplet, n_cbf = whole_vectors(int(h["n_triplet"])), int(h["n_cbf"])
    widest = max(n_triplet, *(int(h[k]) for k in ("n_atom", "n_edge", "n_bilinear")))
    widest = max(widest * n_cbf, int(h["n_spherical"]) ** 2, radial.shape[1])
    return Model(
        basis=RadialShape(
            basis.frequencies.double().numpy() if h["radial_basis"] == "bessel" else np.zeros(0),
            int(h["n_radial"]),
            potential.cutoff,
            int(h["envelope_exponent"]),
        ),
        angles=Angles(along, back, last),
        n_atoms=system.n_atoms,
        radial=Layer(padded(radial.float(), 1), padded(radial.T.float(), 2)),
        circular_column=columns[1],
        triplet_column=columns[2],
        atom_column=columns[3],
        output_column=columns[4],
        from_source=padded(atoms @ embedding.source.T, 1),
        to_target=padded(atoms @ embedding.target.T, 1),
        atoms=padded(atoms, 1),
        updates=_updates([block.atom_update for block in blocks]),
        outputs=_updates([output.update for output in outputs]),
        energy=padded(torch.cat([output.energy.weight for output in outputs]), 1),
        dense=_layer([t.dense.weight for t in triplets]),
        down=_layer([t.down.weight * t.radial_scale.value for t in triplets]),
        bilinear=_layer(
            [
                _padded_features(t.bilinear.weight * t.sum_scale.value, n_cbf, n_triplet)
                for t in triplets
            ]
        ),
        up=_layer([t.up.weight for t in triplets]),
        up_back=_layer([t.up_back.weight for t in triplets]),
        skip=_layer([block.skip.weight for block in blocks]),
        before_first=_residual_layer([block.before_skip for block in blocks], "first"),
        before_second=_residual_layer([block.before_skip for block in blocks], "second"),
        after_first=_residual_layer([block.after_skip for block in blocks], "first"),
        after_second=_residual_layer([block.after_skip for block in blocks], "second"),
        source=_layer([block.concat.source for block in blocks]),
        target=_layer([block.concat.target for block in blocks]),
        known=_layer([block.concat.known for block in blocks]),
        concat_first=_residual_layer([block.concat_residual for block in blocks], "first"),
        concat_second=_residual_layer([block.concat_residual for block in blocks], "second"),
        scale=float(potential.energy_scale),
        zeros=aligned((whole_vectors(widest),)),
    )


def make_workspace(model: Model, n_pairs: int) -> Work:
    """Scratch memory for at most ``n_pairs`` pairs."""
    n, p, e = model.n_atoms, n_pairs, 2 * n_pairs
    blocks, n_edge, n_triplet = model.down.forward.shape
    n_atom = model.atoms.shape[1]
    n_spherical = len(model.angles.last)
    harmonics = whole_vectors(n_spherical**2)
    n_radial, width = model.radial.forward.shape

    def residual(layer: Layer, rows: int) -> np.ndarray:
        n_layers, features = layer.forward.shape[1], layer.forward.shape[-1]
        return aligned((blocks, n_layers, 2, rows, features))

    per_edge = (blocks, e, n_edge)
    return Work(
        edges=Edges(
            pairs=aligned((p, 2), np.int32),
            distances=aligned((p,), np.float64),
            directions=aligned((p, 3), np.float64),
            forward=aligned((p,), np.int32),
            starts=np.zeros(n + 1, dtype=np.int64),
            free=np.zeros(n, dtype=np.int64),
            source=aligned((e,), np.int32),
            target=aligned((e,), np.int32),
            pair=aligned((e,), np.int32),
            reverse=aligned((e,), np.int32),
            parts=np.zeros((4, n_spherical, n_spherical)),
        ),
        values=aligned((p, n_radial)),
        slopes=aligned((p, n_radial)),
        radial=aligned((p, width)),
        g_radial=aligned((p, width)),
        g_basis=aligned((p, whole_vectors(n_radial))),
        harmonics=aligned((e, harmonics)),
        g_harmonics=aligned((e, harmonics)),
        messages=aligned((blocks + 1, e, n_edge)),
        middle=aligned(per_edge),
        embedding_slopes=aligned((e, n_edge)),
        dense_values=aligned(per_edge),
        dense_slopes=aligned(per_edge),
        inside=aligned((blocks, e, n_triplet)),
        g_inside=aligned((e, n_triplet)),
        down_slopes=aligned((blocks, e, n_triplet)),
        at_atom=aligned((blocks, n, harmonics, n_triplet)),
        up_slopes=aligned(per_edge),
        up_back_slopes=aligned(per_edge),
        skip_slopes=aligned(per_edge),
        before_slopes=residual(model.before_first, e),
        after_slopes=residual(model.after_first, e),
        known_slopes=aligned(per_edge),
        concat_slopes=residual(model.concat_first, e),
        update_slopes=aligned((blocks, n, n_atom)),
        update_residual_slopes=residual(model.updates.first, n),
        output_slopes=aligned((n, n_atom)),
        output_residual_slopes=residual(model.outputs.first, n)[0],
        update=aligned((e, n_edge)),
        update_back=aligned((e, n_edge)),
        rows=aligned((e, n_edge)),
        more_rows=aligned((2, e, n_edge)),
        mixed=aligned((e, model.bilinear.forward.shape[1])),
        bilinear=aligned((e, model.bilinear.forward.shape[2])),
        g=aligned((e, n_edge)),
        atoms=aligned((n, n_atom)),
        atom_values=aligned((n, n_atom)),
        atom_rows=aligned((2, n, n_atom)),
        sums=aligned((n, n_edge)),
        from_source=aligned((n, n_edge)),
        to_target=aligned((n, n_edge)),
        g_outputs=aligned((blocks + 1, n, n_edge)),
        degree_sums=aligned((n_spherical, n_triplet)),
        g_at_atom=aligned((harmonics, n_triplet)),
        g_at_atom_t=aligned((n_triplet, harmonics)),
        circular_products=aligned((model.triplet_column - model.circular_column, LANES)),
        products=aligned((harmonics, LANES)),
    )


def _radial_maps(
    potential: GemNetT, blocks: Sequence[Interaction], outputs: Sequence[Output]
) -> tuple[list[int], Tensor]:
    """First columns of the embedding, circular, triplet, atom and output parts, and all of it.

    The matrix (n_radial, columns) takes the radial basis to everything that is a function
    of one distance; each part begins at a whole vector.
    """
    n_edge = whole_vectors(int(potential.hyperparameters["n_edge"]))
    circular = potential.circular.folded(int(potential.hyperparameters["n_radial"]))

    def through(first: Linear, second: Linear, width: int) -> Tensor:
        return _wide(second.weight.double() @ first.weight.double(), width)

    parts = [
        [_wide(potential.edge_embedding.known.double(), n_edge)],
        [_wide(circular.double(), whole_vectors(len(circular)))],
        [through(potential.triplet_radial, block.triplets.radial, n_edge) for block in blocks],
        [through(potential.atom_radial, block.atom_update.radial, n_edge) for block in blocks],
        [through(potential.output_radial, output.update.radial, n_edge) for output in outputs],
    ]
    columns = [0]
    for part in parts[:-1]:
        columns.append(columns[-1] + sum(len(rows) for rows in part))
    return columns, torch.cat([rows for part in parts for rows in part]).T


def _wide(weight: Tensor, rows: int) -> Tensor:
    return nn.functional.pad(weight, (0, 0, 0, rows - len(weight)))


def _padded_features(weight: Tensor, n_cbf: int, n_triplet: int) -> Tensor:
    """Weights (n_out, n_cbf F) with zeros for the padded features of each circular function."""
    split = weight.view(len(weight), n_cbf, -1)
    return nn.functional.pad(split, (0, n_triplet - split.shape[2])).flatten(1)


def _layer(weights: Sequence[Tensor]) -> Layer:
    """The weights (n_out, n_in) of all blocks."""
    stack = torch.stack(list(weights))
    return Layer(padded(stack.transpose(1, 2), 2), padded(stack, 2))


def _residual_layer(stacks: Sequence[nn.Sequential], which: str) -> Layer:
    """First or second dense layers of residual stacks, (blocks, n_layers, F, F)."""
    weights: list[list[Tensor]] = [
        [cast(Linear, getattr(cast(Residual, layer), which)).weight for layer in stack]
        for stack in stacks
    ]
    if not weights[0]:
        none = aligned((len(stacks), 0, LANES, LANES))
        return Layer(none, none)
    stack = torch.stack([torch.stack(layers) for layers in weights])
    return Layer(padded(stack.transpose(2, 3), 2), padded(stack, 2))


def _updates(updates: Sequence[AtomUpdate]) -> Update:
    return Update(
        _layer([u.dense.weight * u.scale.value for u in updates]),
        _residual_layer([u.residual for u in updates], "first"),
        _residual_layer([u.residual for u in updates], "second"),
    )
