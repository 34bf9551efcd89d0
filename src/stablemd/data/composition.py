"""Frames hold one composition in one atom order: find it, or say where it breaks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula
from numpy.typing import NDArray

from stablemd.errors import DataError


def common_numbers(
    per_frame: Sequence[NDArray[np.integer]] | NDArray[np.integer], source: str
) -> NDArray[np.int64]:
    """The atomic numbers (N,) that all frames share.

    Args:
        per_frame: atomic numbers of every frame, each (N,).
        source: the file, for messages.

    Raises:
        DataError: compositions are mixed, or the atom order changes between frames.
    """
    first = np.asarray(per_frame[0], dtype=np.int64)
    for frame, numbers in enumerate(per_frame):
        if np.array_equal(numbers, first):
            continue
        if not np.array_equal(np.sort(numbers), np.sort(first)):
            raise DataError(
                f"{source}: mixed compositions: frame {frame} is {_formula(numbers)} but frame 0 "
                f"is {_formula(first)}; give a file with one molecule, or select its frames "
                "with index"
            )
        atom = int(np.flatnonzero(numbers != first)[0])
        raise DataError(
            f"{source}: the atom order changes between frames: atom {atom} is "
            f"{chemical_symbols[int(numbers[atom])]} in frame {frame} but "
            f"{chemical_symbols[int(first[atom])]} in frame 0; reorder the atoms of that frame"
        )
    return first


def _formula(numbers: NDArray[np.integer]) -> str:
    return f"{Formula.from_list([chemical_symbols[int(z)] for z in numbers]):hill}"
