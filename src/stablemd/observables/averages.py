"""Ensemble averages with block-averaged standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.autocorrelation import integrated_autocorrelation
from stablemd.errors import DataError
from stablemd.observables.blocks import blocking_levels, choose_level


@dataclass(frozen=True)
class Average:
    """An ensemble average with its error bar.

    Attributes:
        mean: (D,) float64.
        stderr: standard error of the mean by block averaging, (D,) float64; NaN
            where there is only one frame.
        n_eff: number of independent frames that give the same variance of the
            mean, from the integrated autocorrelation time.
        autocorrelation_time: integrated, in frames; 0.5 for independent frames.
        n_frames: frames that were averaged.
        n_dropped: frames left out because a value was not finite.
        n_replicas: replicas with at least one averaged frame.
        plateau: whether the blocks were long enough for every component; where
            False the standard errors are lower bounds and more data is needed.
    """

    mean: Tensor
    stderr: Tensor
    n_eff: float
    autocorrelation_time: float
    n_frames: int
    n_dropped: int
    n_replicas: int
    plateau: bool


def ensemble_average(values: Tensor, replica: Tensor) -> Average:
    """Average over the frames of independent replicas, which may differ in length.

    All frames count equally.  Frames of one replica are in the order of time
    and equally spaced; their correlation is treated by block averaging.
    Replicas are independent of each other.

    Args:
        values: (n, D); frames with a non-finite value are counted and left out.
        replica: replica of each frame, (n,) int64, in any order.

    Raises:
        DataError: shapes do not fit, or no frame is finite.

    Reference: Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989).
    """
    ordered, sizes, n_dropped = finite_by_replica(values, replica)
    n = len(ordered)
    levels, variances = [], []
    for blocks in blocking_levels(ordered, sizes):
        levels.append((blocks.length, blocks.are_replicas))
        variances.append(blocks.variance_of_mean())
    stacked = torch.stack(variances)
    chosen, plateau = choose_level(levels, stacked, n)
    correlation = integrated_autocorrelation(ordered, sizes)
    return Average(
        mean=ordered.mean(dim=0),
        stderr=stacked.gather(0, chosen[None])[0].sqrt(),
        n_eff=correlation.n_eff,
        autocorrelation_time=correlation.time,
        n_frames=n,
        n_dropped=n_dropped,
        n_replicas=len(sizes),
        plateau=plateau and n > 1,
    )


def block_average(series: Tensor) -> Average:
    """Average over one time series, (n,) or (n, D), with block-averaged standard error."""
    values = series[:, None] if series.ndim == 1 else series
    return ensemble_average(values, torch.zeros(len(values), dtype=torch.int64))


def finite_by_replica(values: Tensor, replica: Tensor) -> tuple[Tensor, Tensor, int]:
    """Finite frames in float64, replica after replica, each in its own order.

    Args:
        values: (n, D).
        replica: (n,) int64.

    Returns:
        Values (n_finite, D), frames per replica (R,) int64, and the number of
        frames that were left out.

    Raises:
        DataError: shapes do not fit, or no frame is finite.
    """
    if values.ndim != 2 or replica.shape != values.shape[:1]:
        raise DataError(
            "values must be (frames, D) and replica (frames,); got "
            f"{tuple(values.shape)} and {tuple(replica.shape)}"
        )
    values = values.detach().to(torch.float64)
    replica = replica.to(values.device)
    finite = torch.isfinite(values).all(dim=1)
    n_dropped = int((~finite).sum())
    if n_dropped == len(values):
        raise DataError(
            f"no finite frame among {len(values)}; an average needs at least one. Record "
            "frames before the replicas fail, or shorten the interval between frames"
        )
    kept = replica[finite]
    order = torch.argsort(kept, stable=True)
    _, sizes = torch.unique_consecutive(kept[order], return_counts=True)
    return values[finite][order], sizes, n_dropped
