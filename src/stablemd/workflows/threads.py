"""How many threads compute."""

from __future__ import annotations

import numba
import torch

from stablemd.errors import ConfigError
from stablemd.versions import available_cores


def set_threads(threads: int | None = None) -> int:
    """One thread for PyTorch, and the given number for compiled sampling on the CPU.

    PyTorch's operations on molecules are too small to be shared, and idle threads
    that wait for the next one take cores away from the sampling.

    Args:
        threads: of the sampling; None: every core that this process may use.

    Returns:
        The number of sampling threads.

    Raises:
        ConfigError: there are more threads than Numba was started with.
    """
    limit = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    number = min(available_cores(), limit) if threads is None else threads
    if not 1 <= number <= limit:
        raise ConfigError(
            f"threads is {number}; expected 1 to {limit} on this machine (the environment "
            "variable NUMBA_NUM_THREADS sets the limit), or null for all cores"
        )
    torch.set_num_threads(1)
    numba.set_num_threads(number)
    return number
