"""Split frames into training, validation and test parts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.data.frames import Frames
from stablemd.errors import DataError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Disjoint parts of the same frames.

    Attributes:
        train: frames to fit.
        validation: frames to choose by.
        test: frames to report on, or None where none were left.
        train_index: indices of ``train`` in the original frames, (n_train,) int64.
        validation_index: the same for ``validation``.
        test_index: the same for ``test``; empty where there is none.
    """

    train: Frames
    validation: Frames
    test: Frames | None
    train_index: Tensor
    validation_index: Tensor
    test_index: Tensor

    def require_test(self) -> Frames:
        """The test part, or a clear error where there is none."""
        if self.test is None:
            raise DataError(
                f"{self.train.source}: no test frames are left beside {len(self.train)} for "
                f"training and {len(self.validation)} for validation; use fewer of these"
            )
        return self.test


def split(
    frames: Frames,
    *,
    n_train: int,
    n_validation: int,
    n_test: int | None = None,
    seed: int,
) -> Split:
    """Split at random without replacement; the same seed gives the same parts.

    Args:
        frames: all frames.
        n_train: frames for training, at least 1.
        n_validation: frames for validation, at least 1.
        n_test: frames for testing; all that are left by default.
        seed: seed of the permutation.

    Raises:
        DataError: there are too few frames.
    """
    sizes = _sizes(frames, n_train, n_validation, n_test, gap=0)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(frames), generator=generator)
    first, second, third = order[: sum(sizes)].split(list(sizes))
    return _build(frames, first, second, third)


def contiguous_split(
    frames: Frames,
    *,
    n_train: int,
    n_validation: int,
    n_test: int | None = None,
    gap: int = 0,
) -> Split:
    """Split in the order of time: training first, then validation, then test.

    Args:
        frames: all frames, in order of time.
        n_train: frames for training, at least 1.
        n_validation: frames for validation, at least 1.
        n_test: frames for testing; all that are left by default.
        gap: frames left out between two parts, so that they are not correlated.

    Raises:
        DataError: there are too few frames.
    """
    sizes = _sizes(frames, n_train, n_validation, n_test, gap=gap)
    starts = (0, sizes[0] + gap, sizes[0] + sizes[1] + 2 * gap)
    parts = [torch.arange(s, s + n) for s, n in zip(starts, sizes, strict=True)]
    return _build(frames, *parts)


def _sizes(
    frames: Frames, n_train: int, n_validation: int, n_test: int | None, gap: int
) -> tuple[int, int, int]:
    for name, value, lowest in (
        ("n_train", n_train, 1),
        ("n_validation", n_validation, 1),
        ("n_test", 0 if n_test is None else n_test, 0),
        ("gap", gap, 0),
    ):
        if value < lowest:
            raise DataError(f"{frames.source}: {name} is {value}; give at least {lowest}")
    needed = n_train + n_validation + gap
    if n_test is None:
        n_test = max(0, len(frames) - needed - gap)
    elif n_test:
        needed += n_test + gap
    if needed > len(frames):
        raise DataError(
            f"{frames.source}: {needed} frames are needed (n_train={n_train}, "
            f"n_validation={n_validation}, n_test={n_test}, gap={gap}) but there are "
            f"{len(frames)}; use smaller parts or more data"
        )
    return n_train, n_validation, n_test


def _build(frames: Frames, train: Tensor, validation: Tensor, test: Tensor) -> Split:
    result = Split(
        train=frames.select(train),
        validation=frames.select(validation),
        test=frames.select(test) if len(test) else None,
        train_index=train,
        validation_index=validation,
        test_index=test,
    )
    _warn_of_duplicates(frames, {"train": train, "validation": validation, "test": test})
    return result


def _warn_of_duplicates(frames: Frames, parts: dict[str, Tensor]) -> None:
    """Log a warning when two parts share a geometry exactly."""
    first_seen: dict[bytes, str] = {}
    shared: dict[tuple[str, str], int] = {}
    flat = frames.positions.reshape(len(frames), -1).numpy()
    for name, index in parts.items():
        for i in index.tolist():
            owner = first_seen.setdefault(flat[i].tobytes(), name)
            if owner != name:
                shared[owner, name] = shared.get((owner, name), 0) + 1
    for (owner, name), count in shared.items():
        logger.warning(
            "%s: %d geometries of the %s part are also in the %s part; errors measured there "
            "are too small. Remove duplicate frames first",
            frames.source,
            count,
            name,
            owner,
        )
