"""The path-score estimator against the exact statistics of a damped oscillator."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scripts.estimators.oscillator import Oscillator, exact_covariance, langevin_paths
from stablemd import units
from stablemd.errors import ConfigError, DataError
from stablemd.estimators import LangevinPaths, path_gradient
from stablemd.estimators.path_score import force_coefficients
from stablemd.md.integrators.baoab import BAOAB
from stablemd.system import System

K = 4.0
MASS = 12.011


@pytest.fixture
def carbon() -> System:
    return System.create(["C"])


def integrator() -> BAOAB:
    """omega dt = 0.17; the motion is damped within some 50 steps."""
    return BAOAB(3.0, 600.0, friction_per_ps=10.0)


def squared_displacement(x: Tensor, window: int, stride: int) -> Tensor:
    """(n_windows, R, 1), summed over the three directions."""
    ends = x[window::stride] - x[: len(x) - window : stride]
    return ends.square().sum(dim=(2, 3))[..., None]


def velocity_product(x: Tensor, window: int, stride: int) -> Tensor:
    """First times last velocity of every window, (n_windows, R, 1), in (Å/step)²."""
    v = x[1:] - x[:-1]
    first, last = v[: len(x) - window : stride], v[window - 1 :: stride]
    return (first * last).sum(dim=(2, 3))[..., None]


def test_score_is_the_derivative_of_the_log_density_of_the_path(carbon: System) -> None:
    """The density written from positions alone and differentiated by autograd."""
    oscillator, dynamics, n_steps = Oscillator(K), integrator(), 9
    paths = langevin_paths(oscillator, carbon, dynamics, n_replicas=5, n_steps=n_steps, seed=1)
    generator = torch.Generator().manual_seed(1)
    torch.randn(5, 1, 3, generator=generator, dtype=torch.float64)
    kt = units.KB * dynamics.temperature_k
    p0 = torch.randn(5, 1, 3, generator=generator, dtype=torch.float64) * math.sqrt(kt * MASS)
    h = dynamics.dt_fs * units.FS
    c = math.exp(-dynamics.friction_per_ps / units.PS * h)
    s = math.sqrt((1 - c**2) * kt * MASS)
    k = torch.tensor(K, dtype=torch.float64, requires_grad=True)
    x = paths.positions
    q = p0 - 0.5 * h * k * x[0]
    log_density = torch.zeros(5, dtype=torch.float64)
    for n in range(n_steps):
        after = 2 * MASS * (x[n + 1] - x[n]) / h - q  # momentum after the O step
        xi = (after - c * q) / s
        torch.testing.assert_close(xi, paths.noise[n], rtol=0, atol=1e-9)
        log_density = log_density - 0.5 * xi.square().sum(dim=(1, 2))
        q = after - h * k * x[n + 1]
    amplitude = torch.eye(5, dtype=torch.float64)
    for replica in range(5):
        (expected,) = torch.autograd.grad(log_density[replica], k, retain_graph=True)
        a = force_coefficients(paths, amplitude[replica : replica + 1], [0], n_steps)
        found = (a * -x[:-1]).sum()  # ∂F/∂k = -x
        assert float(found) == pytest.approx(float(expected), rel=1e-8)


@pytest.mark.parametrize("observable", ["msd", "vacf"])
def test_gradient_of_the_oscillator_is_exact(carbon: System, observable: str) -> None:
    """Over 100 seeds, at a time step where the discretisation shows."""
    oscillator, dynamics, window = Oscillator(K), integrator(), 14
    c = exact_covariance(oscillator.k, MASS, dynamics, window)
    if observable == "msd":
        exact, values = 3 * (c[0, 0] + c[-1, -1] - 2 * c[0, -1]), squared_displacement
    else:
        exact = 3 * (c[1, -1] - c[1, -2] - c[0, -1] + c[0, -2])
        values = velocity_product
    (slope,) = torch.autograd.grad(exact, oscillator.k)
    spread = {}
    for n_replicas in (45, 405):
        found, errors = [], []
        for seed in range(100):
            paths = langevin_paths(
                oscillator, carbon, dynamics, n_replicas=n_replicas, n_steps=window, seed=seed
            )
            oscillator.zero_grad()
            result = path_gradient(
                oscillator,
                carbon,
                paths,
                values(paths.positions, window, window),
                lambda m: m[0],
                window=window,
                chunk_size=10_000,
                noise_groups=8 if seed < 40 else 0,
            )
            found.append(float(oscillator.k.grad))  # type: ignore[arg-type]
            if seed < 40:
                errors.append(result.trust.gradient_noise**2)
        gradients = torch.tensor(found, dtype=torch.float64)
        spread[n_replicas] = float(gradients.std())
        assert abs(float(gradients.mean()) - float(slope)) < 3 * spread[n_replicas] / 10
        # The reported noise is the scatter: 40 variances of 8 groups (8 %), one of 100 (7 %).
        assert math.sqrt(sum(errors) / 40) == pytest.approx(spread[n_replicas], rel=0.33)
    assert spread[405] / 10 < 0.1 * abs(float(slope))
    # A standard deviation of 100 values is known to 7 %, the ratio to 10 %.
    assert spread[45] / spread[405] == pytest.approx(3.0, rel=0.3)


def test_windows_of_a_stationary_run_agree_with_the_exact_slope(carbon: System) -> None:
    oscillator, dynamics, window = Oscillator(K), integrator(), 14
    c = exact_covariance(oscillator.k, MASS, dynamics, window)
    (slope,) = torch.autograd.grad(3 * (c[0, 0] + c[-1, -1] - 2 * c[0, -1]), oscillator.k)
    found = []
    for seed in range(50):
        paths = langevin_paths(oscillator, carbon, dynamics, n_replicas=200, n_steps=44, seed=seed)
        oscillator.zero_grad()
        path_gradient(
            oscillator,
            carbon,
            paths,
            squared_displacement(paths.positions, window, 10),
            lambda m: m[0],
            window=window,
            stride=10,
            chunk_size=10_000,
            noise_groups=0,
        )
        found.append(float(oscillator.k.grad))  # type: ignore[arg-type]
    gradients = torch.tensor(found, dtype=torch.float64)
    stderr = float(gradients.std()) / math.sqrt(50)
    # BAOAB's momenta in a well are (omega dt)²/4 = 0.7 % narrower than Maxwell–Boltzmann's.
    assert abs(float(gradients.mean() - slope)) < 3 * stderr + 0.02 * abs(float(slope))
    assert stderr < 0.1 * abs(float(slope))


def test_a_start_that_does_not_move_has_no_term_of_its_own(carbon: System) -> None:
    """From a fixed point: x_1 has variance (h s / 2m)² and mean x_0 + (1 + c) h²/(4m) F(x_0)."""
    oscillator, dynamics = Oscillator(K), integrator()
    n_replicas = 20_000
    free = langevin_paths(oscillator, carbon, dynamics, n_replicas=n_replicas, n_steps=1, seed=3)
    h = dynamics.dt_fs * units.FS
    c = math.exp(-dynamics.friction_per_ps / units.PS * h)
    s = math.sqrt((1 - c**2) * units.KB * dynamics.temperature_k * MASS)
    x0 = torch.full_like(free.positions[0], 0.3)
    q = -0.5 * h * K * x0
    x1 = x0 + 0.5 * h / MASS * ((1 + c) * q + s * free.noise[0])
    paths = LangevinPaths(
        torch.stack([x0, x1]), free.noise, free.masses, free.dt_fs, free.temperature_k, 10.0
    )
    path_gradient(
        oscillator,
        carbon,
        paths,
        x1.sum(dim=(1, 2))[None, :, None],
        lambda m: m[0],
        window=1,
        start="fixed",
        chunk_size=n_replicas,
        noise_groups=0,
    )
    exact = -3 * (1 + c) * h**2 / (4 * MASS) * 0.3
    assert oscillator.k.grad is not None
    # A covariance of two normals of correlation one: relative error sqrt(2/n), three components.
    assert float(oscillator.k.grad) == pytest.approx(exact, rel=4 * math.sqrt(2 / n_replicas))


def test_windows_that_are_not_finite_are_counted_and_left_out(carbon: System) -> None:
    oscillator, dynamics = Oscillator(K), integrator()
    paths = langevin_paths(oscillator, carbon, dynamics, n_replicas=20, n_steps=5, seed=4)
    values = squared_displacement(paths.positions, 5, 5)
    values[0, 3] = float("nan")
    keep = torch.arange(20) != 3
    result = path_gradient(oscillator, carbon, paths, values, lambda m: m[0], window=5)
    with_broken = float(oscillator.k.grad)  # type: ignore[arg-type]
    oscillator.zero_grad()
    rest = LangevinPaths(
        paths.positions[:, keep], paths.noise[:, keep], paths.masses, 3.0, 600.0, 10.0
    )
    path_gradient(oscillator, carbon, rest, values[:, keep], lambda m: m[0], window=5)
    assert float(oscillator.k.grad) == pytest.approx(with_broken, rel=1e-10)  # type: ignore[arg-type]
    assert (result.n_windows, result.trust.n_dropped) == (19, 1)


def test_refuses_windows_that_do_not_fit(carbon: System) -> None:
    oscillator, dynamics = Oscillator(K), integrator()
    paths = langevin_paths(oscillator, carbon, dynamics, n_replicas=4, n_steps=6, seed=5)
    values = torch.zeros(2, 4, 1)
    loss = lambda m: m[0]  # noqa: E731
    with pytest.raises(ConfigError, match="every 4 within 6 steps"):
        path_gradient(oscillator, carbon, paths, values, loss, window=4)
    with pytest.raises(ConfigError, match="one window from the start"):
        path_gradient(oscillator, carbon, paths, values, loss, window=3, start="fixed")
    with pytest.raises(ConfigError, match="a window needs"):
        path_gradient(oscillator, carbon, paths, values, loss, window=0)
    with pytest.raises(DataError, match="at least two windows"):
        path_gradient(oscillator, carbon, paths, values * float("nan"), loss, window=3)
    with pytest.raises(DataError, match="Langevin paths need"):
        LangevinPaths(paths.noise, paths.noise, paths.masses, 3.0, 600.0, 10.0)
