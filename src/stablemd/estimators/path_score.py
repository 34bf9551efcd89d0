"""The gradient of averages over Langevin trajectories, from the noise of their steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from stablemd import units
from stablemd.errors import ConfigError, DataError
from stablemd.estimators.assessment import assess, loss_and_slope
from stablemd.estimators.frames import SampledFrames
from stablemd.estimators.gradient_sum import (
    grouped_gradient,
    probe_frames,
    trained_parameters,
    weighted_sum_gradient,
)
from stablemd.estimators.losses import Loss
from stablemd.estimators.path_forces import WeightedForces
from stablemd.estimators.reweighting import ReweightedMean
from stablemd.estimators.trust import Trust
from stablemd.estimators.weighted_energies import WeightedEnergies
from stablemd.potentials.base import Potential
from stablemd.system import System

Start = Literal["equilibrium", "fixed"]


@dataclass(frozen=True)
class LangevinPaths:
    """Trajectories of the BAOAB integrator, every step of them.

    Attributes:
        positions: x_0 ... x_T in Å, (T + 1, R, N, 3).
        noise: ξ_0 ... ξ_{T-1}, the standard normals of the steps, (T, R, N, 3);
            ``stablemd.md.random_streams.normals`` draws them again from seed,
            replicas and steps.
        masses: amu, (N,).
        dt_fs: time step in fs.
        temperature_k: temperature in K.
        friction_per_ps: friction in 1/ps.
    """

    positions: Tensor
    noise: Tensor
    masses: Tensor
    dt_fs: float
    temperature_k: float
    friction_per_ps: float

    def __post_init__(self) -> None:
        steps, shape = len(self.noise), tuple(self.noise.shape)
        fits = self.noise.ndim == 4 and self.positions.shape == (steps + 1, *shape[1:])
        if not fits or self.masses.shape != shape[2:3]:
            raise DataError(
                "Langevin paths need positions (T + 1, R, N, 3), noise (T, R, N, 3) and masses "
                f"(N,), got {tuple(self.positions.shape)}, {shape} and {tuple(self.masses.shape)}"
            )

    @property
    def score_scale(self) -> Tensor:
        """(1 + c) h / s of every atom in Å/eV, (N,): what a change of force does to ξ."""
        h = self.dt_fs * units.FS
        decay = math.exp(-self.friction_per_ps / units.PS * h)
        kt = units.KB * self.temperature_k
        return (1.0 + decay) * h / torch.sqrt((1.0 - decay**2) * kt * self.masses.double())


@dataclass(frozen=True)
class PathResult:
    """What the path-score estimator saw while it added its gradient.

    Attributes:
        loss: L(<A>).
        loss_stderr: its standard error from the jackknife over replicas.
        mean: <A>, (D,) float64.
        n_windows: windows that were averaged.
        n_backward_frames: steps of replicas in the backward pass.
        gradient_norm: norm of the gradient that was added to the parameters.
        trust: how far the gradient can be trusted.
    """

    loss: float
    loss_stderr: float
    mean: Tensor
    n_windows: int
    n_backward_frames: int
    gradient_norm: float
    trust: Trust


def path_gradient(
    potential: Potential,
    system: System,
    paths: LangevinPaths,
    values: Tensor,
    loss: Loss,
    *,
    window: int,
    stride: int | None = None,
    start: Start = "equilibrium",
    chunk_size: int = 64,
    noise_groups: int = 8,
) -> PathResult:
    """Add the gradient of a loss on averages over trajectories to ``.grad``.

    A window of W steps from time t has an observable A that is a function of
    its positions x_t ... x_{t+W}, e.g. a squared displacement, or a product of
    velocities (x_{j+1} - x_j)/h.  Then

        ∂<A>/∂θ = < (A - <A>) S >,    S = Σ_n ξ_n · (1 + c)/s ∂q_n/∂θ,

    with ∂q_n = h ∂F_n - ∂q_{n-1}, ∂q_t = h/2 ∂F_t: the derivative of the
    logarithm of the density of the path, which in BAOAB is normal in the noise
    of the O steps.  Its sum over windows is one weight per force,
    ``Σ_j a_j · F_θ(x_j)``, and the gradient one backward pass.  A window that
    starts in equilibrium adds ``-β ∂U(x_t)/∂θ`` to S.

    The variance of S grows with W: see ``docs/estimators.md`` for where this
    stops being useful.

    Args:
        potential: at the parameters the paths were made with.
        system: the atoms.
        paths: of replicas that did not fail.
        values: A of every window and replica, (n_windows, R, D); window o starts
            at step o · stride.
        loss: from <A> (D,) to a differentiable scalar.
        window: steps W of a window.
        stride: steps between the starts of windows; W by default.
        start: ``"equilibrium"``: windows start from the Boltzmann distribution
            with Maxwell–Boltzmann momenta; ``"fixed"``: one window, whose start
            does not depend on θ.
        chunk_size: steps of replicas per forward and double backward pass.
        noise_groups: groups of replicas that are compared for the noise; 0 for none.

    Raises:
        ConfigError: an argument is out of range, or windows do not fit the paths.
        DataError: fewer than two windows have finite values.
        PotentialError: no parameter requires a gradient.

    Reference: the likelihood-ratio gradient, Glynn, Commun. ACM 33, 75 (1990);
    for diffusions Plyasunov and Arkin, J. Comput. Phys. 221, 724 (2007); the
    density of BAOAB paths is derived in ``docs/estimators.md``.
    """
    stride = window if stride is None else stride
    parameters = trained_parameters(potential)
    starts = _starts(paths, values, window, stride, start)
    average = _average(paths, values, starts)
    value, slope = loss_and_slope(loss, average.mean)
    deviations = (average.frames.values - average.mean) @ slope
    n = len(deviations)
    amplitude = values.new_zeros(values.shape[0] * values.shape[1], dtype=torch.float64)
    amplitude[average.index] = deviations / (n - 1)
    surrogate, replica = _surrogate(
        potential, system, paths, amplitude.reshape(values.shape[:2]), starts, window, start
    )
    if noise_groups:
        probe = average.frames.select(probe_frames(n, chunk_size))
        uniform = torch.full((len(probe),), 1.0 / len(probe), dtype=torch.float64)
        total = grouped_gradient(
            parameters,
            surrogate,
            replica,
            torch.ones(len(surrogate), dtype=torch.float64),
            chunk_size=chunk_size,
            max_groups=noise_groups,
            probe=WeightedEnergies.of_frames(potential, system, probe, uniform),
        )
    else:
        total = weighted_sum_gradient(parameters, surrogate, chunk_size=chunk_size)
    total.add_to(parameters)
    stderr, trust = assess(average, loss, slope, total)
    return PathResult(
        loss=value,
        loss_stderr=stderr,
        mean=average.mean,
        n_windows=n,
        n_backward_frames=len(surrogate),
        gradient_norm=total.norm,
        trust=trust,
    )


def _starts(
    paths: LangevinPaths, values: Tensor, window: int, stride: int, start: Start
) -> list[int]:
    n_steps, n_replicas = paths.noise.shape[:2]
    if window < 1 or stride < 1 or start not in ("equilibrium", "fixed"):
        raise ConfigError(
            "a window needs at least one step, a stride of at least one, and a start "
            f"'equilibrium' or 'fixed'; got {window}, {stride} and {start!r}"
        )
    n_windows = len(values)
    last = (n_windows - 1) * stride + window
    if values.ndim != 3 or values.shape[1] != n_replicas or not window <= last <= n_steps:
        raise ConfigError(
            f"values must be (n_windows, {n_replicas}, D) with windows of {window} steps every "
            f"{stride} within {n_steps} steps, got {tuple(values.shape)}"
        )
    if start == "fixed" and n_windows != 1:
        raise ConfigError(
            f"start 'fixed' is for one window from the start of the paths, got {n_windows}: later "
            "ones start from a distribution that depends on the parameters; use 'equilibrium'"
        )
    return [o * stride for o in range(n_windows)]


def _average(paths: LangevinPaths, values: Tensor, starts: list[int]) -> ReweightedMean:
    """The average over windows, with their first frames as the frames of the average."""
    flat = values.to(torch.float64).flatten(0, 1)
    index = torch.nonzero(torch.isfinite(flat).all(dim=1)).flatten()
    n = len(index)
    if n < 2:
        raise DataError(
            f"a covariance needs at least two windows with finite values, got {n} of {len(flat)}"
        )
    positions = paths.positions[starts].flatten(0, 1)[index]
    replica = torch.arange(values.shape[1]).repeat(len(starts))[index]
    frames = SampledFrames(positions, torch.zeros(n, dtype=torch.float64), flat[index], replica)
    weights = torch.full((n,), 1.0 / n, dtype=torch.float64)
    return ReweightedMean(
        mean=weights @ frames.values,
        weights=weights,
        frames=frames,
        index=index,
        energies=frames.reference_energies,
        n_eff=float(n),
        n_eff_entropy=float(n),
        n_dropped=len(flat) - n,
    )


def _surrogate(
    potential: Potential,
    system: System,
    paths: LangevinPaths,
    amplitude: Tensor,
    starts: list[int],
    window: int,
    start: Start,
) -> tuple[WeightedForces, Tensor]:
    """Coefficients on forces and energies of every step of every replica, and the replica."""
    on_forces = force_coefficients(paths, amplitude, starts, window)
    on_energies = torch.zeros(paths.noise.shape[:2], dtype=torch.float64)
    if start == "equilibrium":
        on_energies[starts] = -amplitude / (units.KB * paths.temperature_k)
    used = (on_forces != 0.0).any(dim=3).any(dim=2) | (on_energies != 0.0)
    replica = torch.arange(paths.noise.shape[1]).expand(used.shape)
    surrogate = WeightedForces(
        potential, system, paths.positions[:-1][used], on_forces[used], on_energies[used]
    )
    return surrogate, replica[used]


def force_coefficients(
    paths: LangevinPaths, amplitude: Tensor, starts: list[int], window: int
) -> Tensor:
    """a_j in ``Σ_j a_j · F(x_j) = Σ_o amplitude_o S_o``, (T, R, N, 3) in Å/eV.

    ``Σ_{n>=j} (-1)^(n-j) ξ_n`` over a window is a difference of two partial sums.

    Args:
        paths: the trajectories.
        amplitude: of every window and replica, (n_windows, R).
        starts: first step of every window.
        window: steps of a window.
    """
    noise = paths.noise.double()
    sign = torch.ones(len(noise), dtype=torch.float64)
    sign[1::2] = -1.0
    sign = sign[:, None, None, None]
    partial = torch.cat([torch.zeros_like(noise[:1]), (sign * noise).cumsum(dim=0)])
    out = torch.zeros_like(noise)
    for o, first in enumerate(starts):
        end = first + window
        rest = sign[first:end] * (partial[end] - partial[first:end])
        rest[0] *= 0.5
        out[first:end] += amplitude[o][:, None, None] * rest
    return out * paths.score_scale[:, None]
