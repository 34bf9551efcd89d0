"""Any loss on ensembles: gradients against re-run quadrature, and against sampling theory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from stablemd import units
from stablemd.errors import DataError, PotentialError
from stablemd.estimators import (
    Ensemble,
    SampledFrames,
    StatePoint,
    boltzmann_gradient,
    ensemble_gradient,
    make_loss,
    potential_energies,
    weighted_sum,
)
from stablemd.potentials.base import Potential
from stablemd.system import System

BETAS = {"cold": 3.0, "hot": 1.2}


def place(x: Tensor, y: Tensor | None = None, z: Tensor | None = None) -> Tensor:
    positions = torch.zeros(len(x), 1, 3, dtype=torch.float64)
    for axis, coordinate in enumerate((x, y, z)):
        if coordinate is not None:
            positions[:, 0, axis] = coordinate
    return positions


def observable(positions: Tensor) -> Tensor:
    x, y, z = positions[:, 0].T
    return torch.stack([x**2, torch.cos(2 * x + y), torch.exp(-(x**2)) * (1 + z**2), x], dim=1)


def grid(dimension: int, size: int) -> Tensor:
    axis = torch.linspace(-4.0, 4.0, size, dtype=torch.float64)
    axes = torch.meshgrid(*[axis] * dimension, indexing="ij")
    return place(*(a.flatten() for a in axes))


class Wells(Potential):
    """One atom: a double well in x, coupled to springs in y and z."""

    def __init__(self) -> None:
        super().__init__()
        values = {"a": 0.7, "b": 1.5, "c": 0.4, "d": 1.2, "s": 0.1}
        for name, value in values.items():
            parameter = torch.nn.Parameter(torch.tensor(value, dtype=torch.float64))
            setattr(self, name, parameter)

    def local_energies(self, batch: object) -> Tensor:
        x, y, z = batch.positions.T  # type: ignore[attr-defined]
        well = self.a * (x**2 - 1) ** 2 + self.s * x
        return well + 0.5 * self.b * y**2 + self.c * x * y + 0.5 * self.d * z**2 + 0.1 * z * x


TARGET = torch.tensor([0.4, 0.2, 0.6, 0.1], dtype=torch.float64)
SIGMA = torch.tensor([0.1, 0.3, 0.2, 1.0], dtype=torch.float64)
DENSITY = torch.tensor([0.4, 0.3, 0.6], dtype=torch.float64)

LOSSES: dict[str, Callable[[Mapping[str, Ensemble]], Tensor]] = {
    "mse with sigma": lambda at: make_loss("mse", TARGET, sigma=SIGMA)(at["cold"].mean()),
    "huber": lambda at: make_loss("huber", TARGET, delta=0.1)(at["cold"].mean()),
    "hinge": lambda at: make_loss("hinge", TARGET, tolerance=0.05)(at["cold"].mean()),
    "wasserstein": lambda at: make_loss("wasserstein", DENSITY, 0.5)(at["cold"].mean()[:3]),
    "kl": lambda at: make_loss("kl", DENSITY, 0.5)(at["cold"].mean()[:3] + 0.5),
    "weighted sum": lambda at: weighted_sum(
        [
            (2.0, slice(0, 2), make_loss("mse", TARGET[:2])),
            (0.5, slice(2, 4), make_loss("integrated_absolute", TARGET[2:])),
        ]
    )(at["hot"].mean()),
    "several state points": lambda at: (at["hot"].mean() - at["cold"].mean()).square().sum(),
    "variance": lambda at: (at["cold"].variance() - 0.1).square().sum(),
    "covariance": lambda at: at["cold"].covariance()[0, 2] * at["hot"].covariance()[1, 3],
    "heat capacity": lambda at: ((at["hot"].heat_capacity() / units.KB - 1.2) / 0.1).square(),
    "mean energy": lambda at: at["cold"].mean_energy() * at["hot"].mean_energy(),
    "free energy": lambda at: at["cold"].log_partition_ratio() - at["hot"].log_partition_ratio(),
    "relative entropy": lambda at: at["cold"].relative_entropy() + 0.3 * at["cold"].mean()[0],
}


def quadrature_points(
    system: System, dimension: int, size: int | None = None
) -> dict[str, StatePoint]:
    """Frames on a uniform grid, "sampled" with a constant energy, are a quadrature rule."""
    x = grid(dimension, size or {1: 1201, 2: 61, 3: 21}[dimension])
    frames = SampledFrames(
        x, torch.zeros(len(x), dtype=torch.float64), observable(x), torch.zeros(len(x)).long()
    )
    reference = place(torch.tensor([0.8, -1.1, 0.3]), torch.tensor([0.2, 0.1, -0.5]))
    return {
        name: StatePoint(system, frames, beta, reference_positions=reference)
        for name, beta in BETAS.items()
    }


def quadrature_loss(
    potential: Potential,
    points: Mapping[str, StatePoint],
    loss: Callable[[Mapping[str, Ensemble]], Tensor],
) -> float:
    """The loss at the present parameters, by a quadrature that is run again."""
    ensembles = {}
    for name, p in points.items():
        reference = p.reference_positions
        assert reference is not None
        ensembles[name] = Ensemble(
            p.frames,
            potential_energies(potential, p.system, p.frames.positions, chunk_size=10**6),
            p.beta,
            reference_energies=potential_energies(potential, p.system, reference),
        )
    with torch.no_grad():
        return float(loss(ensembles))


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_gradient_equals_finite_differences_of_quadrature(
    atom: System, name: str, dimension: int
) -> None:
    """Richardson-extrapolated differences, to 1e-6 of the gradient's norm."""
    potential, loss = Wells(), LOSSES[name]
    points = quadrature_points(atom, dimension)
    result = ensemble_gradient(
        potential, points, loss, chunk_size=10**6, noise_groups=0, unbiased=False
    )
    assert result.loss == pytest.approx(quadrature_loss(potential, points, loss), rel=1e-12)
    ours, expected = [], []
    for parameter in potential.parameters():
        assert parameter.grad is not None
        ours.append(float(parameter.grad))
        start = parameter.detach().clone()

        def central(step: float, p: torch.nn.Parameter = parameter, x: Tensor = start) -> float:
            ends = []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    p.copy_(x + sign * step)
                ends.append(quadrature_loss(potential, points, loss))
            with torch.no_grad():
                p.copy_(x)
            return (ends[0] - ends[1]) / (2 * step)

        expected.append((4 * central(1e-3) - central(2e-3)) / 3)
    exact = torch.tensor(expected, dtype=torch.float64)
    found = torch.tensor(ours, dtype=torch.float64)
    assert float(exact.norm()) > 1e-3
    assert float((found - exact).norm()) < 1e-6 * float(exact.norm())


def sampled(potential: Wells, n: int, beta: float, *, seed: int) -> Tensor:
    """Independent frames: x by inversion of its marginal, y and z normal given x."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(-4.0, 4.0, 4001, dtype=torch.float64)
    a, b, c, d, s = (float(p.detach()) for p in potential.parameters())
    marginal = a * (x**2 - 1) ** 2 + s * x - (c**2 / (2 * b) + 0.01 / (2 * d)) * x**2
    cdf = torch.cumulative_trapezoid(torch.exp(-beta * marginal), x)
    cdf = torch.cat([torch.zeros(1, dtype=torch.float64), cdf / cdf[-1]])
    u = torch.rand(n, generator=generator, dtype=torch.float64)
    upper = torch.searchsorted(cdf, u).clamp(1, len(x) - 1)
    share = (u - cdf[upper - 1]) / (cdf[upper] - cdf[upper - 1])
    x = x[upper - 1] + share * (x[upper] - x[upper - 1])
    noise = torch.randn(2, n, generator=generator, dtype=torch.float64)
    y = -c * x / b + noise[0] / math.sqrt(beta * b)
    z = -0.1 * x / d + noise[1] / math.sqrt(beta * d)
    return place(x, y, z)


SAMPLED: dict[str, Callable[[Mapping[str, Ensemble]], Tensor]] = {
    "heat capacity": lambda at: at["hot"].heat_capacity() / units.KB,
    "relative entropy": LOSSES["relative entropy"],
    "several state points": lambda at: (at["hot"].mean() - at["cold"].mean())[:2].sum(),
}


def test_sampled_gradients_are_unbiased_and_improve_as_they_should(atom: System) -> None:
    """Over 100 seeds, in three dimensions; and their reported noise is the scatter."""
    potential = Wells()
    exact_points = quadrature_points(atom, 3, size=41)
    errors: dict[tuple[str, int], list[Tensor]] = {}
    noise: dict[str, list[float]] = {name: [] for name in SAMPLED}
    exact = {}

    def gradient() -> Tensor:
        return torch.stack([p.grad.clone() for p in potential.parameters()])  # type: ignore[union-attr]

    for name, loss in SAMPLED.items():
        potential.zero_grad()
        ensemble_gradient(
            potential, exact_points, loss, chunk_size=10**6, noise_groups=0, unbiased=False
        )
        exact[name] = gradient()
    for n in (100, 900):
        for seed in range(100):
            points = {}
            for number, (key, beta) in enumerate(BETAS.items()):
                x = sampled(potential, n, beta, seed=1000 * number + seed)
                energies = potential_energies(potential, atom, x, chunk_size=n)
                frames = SampledFrames(x, energies, observable(x), torch.arange(n) % 8)
                reference = exact_points[key].reference_positions
                points[key] = StatePoint(atom, frames, beta, energies, reference)
            groups = 8 if n == 100 and seed < 30 else 0
            for name, loss in SAMPLED.items():
                potential.zero_grad()
                result = ensemble_gradient(
                    potential, points, loss, chunk_size=n, noise_groups=groups
                )
                errors.setdefault((name, n), []).append(gradient() - exact[name])
                if groups:
                    noise[name].append(sum(t.gradient_noise**2 for t in result.trust.values()))
    for name in SAMPLED:
        rms = []
        for n in (100, 900):
            stacked = torch.stack(errors[name, n])
            stderr = stacked.std(dim=0) / 10
            assert bool((stacked.mean(dim=0).abs() < 3 * stderr + 1e-12).all()), (name, n)
            rms.append(float(stacked.square().mean(dim=0).sum().sqrt()))
        # An rms of 100 values is known to 7 %, the ratio to 10 %: three standard deviations.
        assert rms[0] / rms[1] == pytest.approx(3.0, rel=0.3), name
        # Mean of the reported variances, and mean square of the errors, with their errors.
        reported = torch.tensor(noise[name], dtype=torch.float64)
        squares = torch.stack(errors[name, 100]).square().sum(dim=1)
        error = math.hypot(float(reported.std()) / 30**0.5, float(squares.std()) / 10)
        assert abs(float(reported.mean() - squares.mean())) < 3 * error, name


def test_of_one_average_it_is_the_boltzmann_estimator(
    pair_network: Potential, cluster: System, cluster_positions: Tensor
) -> None:
    energies = potential_energies(pair_network, cluster, cluster_positions)
    values = cluster_positions[:, 0].square()
    frames = SampledFrames(cluster_positions, energies, values, torch.arange(60) % 6)
    loss = make_loss("mse", torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64))
    with torch.no_grad():
        for p in pair_network.parameters():
            p += 0.02
    expected_result = boltzmann_gradient(pair_network, cluster, frames, loss, beta=1.7)
    expected = [p.grad.clone() for p in pair_network.parameters() if p.grad is not None]
    pair_network.zero_grad()
    result = ensemble_gradient(
        pair_network, {"one": StatePoint(cluster, frames, 1.7)}, lambda at: loss(at["one"].mean())
    )
    for p, e in zip(pair_network.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, e, rtol=1e-10, atol=1e-14)
    assert result.loss == pytest.approx(expected_result.loss, rel=1e-13)
    assert result.loss_stderr == pytest.approx(expected_result.loss_stderr, rel=1e-10)
    for name in ("gradient_noise", "slope_noise", "n_independent", "n_eff"):
        theirs = getattr(expected_result.trust, name)
        assert getattr(result.trust["one"], name) == pytest.approx(theirs, rel=0.1), name


def test_relative_entropy_of_the_ensemble_itself_is_at_its_minimum(atom: System) -> None:
    """Frames as their own reference: the gradient vanishes, whatever the parameters."""
    potential = Wells()
    x = sampled(potential, 500, 2.0, seed=0)
    energies = potential_energies(potential, atom, x)
    frames = SampledFrames(x, energies, observable(x), torch.arange(500) % 5)
    point = StatePoint(atom, frames, 2.0, reference_positions=x)
    ensemble_gradient(potential, {"at": point}, lambda at: at["at"].relative_entropy())
    for p in potential.parameters():
        assert p.grad is not None and abs(float(p.grad)) < 1e-11


def test_two_systems_share_one_gradient(atom: System) -> None:
    potential = Wells()
    pair = System.create(["H", "H"])
    parts = []
    for system, x in (
        (atom, sampled(potential, 50, 2.0, seed=1)),
        (pair, sampled(potential, 100, 2.0, seed=2).reshape(50, 2, 3)),
    ):
        energies = potential_energies(potential, system, x)
        frames = SampledFrames(x, energies, x[:, 0].square(), torch.arange(50) % 5)
        parts.append(StatePoint(system, frames, 2.0))
    points = dict(zip(("atom", "pair"), parts, strict=True))
    separate = []
    for name in points:
        potential.zero_grad()
        ensemble_gradient(potential, {name: points[name]}, lambda at, n=name: at[n].mean().sum())
        separate.append(torch.stack([p.grad for p in potential.parameters()]))  # type: ignore[misc]
    potential.zero_grad()
    result = ensemble_gradient(
        potential, points, lambda at: at["atom"].mean().sum() + at["pair"].mean().sum()
    )
    together = torch.stack([p.grad for p in potential.parameters()])  # type: ignore[misc]
    torch.testing.assert_close(together, separate[0] + separate[1], rtol=1e-12, atol=0)
    assert set(result.trust) == {"atom", "pair"} and result.gradient_noise > 0.0


def test_refuses_what_has_no_answer(atom: System) -> None:
    potential = Wells()
    points = quadrature_points(atom, 1)
    with pytest.raises(DataError, match="must be finite"):
        ensemble_gradient(potential, points, lambda at: at["hot"].mean().sum() * float("nan"))
    bare = {"hot": StatePoint(atom, points["hot"].frames, 1.0)}
    with pytest.raises(DataError, match="give StatePoint"):
        ensemble_gradient(potential, bare, lambda at: at["hot"].relative_entropy())
    with pytest.raises(DataError, match="one row for each of 1201 frames"):
        ensemble_gradient(potential, bare, lambda at: at["hot"].mean(torch.zeros(3)).sum())
    single = {"hot": StatePoint(atom, points["hot"].frames.select(torch.tensor([4])), 1.0)}
    with pytest.raises(DataError, match="state point 'hot' needs at least two"):
        ensemble_gradient(potential, single, lambda at: at["hot"].mean().sum())
    for p in potential.parameters():
        p.requires_grad_(False)
    with pytest.raises(PotentialError, match="unfreeze"):
        ensemble_gradient(potential, bare, lambda at: at["hot"].mean().sum())
