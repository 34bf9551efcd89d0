"""The reference force field's own frames against the averages published beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from stablemd.geometry import PairSelection
from stablemd.observables import (
    DiffusionCoefficient,
    MinimumIntermolecularDistance,
    RadialDistribution,
    Trajectory,
    ensemble_average,
)
from stablemd.system import System

PAIRS = ("O-O", "O-H", "H-H")
N_FRAMES = 400
"""Of the 2000 shuffled frames, which stem from all of the 400 ps."""

LAG_PS = (2.0, 10.0)
"""Lags between which the reference's diffusion coefficient is the slope."""

EARLY_PS = (0.5, 1.5)
"""Lags that short simulations have, where the slope is not that of diffusion yet."""


def check_reference(data: Path) -> dict[str, Any]:
    """RDFs and D of the frames by stablemd's observables, and what the reference says.

    Args:
        data: folder with ``water_2k_shuffled.npz`` and ``reference_observables.npz``.
    """
    with np.load(data / "water_2k_shuffled.npz") as file:
        numbers, edge, place = file["z"], float(file["L"]), file["frame"]
        frames = torch.from_numpy(file["R"].astype(np.float64))
    system = System.create(
        numbers, cell=edge * np.eye(3), pbc=True, molecule_ids=np.arange(len(numbers)) // 3
    )
    with np.load(data / "reference_observables.npz") as file:
        target = {key: file[key] for key in file.files}
    some = frames[:N_FRAMES]
    rdfs = {}
    for pair in PAIRS:
        rdf = RadialDistribution(system, pair=pair.split("-"), r_max=6.0, n_bins=120, kernel="box")
        average = ensemble_average(rdf.values(some), torch.arange(N_FRAMES))
        expected = torch.from_numpy(target["g_" + pair.replace("-", "")])
        counted = average.stderr > 0
        deviation = ((average.mean - expected) / average.stderr)[counted]
        rdfs[pair] = {
            "mae": float(rdf.mean_absolute_error(average.mean, expected)),
            "within_two_errors": float((deviation.abs() < 2.0).double().mean()),
            "median_deviation_in_errors": float(deviation.abs().median()),
        }
    lags, msd = target["msd_t_ps"], target["msd_O"]
    inside = (lags >= EARLY_PS[0] - 1e-9) & (lags <= EARLY_PS[1] + 1e-9)
    return {
        "n_frames": N_FRAMES,
        "rdf": rdfs,
        "oh_gap": _oh_gap(system, some),
        "early_ps": list(EARLY_PS),
        "early_slope": float(np.polyfit(lags[inside], msd[inside], 1)[0]) / 6.0,
        "diffusion": _diffusion(system, frames, place, float(target["D_A2_per_ps"])),
    }


def _oh_gap(system: System, frames: torch.Tensor) -> list[float]:
    """The longest O-H distance within a molecule and the shortest between two, in Å."""
    bonds = PairSelection.of(system, ("O", "H"), intermolecular=False)
    shortest = MinimumIntermolecularDistance(system, pair=("O", "H")).values(frames).amin()
    cells = system.cell.expand(len(frames), 3, 3)
    longest = bonds.distances(frames, cells, system.pbc).amax()
    return [float(longest), float(shortest)]


def _diffusion(
    system: System, frames: torch.Tensor, place: np.ndarray, expected: float
) -> dict[str, float]:
    """The slope of the mean squared displacement, from pairs of frames at two lags."""
    index = {int(k): i for i, k in enumerate(place)}
    found = []
    for lag in LAG_PS:
        later = round(100.0 * lag)  # frames are 10 fs apart
        pairs = [(i, index[k + later]) for k, i in index.items() if k + later in index]
        paths = Trajectory(frames[torch.tensor(pairs).T], 1000.0 * lag)
        d = DiffusionCoefficient(
            system, fit_fs=(0.0, 1000.0 * lag), interval_fs=1000.0 * lag, element="O"
        ).average(paths)
        found.append((float(d.mean) * lag, float(d.stderr) * lag))
    span = LAG_PS[1] - LAG_PS[0]
    return {
        "value": (found[1][0] - found[0][0]) / span,
        "stderr": float(np.hypot(found[0][1], found[1][1])) / span,
        "reference": expected,
    }
