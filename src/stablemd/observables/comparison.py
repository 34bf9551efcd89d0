"""The error of an observable against its reference, with an error bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.observables.averages import Average, ensemble_average, finite_by_replica
from stablemd.observables.base import Observable
from stablemd.observables.blocks import Blocks, blocking_levels, choose_level


@dataclass(frozen=True)
class ObservableError:
    """How far an observable's average is from the reference.

    Attributes:
        mae: error in the field's convention for this observable.
        stderr: standard error of ``mae`` from the finite sampling of the
            prediction and, where it was sampled too, the reference; NaN where
            there is too little data to tell.
        prediction: the average that was compared.
        reference: the average of the reference frames, or None where the
            reference was given as numbers.
    """

    mae: float
    stderr: float
    prediction: Average
    reference: Average | None


def compare_with_reference(
    observable: Observable,
    values: Tensor,
    replica: Tensor,
    reference: Tensor,
    reference_replica: Tensor | None = None,
    *,
    reference_stderr: Tensor | None = None,
) -> ObservableError:
    """The observable's error with its jackknife error bar over blocks of frames.

    An error is never negative, so sampling noise makes it larger on average: a
    perfect model shows an error of about its own sampling noise.

    Args:
        observable: defines the error.
        values: of the simulated frames, (n, D).
        replica: of the simulated frames, (n,) int64.
        reference: average (D,), taken as exact, or values (n_ref, D) of frames.
        reference_replica: (n_ref,) int64; one replica by default.
        reference_stderr: standard error (D,) of a reference that is given as an
            average; its components count as fully correlated.

    Raises:
        DataError: shapes do not fit, or no frame is finite.
    """
    n_components = observable.axis.shape[0]
    if reference.ndim not in (1, 2) or reference.shape[-1] != n_components:
        raise DataError(
            f"the reference of {observable.name!r} must be an average ({n_components},) or "
            f"values (frames, {n_components}), got {tuple(reference.shape)}"
        )
    prediction = ensemble_average(values, replica)
    target, target_average, target_variance = reference.to(prediction.mean), None, 0.0
    if reference.ndim == 2:
        if reference_replica is None:
            reference_replica = torch.zeros(len(reference), dtype=torch.int64)
        target_average = ensemble_average(reference.to(values.device), reference_replica)
        target = target_average.mean
        _, error = jackknife(
            lambda mean: observable.mean_absolute_error(prediction.mean, mean),
            reference.to(values.device),
            reference_replica,
        )
        target_variance = error**2
    elif reference_stderr is not None:
        target_variance = _propagated(observable, prediction.mean, target, reference_stderr) ** 2
    mae, stderr = jackknife(
        lambda mean: observable.mean_absolute_error(mean, target), values, replica
    )
    return ObservableError(mae, (stderr**2 + target_variance) ** 0.5, prediction, target_average)


def _propagated(observable: Observable, mean: Tensor, target: Tensor, stderr: Tensor) -> float:
    """Standard error of the observable's error from that of its target."""
    leaf = target.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(observable.mean_absolute_error(mean, leaf), leaf)
    return float((slope.abs() * stderr.to(slope)).sum())


def jackknife(
    function: Callable[[Tensor], Tensor], values: Tensor, replica: Tensor
) -> tuple[float, float]:
    """A function of the ensemble average and its standard error.

    Blocks of consecutive frames are left out in turn.  Their length is the
    one that block averaging finds sufficient for the function's linear part.

    Args:
        function: differentiable, from an average (D,) to a scalar.
        values: (n, D); frames with a non-finite value are left out.
        replica: replica of each frame, (n,) int64.

    Returns:
        The function of the average over all frames, and its standard error (NaN
        with fewer than two blocks).

    Raises:
        DataError: shapes do not fit, or no frame is finite.

    Reference: Efron, "The Jackknife, the Bootstrap and Other Resampling Plans"
    (1982); Künsch, Ann. Statist. 17, 1217 (1989) for blocks.
    """
    ordered, sizes, _ = finite_by_replica(values, replica)
    n = len(ordered)
    mean = ordered.mean(dim=0).requires_grad_(True)
    with torch.enable_grad():
        value = function(mean)
        (slope,) = torch.autograd.grad(value, mean)
    estimate = float(value.detach())
    blocks = _sufficient_blocks(ordered, sizes, slope)
    m = len(blocks.counts)
    if m < 2:
        return estimate, float("nan")
    total = ordered.sum(dim=0)
    with torch.no_grad():
        left_out = torch.stack(
            [
                function((total - block) / (n - count)).reshape(())
                for block, count in zip(blocks.sums, blocks.counts, strict=True)
            ]
        )
    variance = (left_out - left_out.mean()).square().sum() * (m - 1) / m
    return estimate, float(variance.sqrt())


def _sufficient_blocks(ordered: Tensor, sizes: Tensor, slope: Tensor) -> Blocks:
    linear = (ordered @ slope)[:, None]
    levels = [
        (b.length, b.are_replicas, b.variance_of_mean()) for b in blocking_levels(linear, sizes)
    ]
    chosen, _ = choose_level(
        [(length, whole) for length, whole, _ in levels],
        torch.stack([variance for *_, variance in levels]),
        len(ordered),
    )
    blocks = Blocks.single_frames(ordered, sizes)
    while blocks.length < levels[int(chosen)][0]:
        blocks = blocks.merged()
    return blocks
