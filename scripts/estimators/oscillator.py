"""A harmonic oscillator under BAOAB: its trajectories, and their averages exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stablemd import units
from stablemd.estimators import LangevinPaths
from stablemd.md import State
from stablemd.md.integrators.baoab import BAOAB
from stablemd.md.random_streams import normals
from stablemd.potentials.base import Potential
from stablemd.potentials.batch import Batch
from stablemd.system import System


class Oscillator(Potential):
    """Atoms on springs: ``U = Σ_a k x_a²/2``, k in eV/Å²."""

    def __init__(self, k: float) -> None:
        super().__init__()
        self.cutoff = 0.1  # there are no pairs to find
        self.k = nn.Parameter(torch.tensor(k, dtype=torch.float64))

    def local_energies(self, batch: Batch) -> Tensor:
        """(n_atoms_total,) in eV."""
        return 0.5 * self.k * batch.positions.square().sum(dim=1)


def langevin_paths(
    potential: Oscillator,
    system: System,
    integrator: BAOAB,
    *,
    n_replicas: int,
    n_steps: int,
    seed: int,
) -> LangevinPaths:
    """Every step of replicas that start from the Boltzmann distribution.

    Args:
        potential: the springs.
        system: the atoms.
        integrator: with time step, temperature and friction.
        n_replicas: R.
        n_steps: T.
        seed: of the start and of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    kt = units.KB * integrator.temperature_k
    shape = (n_replicas, system.n_atoms, 3)
    ids = torch.arange(n_replicas)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x = x * math.sqrt(kt / potential.k.item())
    p = torch.randn(shape, generator=generator, dtype=torch.float64)
    p = p * (kt * system.masses[:, None]).sqrt()

    def evaluate(positions: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        k = potential.k.detach()
        return 0.5 * k * positions.square().sum(dim=(1, 2)), -k * positions

    energies, forces = evaluate(x)
    alive = torch.ones(n_replicas, dtype=torch.bool)
    state = State(x, p, forces, energies, ids, 0, alive)
    state = integrator.init(state, system, seed)
    noise = normals(seed, ids, 0, n_steps, system.n_atoms * 3).reshape(n_steps, *shape)
    positions = [x]
    for xi in noise:
        state = integrator.step(state, evaluate, xi)
        positions.append(state.positions)
    return LangevinPaths(
        torch.stack(positions),
        noise,
        system.masses,
        integrator.dt_fs,
        integrator.temperature_k,
        integrator.friction_per_ps,
    )


def exact_covariance(
    k: Tensor, mass: float, integrator: BAOAB, n_steps: int, *, rows: int | None = None
) -> Tensor:
    """<x_i x_j> of one coordinate under BAOAB from a Boltzmann start, with graph to k.

    Args:
        k: stiffness in eV/Å².
        mass: amu.
        integrator: with time step, temperature and friction.
        n_steps: T.
        rows: number of the first times i for which all j are wanted; of later
            ones only <x_i x_i> is right.

    Returns:
        (T + 1, T + 1) in Å².
    """
    h = integrator.dt_fs * units.FS
    kt = units.KB * integrator.temperature_k
    c = math.exp(-integrator.friction_per_ps / units.PS * h)
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    kick = torch.stack([torch.stack([one, zero]), torch.stack([-0.5 * h * k, one])])
    drift = torch.tensor([[1.0, 0.5 * h / mass], [0.0, 1.0]], dtype=torch.float64)
    damp = torch.tensor([[1.0, 0.0], [0.0, c]], dtype=torch.float64)
    after = kick @ drift
    step = after @ damp @ drift @ kick
    heat = torch.tensor([[0.0, 0.0], [0.0, (1 - c**2) * kt * mass]], dtype=torch.float64)
    spread = torch.diag(torch.stack([kt / k, one * kt * mass]))
    found = []
    for i in range(n_steps + 1):
        lagged, row = spread, [zero] * i
        n_lags = n_steps + 1 - i if rows is None or i < rows else 1
        for _ in range(n_lags):
            row.append(lagged[0, 0])
            lagged = step @ lagged
        found.append(torch.stack(row + [zero] * (n_steps + 1 - len(row))))
        spread = step @ spread @ step.T + after @ heat @ after.T
    upper = torch.stack(found)
    return upper + upper.T - torch.diag(upper.diagonal())
