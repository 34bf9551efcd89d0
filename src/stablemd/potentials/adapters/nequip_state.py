"""NequIP's process-wide state, set up without leaving traces in this package's."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from stablemd.potentials.adapters.packages import NEQUIP

SEED_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")


@contextmanager
def initialized_nequip() -> Iterator[None]:
    """Models of nequip can be built and read within; random numbers and dtype stay as they were.

    nequip's own initialization, once per process, seeds all generators and makes float64
    the default precision.
    """
    state = NEQUIP.load("utils.global_state")
    was_initialized = state._GLOBAL_STATE_INITIALIZED
    dtype = torch.get_default_dtype()
    python_state, numpy_state = random.getstate(), np.random.get_state()
    environment = {name: os.environ.get(name) for name in SEED_VARIABLES}
    with torch.random.fork_rng(devices=[]):
        try:
            state.set_global_state()
            yield
        finally:
            # So that nequip's own tools set it up again when they are used.
            state._GLOBAL_STATE_INITIALIZED = was_initialized
            torch.set_default_dtype(dtype)
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            for name, value in environment.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
