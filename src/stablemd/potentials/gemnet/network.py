"""A frozen GemNet-T for one system: the phases of its evaluation, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from stablemd.potentials.gemnet import backward_phases as backward
from stablemd.potentials.gemnet import forward_phases as forward
from stablemd.potentials.gemnet.arrays import Layer, Model, Work, make_workspace


class CompiledNetwork:
    """Evaluates one replica at a time; scratch memory grows with the number of pairs.

    What each phase is given is put together once.

    Args:
        model: the weights, shared among threads.
        n_pairs: room for pairs.
    """

    def __init__(self, model: Model, n_pairs: int) -> None:
        self.model = model
        self.n_pairs = n_pairs
        self._work = work = make_workspace(model, n_pairs)
        self._n_blocks = model.down.forward.shape[0]
        blocks = range(self._n_blocks)
        self._read_out = [_read_out(model, work, k) for k in range(self._n_blocks + 1)]
        self._read_out_back = [_read_out_back(model, work, k) for k in range(self._n_blocks + 1)]
        self._forward = [_block(model, work, k) for k in blocks]
        self._backward = [_block_back(model, work, k) for k in blocks]

    def make_room(self, n_pairs: int) -> CompiledNetwork:
        """This network, or one with room for more pairs."""
        return self if n_pairs <= self.n_pairs else CompiledNetwork(self.model, n_pairs)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy begins with fresh memory: parts of arrays must stay parts of them."""
        return CompiledNetwork, (self.model, self.n_pairs)

    def for_thread(self) -> CompiledNetwork:
        """The same weights with scratch memory of its own."""
        return CompiledNetwork(self.model, self.n_pairs)

    def __call__(
        self,
        x: np.ndarray,
        cell: np.ndarray,
        rows: np.ndarray,
        n_rows: int,
        local: np.ndarray,
        forces: np.ndarray | None,
        virial: np.ndarray | None,
    ) -> None:
        """Evaluate one replica; all is not a number where a position is not finite.

        Args:
            x: Å, (N, 3).
            cell: Å, (3, 3).
            rows: listed pairs (i, j, shift), (capacity, 5).
            n_rows: rows in use, or -1.
            local: receives the network's atomic energies, (N,), unscaled.
            forces: receives eV/Å, (N, 3); None where energies are enough.
            virial: receives dE/d(strain) in eV, (3, 3), with forces.
        """
        model, work = self.model, self._work
        edges = work.edges
        n_pairs, _ = forward.measure(
            x, cell, rows, n_rows, edges, model.basis, model.angles, model.radial.forward,
            model.zeros, work.values, work.slopes, work.radial, work.harmonics,
        )  # fmt: skip
        if n_pairs < 0:
            for array in (local, forces, virial):
                if array is not None:
                    array[:] = np.nan
            return
        local[:] = 0.0
        work.atoms[:] = model.atoms
        forward.embed(
            edges.source, edges.target, edges.pair, work.radial, model.from_source,
            model.to_target, 2 * n_pairs, work.messages[0], work.embedding_slopes,
        )  # fmt: skip
        self._add_output(0, local)
        for k, (triplets, of_edges, of_atoms, telling) in enumerate(self._forward):
            forward.sum_triplets(*triplets)
            forward.update_edges(*of_edges)
            forward.update_atoms(*of_atoms)
            forward.tell_edges(*telling)
            self._add_output(k + 1, local)
        if forces is not None:
            self._pull(n_pairs, forces, virial)

    def _add_output(self, k: int, local: np.ndarray) -> None:
        *arguments, g_sums = self._read_out[k]
        forward.read_out(*arguments, local, g_sums)

    def _pull(self, n_pairs: int, forces: np.ndarray, virial: np.ndarray | None) -> None:
        """Forces and virial by the way back through all phases."""
        model, work = self.model, self._work
        # The atoms' features are not needed any more; their array holds gradients from now on.
        backward.clear(work.g, work.g_radial, work.g_harmonics, work.atoms, n_pairs)
        backward.read_out_back(*self._read_out_back[-1])
        for k in range(self._n_blocks - 1, -1, -1):
            telling, of_atoms, of_edges, triplets = self._backward[k]
            backward.tell_edges_back(*telling)
            backward.update_atoms_back(*of_atoms)
            backward.update_edges_back(*of_edges)
            backward.sum_triplets_back(*triplets)
            backward.read_out_back(*self._read_out_back[k])
        backward.pull_atoms(
            work.edges, n_pairs, model.angles, model.scale, model.radial.backward, model.zeros,
            work.embedding_slopes, work.slopes, work.g, work.g_radial, work.g_basis,
            work.g_harmonics, forces, virial,
        )  # fmt: skip


def _read_out(model: Model, work: Work, k: int) -> tuple[Any, ...]:
    """Arguments of ``read_out`` for the output k, but for the atomic energies."""
    edges, weights = work.edges, model.outputs
    layers = (weights.dense, weights.first, weights.second)
    return (
        edges.starts, edges.pair, work.radial, model.output_column + k * work.g.shape[1],
        work.messages[k], *(layer.forward[k] for layer in layers),
        *(layer.backward[k] for layer in layers), model.energy[k], model.zeros,
        work.output_slopes, work.output_residual_slopes, work.sums, work.atom_values,
        work.atom_rows, work.g_outputs[k],
    )  # fmt: skip


def _read_out_back(model: Model, work: Work, k: int) -> tuple[Any, ...]:
    edges = work.edges
    return (
        work.messages[k], work.radial, edges.starts, edges.pair,
        model.output_column + k * work.g.shape[1], work.g_outputs[k], work.g_radial, work.g,
    )  # fmt: skip


def _block(model: Model, work: Work, k: int) -> tuple[tuple[Any, ...], ...]:
    """Arguments of the phases of the block k."""
    edges, m, w = work.edges, model, work

    def weights(*layers: Layer) -> list[np.ndarray]:
        return [layer.forward[k] for layer in layers]

    triplets = (
        edges.starts, edges.pair, w.radial, m.triplet_column + k * w.g.shape[1],
        m.circular_column, w.harmonics, len(m.angles.last) ** 2, w.messages[k],
        *weights(m.dense, m.down, m.bilinear, m.up, m.up_back), m.zeros, w.dense_values[k],
        w.dense_slopes[k], w.inside[k], w.down_slopes[k], w.at_atom[k], w.up_slopes[k],
        w.up_back_slopes[k], w.rows, w.degree_sums, w.mixed, w.bilinear, w.update, w.update_back,
    )  # fmt: skip
    of_edges = (
        edges.starts, edges.reverse, w.messages[k],
        *weights(m.skip, m.before_first, m.before_second, m.after_first, m.after_second),
        m.zeros, w.update, w.update_back, w.skip_slopes[k], w.before_slopes[k],
        w.after_slopes[k], w.rows, w.more_rows, w.middle[k],
    )  # fmt: skip
    of_atoms = (
        edges.starts, edges.pair, w.radial, m.atom_column + k * w.g.shape[1], w.middle[k],
        *weights(*m.updates, m.source, m.target), m.zeros, w.update_slopes[k],
        w.update_residual_slopes[k], w.sums, w.atom_values, w.atom_rows, w.atoms, w.from_source,
        w.to_target,
    )  # fmt: skip
    telling = (
        edges.starts, edges.source, edges.target, w.middle[k],
        *weights(m.known, m.concat_first, m.concat_second), m.zeros, w.from_source, w.to_target,
        w.known_slopes[k], w.concat_slopes[k], w.rows, w.more_rows, w.messages[k + 1],
    )  # fmt: skip
    return triplets, of_edges, of_atoms, telling


def _block_back(model: Model, work: Work, k: int) -> tuple[tuple[Any, ...], ...]:
    """Arguments of the phases of the block k on the way back, in their order there.

    Arrays that the way there has done with serve again: ``update`` for its
    gradient, and what edges were told of atoms for theirs.
    """
    edges, m, w = work.edges, model, work

    def weights(*layers: Layer) -> list[np.ndarray]:
        return [layer.backward[k] for layer in layers]

    telling = (
        edges.starts, edges.source, edges.target,
        *weights(m.known, m.concat_first, m.concat_second), m.zeros, w.known_slopes[k],
        w.concat_slopes[k], w.rows, w.more_rows, w.g, w.from_source, w.to_target,
    )  # fmt: skip
    of_atoms = (
        edges.starts, edges.pair, w.radial, m.atom_column + k * w.g.shape[1], w.middle[k],
        *weights(*m.updates, m.source, m.target), m.zeros, w.update_slopes[k],
        w.update_residual_slopes[k], w.sums, w.atom_values, w.atom_rows, w.atoms, w.from_source,
        w.to_target, w.g_radial, w.g,
    )  # fmt: skip
    of_edges = (
        edges.starts,
        *weights(m.skip, m.before_first, m.before_second, m.after_first, m.after_second),
        m.zeros, w.skip_slopes[k], w.before_slopes[k], w.after_slopes[k], w.rows, w.more_rows,
        w.g, w.update,
    )  # fmt: skip
    triplets = (
        edges.starts, edges.pair, edges.reverse, w.radial,
        m.triplet_column + k * w.g.shape[1], m.circular_column, w.harmonics,
        *weights(m.dense, m.down, m.bilinear, m.up, m.up_back), m.zeros, w.dense_values[k],
        w.dense_slopes[k], w.inside[k], w.down_slopes[k], w.at_atom[k], w.up_slopes[k],
        w.up_back_slopes[k], w.rows, w.degree_sums, w.mixed, w.bilinear,
        w.g_at_atom, w.g_at_atom_t, w.circular_products, w.products, w.update, w.g_radial,
        w.g_harmonics, w.g_inside, w.g,
    )  # fmt: skip
    return telling, of_atoms, of_edges, triplets
