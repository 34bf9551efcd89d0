"""Keys of results."""

from __future__ import annotations

from collections.abc import Collection


def unused(key: str, taken: Collection[str]) -> str:
    """The key, numbered where the same thing is asked for twice."""
    keys = [key, *(f"{key}_{n}" for n in range(2, len(taken) + 2))]
    return next(k for k in keys if k not in taken)
