"""Real water: the reference force field's own observables, from 10 of its 400 ps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stablemd.observables import (
    DiffusionCoefficient,
    MeanSquaredDisplacement,
    RadialDistribution,
    Trajectory,
    ensemble_average,
    read_curve,
    read_soper2013,
    read_soper_benmore2008,
)
from stablemd.system import System


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    path = shared_data / "water"
    if not (path / "water_1k_contiguous_10fs.npz").exists():
        pytest.skip("the water data (../shared/data/water) are not at hand")
    return path


@pytest.fixture(scope="module")
def water(folder: Path) -> tuple[System, torch.Tensor]:
    with np.load(folder / "water_1k_contiguous_10fs.npz") as data:
        system = System.create(
            data["z"],
            cell=float(data["L"]) * np.eye(3),
            pbc=True,
            molecule_ids=np.arange(192) // 3,
        )
        return system, torch.from_numpy(data["R"].astype(np.float64))


@pytest.mark.parametrize("pair", ["O-O", "O-H", "H-H"])
def test_radial_distributions_are_those_of_the_reference(water, folder, pair) -> None:
    system, frames = water
    rdf = RadialDistribution(system, pair=pair.split("-"), r_max=6.0, n_bins=120, kernel="box")
    assert rdf.key == f"rdf_{pair}"
    every = frames[::10]
    average = ensemble_average(rdf.values(every), torch.zeros(len(every), dtype=torch.int64))
    with np.load(folder / "reference_observables.npz") as data:
        np.testing.assert_allclose(rdf.axis.numpy(), data["r"], atol=1e-12)
        reference = torch.from_numpy(data["g_" + pair.replace("-", "")])
    counted = average.stderr > 0
    # the reference's own error over 400 ps is some 6 times smaller
    deviation = ((average.mean - reference) / average.stderr)[counted]
    assert float((deviation.abs() < 2.0).double().mean()) > 0.85
    assert float(deviation.abs().median()) < 1.3
    assert rdf.mean_absolute_error(average.mean, reference) < 0.12


def test_displacements_and_diffusion_over_400_ps_are_those_of_the_reference(water, folder) -> None:
    """The shuffled frames hold some 90 pairs for every lag, spread over the whole simulation."""
    system, _ = water
    with np.load(folder / "water_2k_shuffled.npz") as data:
        frame, frames = data["frame"], torch.from_numpy(data["R"].astype(np.float64))
    place = {int(k): i for i, k in enumerate(frame)}
    with np.load(folder / "reference_observables.npz") as data:
        lags, reference = data["msd_t_ps"], data["msd_O"]
        expected = float(data["D_A2_per_ps"])
    found = {}
    for lag in (0.5, 1.0, 2.0, 5.0, 10.0):
        later = round(100.0 * lag)  # frames are 10 fs apart
        pairs = [(i, place[k + later]) for k, i in place.items() if k + later in place]
        assert len(pairs) > 80
        # every pair is a path of two frames of its own
        trajectory = Trajectory(frames[torch.tensor(pairs).T], 1000.0 * lag)
        msd = MeanSquaredDisplacement(
            system, max_lag_fs=1000.0 * lag, interval_fs=1000.0 * lag, element="O"
        )
        average = msd.average(trajectory)
        found[lag] = float(average.mean[1]), float(average.stderr[1])
        target = float(reference[np.flatnonzero(lags == lag)[0]])
        assert abs(found[lag][0] - target) < 3.0 * found[lag][1]
        assert found[lag][1] < 0.05 * target
    # the reference's D is the slope from 2 to 10 ps
    d = (found[10.0][0] - found[2.0][0]) / (6.0 * 8.0)
    error = float(np.hypot(found[10.0][1], found[2.0][1])) / (6.0 * 8.0)
    assert error < 0.01
    assert abs(d - expected) < 2.5 * error


def test_diffusion_over_10_ps_is_that_of_the_reference(water, folder) -> None:
    """One stretch of 10 ps tells D to a fifth; four segments leave three degrees of freedom."""
    system, frames = water
    with np.load(folder / "reference_observables.npz") as data:
        lags, reference = data["msd_t_ps"], data["msd_O"]
    trajectory = Trajectory(frames[:, None], 10.0)
    # 10 ps in four segments have room for lags of 0.5 to 2 ps, where the reference has a slope too
    d = DiffusionCoefficient(system, fit_fs=(500.0, 2000.0), interval_fs=10.0, element="O")
    average = d.average(trajectory, n_segments=4)
    slope = np.polyfit(lags[1:5], reference[1:5], 1)[0] / 6.0
    assert 0.0 < float(average.stderr) < 0.25 * slope
    student = 3.18  # 95 % of Student's distribution with three degrees of freedom
    assert abs(float(average.mean) - slope) < student * float(average.stderr)


def test_measured_curves_are_read(folder) -> None:
    """Two measurements of g_OO agree on the first peak, which only holds in the right unit."""
    new = read_soper2013(folder / "soper2013_rdf.txt", "O-O")
    old = read_soper_benmore2008(folder / "soper_benmore2008_goo.csv")
    assert new.error is not None and float(new.error.max()) > 0.0
    peaks = [float(curve.x[curve.y.argmax()]) for curve in (new, old)]
    assert peaks == pytest.approx([2.79, 2.79], abs=0.1)
    centres = 2.0 + 0.05 * (torch.arange(80, dtype=torch.float64) + 0.5)
    both = [curve.over_bins(centres).mean for curve in (new, old)]
    assert float((both[0] - both[1]).abs().mean()) < 0.1
    own = read_curve(folder / "reference_observables.npz", x="r", y="g_OO")
    assert float(own.x[own.y.argmax()]) == pytest.approx(2.8, abs=0.1)
