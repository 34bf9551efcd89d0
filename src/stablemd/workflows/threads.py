"""How many threads compute."""

from __future__ import annotations

import torch

from stablemd.md import sharding
from stablemd.versions import available_cores


def set_threads(threads: int | None = None) -> int:
    """One thread for PyTorch, and the given number for molecular dynamics on the CPU.

    PyTorch's operations on molecules are too small to be shared, and idle threads
    that wait for the next one take cores away from the sampling.

    Args:
        threads: that share the replicas; None: every core that this process may use.

    Returns:
        The number of threads that share the replicas.

    Raises:
        ConfigError: there are fewer cores than that.
    """
    sharding.set_threads(available_cores() if threads is None else threads)
    torch.set_num_threads(1)
    return sharding.get_threads()
