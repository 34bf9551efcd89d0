"""Modules of a package's model that stand aside for faster ones during an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

Replacement = tuple[nn.Module, str, nn.Module]
"""A module, the name of its part, and what takes the part's place."""


@contextmanager
def replaced(parts: Iterable[Replacement]) -> Iterator[None]:
    """Within, the parts are replaced.

    Afterwards, also after an error, the model is as before, so that it stays what its package
    saves and loads.
    """
    own = []
    try:
        for module, name, part in parts:
            own.append((module, name, getattr(module, name)))
            setattr(module, name, part)
        yield
    finally:
        for module, name, part in reversed(own):
            setattr(module, name, part)
