"""Constant energies of the elements, the reference point of a model's energies."""

from __future__ import annotations

import numpy as np
import torch

from stablemd.data.frames import Frames
from stablemd.errors import DataError


def fit_atomic_energies(*datasets: Frames) -> dict[int, float]:
    """Fit one constant energy per element to the frames' total energies.

    Least squares, in which every composition counts with its number of frames.  What the
    compositions can't determine is left at the mean energy per atom: with one composition (the
    usual case here) that is the mean energy divided by the number of atoms, for all elements
    alike.

    Args:
        datasets: labelled frames, of one composition each.

    Returns:
        Atomic number to energy in eV.

    Raises:
        DataError: energies are missing.
    """
    if not datasets:
        raise DataError("no frames were given; give at least one set of labelled frames")
    elements = sorted({int(z) for frames in datasets for z in frames.numbers})
    counts = np.array([[int((f.numbers == z).sum()) for z in elements] for f in datasets])
    means, weights = [], []
    for frames in datasets:
        if frames.energies is None:
            raise DataError(f"{frames.source}: energies are missing; label the frames first")
        means.append(float(frames.energies.to(torch.float64).mean()))
        weights.append(np.sqrt(len(frames)))
    energies, weight = np.array(means), np.array(weights)
    per_atom = (weight**2 * energies).sum() / (weight**2 * counts.sum(axis=1)).sum()
    residual = energies - per_atom * counts.sum(axis=1)
    correction = np.linalg.lstsq(counts * weight[:, None], residual * weight, rcond=None)[0]
    return {z: float(per_atom + c) for z, c in zip(elements, correction, strict=True)}
