"""Replicas in batches that fit into memory."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from stablemd.errors import PotentialError

logger = logging.getLogger(__name__)

Evaluate = Callable[[Tensor, Tensor | None], tuple[Tensor, ...]]

FIRST_BATCH = 16
"""So many replicas are evaluated without asking about memory."""

SHARE = 0.8
"""Largest share of the free memory that a batch may be expected to need."""


class ReplicaBatches:
    """Evaluates replicas in batches as large as memory allows.

    Before a batch larger than any before, batches of doubled size are tried:
    the growth of the peak memory tells what the next one needs.  (A process on
    Linux that asks for too much is ended without an error, so waiting for one
    is not enough.)  A batch that runs out of memory all the same is halved,
    for good.

    Args:
        largest: replicas in a batch at most from the start; None: no such bound.
    """

    def __init__(self, largest: int | None = None) -> None:
        self._tried = FIRST_BATCH
        self._largest = self._limit = largest

    def like(self) -> ReplicaBatches:
        """New ones with the same first bound."""
        return ReplicaBatches(self._largest)

    @property
    def limit(self) -> int | None:
        """Replicas in a batch at most, None while no bound is known."""
        return self._limit

    def __call__(
        self, evaluate: Evaluate, positions: Tensor, cells: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """What ``evaluate`` gives for all replicas.

        Args:
            evaluate: of positions (R, N, 3) and cells (R, 3, 3) or None, gives
                tensors whose first dimension is R.
            positions: (R, N, 3).
            cells: (R, 3, 3) or None.

        Raises:
            PotentialError: not even one replica fits into memory.
        """
        n = positions.shape[0]
        if self._limit is None and n > self._tried:
            self._probe(evaluate, positions, cells)
        while True:
            size = n if self._limit is None else min(n, self._limit)
            try:
                parts = [
                    evaluate(
                        positions[k : k + size], None if cells is None else cells[k : k + size]
                    )
                    for k in range(0, max(n, 1), max(size, 1))
                ]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(size, positions.device, error)
                continue
            if len(parts) == 1:
                return parts[0]
            return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def _probe(self, evaluate: Evaluate, positions: Tensor, cells: Tensor | None) -> None:
        device, n = positions.device, positions.shape[0]
        size, growth = self._tried, 0
        while size < n:
            # The last doubling added half of the present size.
            expected = 4 * growth
            if expected > SHARE * available_bytes(device):
                self._limit = size
                logger.warning(
                    "replicas are evaluated in batches of %d: twice as many would take about "
                    "%.1f GiB of memory, and %.1f GiB are free",
                    size,
                    expected / 2**30,
                    available_bytes(device) / 2**30,
                )
                return
            before = peak_bytes(device)
            size = min(2 * size, n)
            try:
                evaluate(positions[:size], _rows(cells, 0, size))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(size, device, error)
                return
            growth = peak_bytes(device) - before
            self._tried = size

    def _halve(self, size: int, device: torch.device, error: Exception) -> None:
        if size <= 1:
            raise PotentialError(
                "the memory does not suffice for the energy and forces of one replica "
                f"({error}); free memory, use another device or a smaller model"
            ) from error
        self._limit = size // 2
        if device.type == "cuda":
            torch.cuda.empty_cache()
        logger.warning(
            "%d replicas do not fit into memory; they are evaluated in batches of %d",
            size,
            self._limit,
        )


def _rows(cells: Tensor | None, begin: int, end: int) -> Tensor | None:
    return None if cells is None else cells[begin:end]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of PyTorch or Python says that memory ran out."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return any(t in text for t in ("out of memory", "can't allocate memory", "not enough memory"))


def peak_bytes(device: torch.device) -> int:
    """The most memory that this process has held on a device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def available_bytes(device: torch.device) -> int:
    """Memory of a device that is free, or is said to be; with what PyTorch keeps for later."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    found = [_meminfo(), _control_group()]
    return min((f for f in found if f is not None), default=1 << 62)


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    return 1024 * values[0] if values else None


def _control_group() -> int | None:
    """What is left of the limit of a container."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = (folder / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used))
