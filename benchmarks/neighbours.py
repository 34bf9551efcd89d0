"""Searches for the pairs of a periodic box: dense, in bins, vesin, ASE."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from benchmarks.measure import Contender, Timing
from benchmarks.section import Section, Settings
from benchmarks.water import CUTOFF, water_box
from stablemd.geometry.pair_search import list_pairs_densely, list_pairs_in_bins
from stablemd.potentials.base import SKIN

REACH = CUTOFF + SKIN


class _Box:
    """One water box as every search wants it."""

    def __init__(self, n_side: int) -> None:
        system, positions = water_box(n_side, 1)
        self.x = positions[0].contiguous().numpy()
        self.cell = system.cell.numpy()
        self.pbc = np.ones(3, dtype=bool)
        self.inverse = np.linalg.inv(self.cell)
        self.reach = REACH * np.linalg.norm(self.inverse, axis=0) * (1.0 + 1e-9)
        self.atoms = Atoms(system.numbers.numpy(), self.x, cell=self.cell, pbc=True)

    def searches(self) -> dict[str, Callable[[], int]]:
        """Name -> search that returns the number of pairs, each counted once."""
        arguments = (self.x, self.cell, self.inverse, self.reach, self.pbc, REACH)
        found: dict[str, Callable[[], int]] = {
            "ASE": lambda: len(neighbor_list("i", self.atoms, REACH)) // 2,
            "every pair (stablemd)": lambda: len(list_pairs_densely(*arguments)),
            "bins (stablemd)": lambda: len(list_pairs_in_bins(*arguments)),
        }
        if importlib.util.find_spec("vesin") is not None:
            import vesin  # type: ignore[import-not-found,unused-ignore]

            search = vesin.NeighborList(cutoff=REACH, full_list=False, n_threads=1)
            found["vesin"] = lambda: len(
                search.compute(self.x, self.cell, True, quantities="PS", copy=False)[0]
            )
            found["vesin, rows in order"] = lambda: len(
                _in_order(*search.compute(self.x, self.cell, True, quantities="PS", copy=False))
            )
        return found


def _in_order(pairs: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Rows (i, j, shift) in the order in which stablemd's searches list them, as a list keeps it.

    Without it, sums over pairs would round differently whenever a list is built anew.
    """
    rows = np.concatenate([pairs.astype(np.int32), shifts], axis=1)
    key = pairs[:, 0].astype(np.int64)
    for column, span, offset in ((pairs[:, 1], 2**20, 0), *((s, 64, 32) for s in shifts.T)):
        key = key * span + (column.astype(np.int64) + offset)
    return rows[np.argsort(key)]


def build(settings: Settings) -> list[Contender]:
    """Searches in 512 molecules; all find the same number of pairs."""
    searches = _Box(8).searches()
    counts = {name: search() for name, search in searches.items()}
    if len(set(counts.values())) != 1:
        raise SystemExit(f"the searches find different numbers of pairs: {counts}")
    return [Contender(name, search, 1) for name, search in searches.items()]


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """CPU time of one search, in ms, by the number of atoms."""
    sizes: dict[str, dict[str, float]] = {}
    for n_side in (4, 8, 12):
        box = _Box(n_side)
        sizes[str(len(box.x))] = {n: _best_ms(s) for n, s in box.searches().items() if n != "ASE"}
    return {"cutoff_angstrom": REACH, "ms_by_atoms": sizes}


def _best_ms(search: Callable[[], int], repeats: int = 3) -> float:
    search()
    best = float("inf")
    for _ in range(repeats):
        begin = time.process_time()
        search()
        best = min(best, time.process_time() - begin)
    return 1e3 * best


def describe(derived: dict[str, Any]) -> str:
    """The times by size as a table."""
    names = list(next(iter(derived["ms_by_atoms"].values())))
    rows = [
        f"| {n} | " + " | ".join(f"{times[name]:.2f}" for name in names) + " |"
        for n, times in derived["ms_by_atoms"].items()
    ]
    return "\n".join(
        [
            "CPU time of one search in ms, the best of three:",
            "",
            "| atoms | " + " | ".join(names) + " |",
            "|---|" + "---|" * len(names),
            *rows,
        ]
    )


SECTION = Section(
    key="neighbours",
    title="Search for the pairs of 512 water molecules",
    about=(
        f"All pairs closer than {REACH:g} Å (a cutoff of {CUTOFF:g} Å and the skin) in a periodic "
        "box of 1536 atoms at the liquid's density, with their cell shifts, on one core; all "
        "searches find the same number, vesin in an order of its own. In a simulation one search "
        "serves some dozens of steps."
    ),
    unit="search",
    replicas=1,
    build=build,
    derive=derive,
    describe=describe,
)
