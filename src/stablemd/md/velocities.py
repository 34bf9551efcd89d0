"""Maxwell-Boltzmann momenta, degrees of freedom, kinetic temperature."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stablemd import units
from stablemd.errors import SimulationError
from stablemd.md.random_streams import Stream, normals
from stablemd.system import System


def degrees_of_freedom(n_atoms: int, com_fixed: bool) -> int:
    """Number of momentum components that carry kT/2: 3N, or 3N - 3 at fixed total momentum."""
    return 3 * n_atoms - 3 if com_fixed else 3 * n_atoms


def maxwell_boltzmann_momenta(
    system: System,
    temperature_k: float,
    seed: int,
    replica_ids: Tensor,
    *,
    step: int = 0,
    remove_com: bool = True,
) -> Tensor:
    """Momenta drawn from the Maxwell-Boltzmann distribution for each (seed, replica, step).

    Args:
        system: the atoms.
        temperature_k: temperature in K, zero or more.
        seed: seed of the random streams.
        replica_ids: (R,) int64.
        step: step count of the random streams; another step gives other momenta.
        remove_com: set the total momentum of each replica to zero.  The
            momenta are not rescaled: with 3N - 3 degrees of freedom the mean
            kinetic temperature is ``temperature_k``.

    Returns:
        (R, N, 3) float64 in internal units.

    Raises:
        SimulationError: the temperature is negative or not finite.
    """
    if not math.isfinite(temperature_k) or temperature_k < 0:
        raise SimulationError(
            f"temperature_k must be a finite number of K, zero or more; got {temperature_k}"
        )
    n = system.n_atoms
    masses = system.masses.to(replica_ids.device)[:, None]
    draws = normals(seed, replica_ids, step, 1, 3 * n, Stream.VELOCITIES)[0].unflatten(-1, (n, 3))
    momenta = draws * torch.sqrt(units.KB * temperature_k * masses)
    return remove_com_momentum(momenta, system) if remove_com else momenta


def remove_com_momentum(momenta: Tensor, system: System) -> Tensor:
    """The same momenta (R, N, 3) in the centre-of-mass frame of each replica."""
    masses = system.masses.to(momenta.device)
    share = (masses / masses.sum())[:, None]
    return momenta - share * momenta.sum(dim=1, keepdim=True)


def kinetic_temperature(momenta: Tensor, masses: Tensor, n_dof: int) -> Tensor:
    """Kinetic temperature 2K / (n_dof k_B) of each replica in K.

    Args:
        momenta: (R, N, 3) internal units.
        masses: (N,) amu.
        n_dof: see :func:`degrees_of_freedom`.

    Returns:
        (R,) K.

    Raises:
        SimulationError: there is no degree of freedom.
    """
    if n_dof < 1:
        raise SimulationError(
            f"a temperature needs at least one degree of freedom, got {n_dof}; a single atom "
            "at fixed centre of mass has none"
        )
    twice_kinetic = (momenta.square() / masses[:, None]).flatten(1).sum(dim=1)
    return twice_kinetic / (n_dof * units.KB)
