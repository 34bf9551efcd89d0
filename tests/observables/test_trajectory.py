"""Dynamical observables against processes whose correlations are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from stablemd import units
from stablemd.errors import ConfigError, DataError, SystemDefinitionError
from stablemd.observables import (
    TRAJECTORY_OBSERVABLES,
    DiffusionCoefficient,
    MeanSquaredDisplacement,
    Trajectory,
    VelocityAutocorrelation,
    VibrationalSpectrum,
    yeh_hummer_correction,
)
from stablemd.system import System

ATOMS = System.create(["O", "H", "H", "O"])
OPTIONS = {
    "mean_squared_displacement": {"max_lag_fs": 40.0},
    "diffusion_coefficient": {"fit_fs": (10.0, 40.0)},
    "velocity_autocorrelation": {"max_lag_fs": 40.0},
    "vibrational_spectrum": {"max_lag_fs": 40.0},
}


def random_walk(n_frames: int, n_paths: int, step: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    moves = torch.randn(n_frames, n_paths, 4, 3, generator=generator, dtype=torch.float64)
    return step * moves.cumsum(dim=0)


def ornstein_uhlenbeck(n: int, n_paths: int, gamma_dt: float, seed: int) -> Tensor:
    """Velocities of unit variance with C(t) = exp(-γ t), exactly."""
    rng = np.random.default_rng(seed)
    decay = math.exp(-gamma_dt)
    noise = rng.normal(size=(n, n_paths, 4, 3)) * math.sqrt(1.0 - decay**2)
    v = np.empty_like(noise)
    v[0] = rng.normal(size=noise.shape[1:])
    for t in range(1, n):
        v[t] = decay * v[t - 1] + noise[t]
    return torch.from_numpy(v)


# Laws of all of them


@pytest.mark.parametrize("name", sorted(TRAJECTORY_OBSERVABLES))
def test_every_one_keeps_the_contract(name: str) -> None:
    made = TRAJECTORY_OBSERVABLES[name](ATOMS, interval_fs=2.0, **OPTIONS[name])
    x = random_walk(60, 3, 0.1, seed=1)
    v = ornstein_uhlenbeck(60, 3, 0.1, seed=2)
    whole = made.values(Trajectory(x, 2.0, v))
    assert made.name == name and whole.shape == (3, len(made.axis))
    assert whole.dtype == torch.float64 and made.axis_label and made.value_label
    # paths do not see each other, and neither place nor speed of all atoms together counts
    alone = made.values(Trajectory(x[:, 1:2], 2.0, v[:, 1:2]))
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-10, atol=1e-12)
    drift = torch.linspace(0.0, 50.0, 60, dtype=torch.float64)[:, None, None, None]
    moved = made.values(Trajectory(x + 1e3 + drift, 2.0, v + 0.7))
    torch.testing.assert_close(moved, whole, rtol=1e-7, atol=1e-9)
    # differentiable
    leaf_x, leaf_v = x.clone().requires_grad_(True), v.clone().requires_grad_(True)
    made.values(Trajectory(leaf_x, 2.0, leaf_v)).square().sum().backward()
    assert leaf_x.grad is not None or leaf_v.grad is not None
    with pytest.raises(DataError, match="longer paths"):
        made.values(Trajectory(x[:15], 2.0, v[:15]))
    with pytest.raises(SystemDefinitionError, match="no atom Na"):
        TRAJECTORY_OBSERVABLES[name](ATOMS, interval_fs=2.0, element="Na", **OPTIONS[name])


# Mean squared displacement and diffusion


@pytest.mark.parametrize("element", [None, "O"])
def test_msd_is_the_average_over_all_time_origins(element: str | None) -> None:
    x = random_walk(30, 2, 0.3, seed=3)
    msd = MeanSquaredDisplacement(
        ATOMS, max_lag_fs=20.0, interval_fs=1.0, element=element, remove_com=False
    )
    found = msd.values(Trajectory(x, 1.0))
    atoms = [0, 1, 2, 3] if element is None else [0, 3]
    for lag in range(21):
        moved = x[lag:, :, atoms] - x[: 30 - lag, :, atoms]
        expected = moved.square().sum(dim=3).mean(dim=(0, 2))
        torch.testing.assert_close(found[:, lag], expected, rtol=1e-10, atol=1e-12)


def test_a_random_walk_diffuses_with_its_step() -> None:
    """MSD = 3 s² n, less the share of the centre of mass, within the error bars."""
    x = random_walk(400, 60, 0.2, seed=4)
    trajectory = Trajectory(x, 10.0)
    free = MeanSquaredDisplacement(ATOMS, max_lag_fs=200.0, interval_fs=10.0, remove_com=False)
    average = free.average(trajectory)
    expected = 3 * 0.2**2 * free.axis / 10.0
    assert ((average.mean - expected).abs() <= 4.0 * average.stderr)[1:].all()
    assert average.mean[0].abs() < 1e-12
    assert (average.stderr[1:] / expected[1:]).max() < 0.05
    d = DiffusionCoefficient(ATOMS, fit_fs=(20.0, 200.0), interval_fs=10.0, remove_com=False)
    found = d.average(trajectory)
    per_ps = 3 * 0.2**2 / (6 * 10.0) * 1e3
    assert abs(float(found.mean - per_ps)) < 4.0 * float(found.stderr)
    assert float(found.stderr) < 0.1 * per_ps
    # relative to the centre of mass, an atom of mass m loses 2 m/M - Σ m²/M² of its motion
    masses = ATOMS.masses / ATOMS.masses.sum()
    share = float((1.0 - 2.0 * masses + masses.square().sum()).mean())
    inside = DiffusionCoefficient(ATOMS, fit_fs=(20.0, 200.0), interval_fs=10.0)
    relative = inside.average(trajectory)
    assert abs(float(relative.mean) - share * per_ps) < 4.0 * float(relative.stderr)


def test_the_fit_takes_the_slope_between_its_ends_only() -> None:
    """A straight flight: MSD = v² t², whose chord's least-squares slope is v² (a + b)."""
    time = torch.arange(100, dtype=torch.float64)
    x = torch.zeros(100, 1, 4, 3, dtype=torch.float64)
    x[:, 0, 0, 0], x[:, 0, 3, 0] = 0.01 * time, -0.01 * time
    d = DiffusionCoefficient(ATOMS, fit_fs=(20.0, 40.0), interval_fs=1.0, element="O")
    slope_per_fs = 0.01**2 * (20.0 + 40.0)
    found = float(d.values(Trajectory(x, 1.0)))
    assert found == pytest.approx(slope_per_fs / 6.0 * 1e3, rel=1e-9)
    with pytest.raises(ConfigError, match="two lags or more"):
        DiffusionCoefficient(ATOMS, fit_fs=(20.0, 20.2), interval_fs=1.0)


def test_segments_give_the_error_that_many_paths_have() -> None:
    """One long walk in segments and as many short walks agree on the error of D."""
    d = DiffusionCoefficient(ATOMS, fit_fs=(2.0, 10.0), interval_fs=1.0)
    errors = [
        float(d.average(Trajectory(random_walk(2000, 1, 0.2, seed), 1.0), n_segments=40).stderr)
        for seed in range(20)
    ]
    many = d.average(Trajectory(random_walk(50, 40, 0.2, seed=99), 1.0))
    rms = math.sqrt(sum(e * e for e in errors) / len(errors))
    # the error of an error from 40 segments is 11 %
    assert rms == pytest.approx(float(many.stderr), rel=0.35)


def test_finite_size_correction_is_that_of_yeh_and_hummer() -> None:
    cell = 12.44287777 * np.eye(3)
    water = System.create(["O"], cell=cell, pbc=True)
    found = yeh_hummer_correction(water, temperature_k=300.0, viscosity_pa_s=0.9e-3)
    k_b = 1.380649e-23
    m2_per_s = 2.837297 * k_b * 300.0 / (6.0 * math.pi * 0.9e-3 * 12.44287777e-10)
    assert found == pytest.approx(m2_per_s * 1e8, rel=1e-6)
    tall = System.create(["O"], cell=[[10, 0, 0], [0, 10, 0], [0, 0, 11]], pbc=True)
    with pytest.raises(SystemDefinitionError, match="cubic"):
        yeh_hummer_correction(tall, temperature_k=300.0, viscosity_pa_s=1e-3)
    with pytest.raises(ConfigError, match="viscosity_pa_s"):
        yeh_hummer_correction(water, temperature_k=300.0, viscosity_pa_s=0.0)


# Velocities


def test_ornstein_uhlenbeck_velocities_decorrelate_exponentially() -> None:
    gamma = 0.05
    v = ornstein_uhlenbeck(1500, 30, gamma, seed=5)
    c = VelocityAutocorrelation(
        ATOMS, max_lag_fs=80.0, interval_fs=1.0, normalised=False, remove_com=False
    )
    average = c.average(Trajectory(torch.zeros_like(v), 1.0, v))
    expected = 3.0 * torch.exp(-gamma * c.axis)
    deviation = (average.mean - expected) / average.stderr
    assert deviation.abs().max() < 4.0 and average.stderr.max() < 0.1
    # Green–Kubo: D = ∫ C dt / 3 = ⟨v²⟩ / (3 γ)
    d = float(torch.trapezoid(average.mean, c.axis)) / 3.0
    assert d == pytest.approx((1.0 - math.exp(-gamma * 80.0)) / gamma, rel=0.05)


def test_autocorrelation_is_the_average_over_all_time_origins() -> None:
    v = ornstein_uhlenbeck(25, 2, 0.2, seed=6)
    c = VelocityAutocorrelation(
        ATOMS, max_lag_fs=12.0, interval_fs=1.0, element="H", normalised=False, mass_weighted=True
    )
    found = c.values(Trajectory(torch.zeros_like(v), 1.0, v))
    masses = ATOMS.masses[:, None]
    u = (v - (masses * v).sum(dim=2, keepdim=True) / masses.sum())[:, :, [1, 2]]
    for lag in range(13):
        direct = (u[lag:] * u[: 25 - lag]).sum(dim=3).mean(dim=(0, 2)) * float(masses[1])
        torch.testing.assert_close(found[:, lag], direct, rtol=1e-10, atol=1e-12)
    with pytest.raises(DataError, match="velocities"):
        c.values(Trajectory(v, 1.0))


def test_oscillators_stand_at_their_wave_numbers() -> None:
    """Two modes of equal energy: two peaks of equal area at 1000 and 3000 1/cm."""
    per_fs = 2.99792458e10 * 1e-15
    time = torch.arange(4000, dtype=torch.float64)[:, None]
    slow, fast = (torch.cos(2.0 * math.pi * w * per_fs * time) for w in (1000.0, 3000.0))
    v = torch.zeros(4000, 1, 4, 3, dtype=torch.float64)
    v[:, :, 1, 0], v[:, :, 2, 0] = slow, fast
    spectrum = VibrationalSpectrum(
        ATOMS, max_lag_fs=1000.0, interval_fs=1.0, element="H", remove_com=False
    )
    density = spectrum.values(Trajectory(torch.zeros_like(v), 1.0, v))[0]
    step = float(spectrum.axis[1])
    assert float(torch.trapezoid(density, spectrum.axis)) == pytest.approx(1.0)
    for w in (1000.0, 3000.0):
        near = (spectrum.axis - w).abs() < 100.0
        assert float(density[near].sum() * step) == pytest.approx(0.5, abs=0.01)
        assert abs(float(spectrum.axis[near][density[near].argmax()]) - w) <= step


def test_equipartition_of_the_mass_weighted_correlation() -> None:
    generator = torch.Generator().manual_seed(7)
    kt = units.KB * 300.0
    noise = torch.randn(3000, 1, 4, 3, generator=generator, dtype=torch.float64)
    v = noise * (kt / ATOMS.masses[:, None]).sqrt() * units.FS
    c = VelocityAutocorrelation(
        ATOMS, max_lag_fs=1.0, interval_fs=1.0, normalised=False, mass_weighted=True,
        remove_com=False,
    )  # fmt: skip
    zero = float(c.values(Trajectory(torch.zeros_like(v), 1.0, v))[0, 0])
    assert zero == pytest.approx(3.0 * kt * units.FS**2, rel=0.02)


# Recorded frames


def test_recorded_frames_become_paths_of_equal_length() -> None:
    """Three replicas recorded every 5 steps, one of which failed after four frames."""
    steps = [(t, r) for t in range(1, 11) for r in range(3) if not (r == 1 and t > 4)]
    step = torch.tensor([5 * t for t, _ in steps])
    replica = torch.tensor([r for _, r in steps])
    x = torch.zeros(len(steps), 4, 3, dtype=torch.float64)
    x[:, 0, 0] = step
    x[:, 0, 1] = replica
    whole = Trajectory.from_frames(x, replica, step, dt_fs=0.5)
    assert whole.interval_fs == 2.5 and whole.n_frames == 10
    assert whole.path is not None and whole.path.tolist() == [0, 2]
    pieces = Trajectory.from_frames(x, replica, step, dt_fs=0.5, n_frames=4)
    assert pieces.path is not None and pieces.path.tolist() == [0, 0, 1, 2, 2]
    assert pieces.positions[:, 1, 0, 0].tolist() == [25.0, 30.0, 35.0, 40.0]
    assert pieces.positions[0, :, 0, 1].tolist() == [0.0, 0.0, 1.0, 2.0, 2.0]
    halves = whole.segments(2)
    assert halves.path is not None and halves.path.tolist() == [0, 0, 2, 2]
    assert halves.positions[:, 1, 0, 0].tolist() == [30.0, 35.0, 40.0, 45.0, 50.0]
    keep = (step != 15) | (replica != 0)
    with pytest.raises(DataError, match="equally spaced"):
        Trajectory.from_frames(x[keep], replica[keep], step[keep], dt_fs=0.5)
    with pytest.raises(DataError, match="no replica has 11 frames"):
        Trajectory.from_frames(x, replica, step, dt_fs=0.5, n_frames=11)
