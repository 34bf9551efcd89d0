"""Averages of local observables over all neighbourhoods of a kind, with their weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.estimators.frames import SampledFrames
from stablemd.estimators.neighbourhoods import Neighbourhoods
from stablemd.estimators.reweighting import ReweightedMean, reweighted_mean
from stablemd.estimators.surrogate import potential_atomic_energies
from stablemd.estimators.weights import n_eff_entropy, n_eff_kish, neighbourhood_weights
from stablemd.potentials.base import Potential
from stablemd.system import System


@dataclass(frozen=True)
class LocalAverage:
    """Averages at θ over pairs of frame and neighbourhood.

    Attributes:
        by_frame: the same averages as those of one number per frame and kind, whose
            weights are the sums over a frame's neighbourhoods.
        around: neighbourhoods of the kept frames.
        values: g_ik of the kept frames, (n_kept, K, D) float64.
        pair_weights: w_ik, (n_kept, K) float64; those of each kind sum to one.
    """

    by_frame: ReweightedMean
    around: Neighbourhoods
    values: Tensor
    pair_weights: Tensor


def local_average(
    potential: Potential,
    system: System,
    frames: SampledFrames,
    around: Neighbourhoods,
    *,
    beta: float,
    chunk_size: int,
    whole_frames: bool,
    energies: Tensor | None,
) -> LocalAverage:
    """Averages of local observables at the potential's present parameters.

    Args:
        potential: at the parameters θ.
        system: the atoms.
        frames: sampled at θ0; ``values`` as for ``localized_gradient``.
        around: their neighbourhoods.
        beta: inverse temperature of the sampling in 1/eV.
        chunk_size: frames per call of the potential.
        whole_frames: weigh frames by their total energies, rather than neighbourhoods
            by their own.
        energies: at θ in eV, if known: (n,), or atomic ones (n, N) where neighbourhoods
            are weighed.

    Raises:
        DataError: no frame is finite, or shapes do not fit.
    """
    local = _local_values(frames, around)
    kind = around.kind.to(local.device)
    alike = kind.bincount().to(local)
    if whole_frames:
        average = reweighted_mean(
            potential,
            system,
            replace(frames, values=(_kind_sums(local, around) / alike[:, None]).flatten(1)),
            beta=beta,
            chunk_size=chunk_size,
            energies=energies,
        )
        pairs = (average.weights[:, None] / alike[kind]).expand(-1, len(around))
        index = average.index
        return LocalAverage(average, around.select_frames(index), local[index], pairs)
    return _weighed_by_neighbourhood(
        potential, system, frames, around, local, beta, chunk_size, energies
    )


def _weighed_by_neighbourhood(
    potential: Potential,
    system: System,
    frames: SampledFrames,
    around: Neighbourhoods,
    local: Tensor,
    beta: float,
    chunk_size: int,
    energies: Tensor | None,
) -> LocalAverage:
    reference = frames.reference_atomic_energies
    if reference is None or (energies is not None and energies.shape != reference.shape):
        raise DataError(
            "neighbourhoods are weighed by atomic energies (n, N), of the frames as they were "
            f"sampled and at present; got {None if reference is None else tuple(reference.shape)} "
            f"and {None if energies is None else tuple(energies.shape)}"
        )
    present = (
        potential_atomic_energies(
            potential, system, frames.positions, cells=frames.cells, chunk_size=chunk_size
        )
        if energies is None
        else energies.detach().to(local.device)
    )
    keep = frames.finite_mask() & torch.isfinite(present).all(dim=1)
    index = torch.nonzero(keep).flatten()
    if not len(index):
        raise DataError(
            f"none of the {len(frames)} sampled frames has finite energies and observables; "
            "record frames before the replicas fail"
        )
    around, local, present = around.select_frames(index), local[index], present[index]
    kind = around.kind.to(local.device)
    changes = around.energy_changes(present, reference[index])
    pairs = neighbourhood_weights(changes, kind, beta)
    weights = pairs.sum(dim=1) / around.n_kinds
    within = _kind_sums(local * pairs[:, :, None], around)
    mean = within.sum(dim=0)
    # A frame's part in the error of the mean, which is a ratio of sums for every kind.
    parts = within - _kind_sums(pairs[:, :, None], around) * mean
    values = mean.flatten() + parts.flatten(1) / weights.clamp_min(
        torch.finfo(weights.dtype).tiny
    ).unsqueeze(1)
    of_kind = [pairs[:, kind == label].flatten() for label in range(around.n_kinds)]
    average = ReweightedMean(
        mean=mean.flatten(),
        weights=weights,
        frames=replace(frames.select(index), values=values),
        index=index,
        energies=present.sum(dim=1),
        n_eff=len(index) * min(n_eff_kish(w) / len(w) for w in of_kind),
        n_eff_entropy=len(index) * min(n_eff_entropy(w) / len(w) for w in of_kind),
        n_dropped=len(frames) - len(index),
    )
    return LocalAverage(average, around, local, pairs)


def _local_values(frames: SampledFrames, around: Neighbourhoods) -> Tensor:
    """g_ik, (n, K, D) float64."""
    n, width = frames.values.shape
    if len(around) == 0 or width % len(around):
        raise DataError(
            f"{len(around)} neighbourhoods need values (n, {len(around)}·D), the same number of "
            f"local observables for each, got {(n, width)}"
        )
    return frames.values.to(torch.float64).reshape(n, len(around), -1)


def _kind_sums(local: Tensor, around: Neighbourhoods) -> Tensor:
    """Sums over the neighbourhoods of each kind within a frame, (n, n_kinds, D)."""
    kind = around.kind.to(local.device)
    sums = local.new_zeros(len(local), around.n_kinds, local.shape[2])
    return sums.index_add(1, kind, local)
