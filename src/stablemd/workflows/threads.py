"""How many threads and processes compute."""

from __future__ import annotations

import torch

from stablemd.md import sharding


def set_threads(threads: int | None = None, processes: int | None = None) -> int:
    """One thread for PyTorch, and the given numbers for molecular dynamics on the CPU.

    PyTorch's operations on molecules are too small to be shared, and idle threads
    that wait for the next one take cores away from the sampling.

    Args:
        threads: that share the replicas of a process; None: as for ``set_placement``.
        processes: that share the replicas; None: as for ``set_placement``.

    Returns:
        The number of threads that share the replicas of a process.

    Raises:
        ConfigError: there are fewer cores than that.
    """
    sharding.set_placement(processes, threads)
    torch.set_num_threads(1)
    return sharding.get_threads()
