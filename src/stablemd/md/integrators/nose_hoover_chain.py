"""The thermostat part of a Nosé-Hoover time step: compiled on the CPU, tensors elsewhere.

The chain is some forty operations on a few numbers per replica.  As tensor
operations on the CPU they would cost several times the rest of the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numba
import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Chain:
    """Constants of a chain.

    Attributes:
        kt: k_B T in eV.
        n_dof: degrees of freedom of the momenta.
        tau: time scale in internal units; masses are n_dof kT tau**2 for the
            first link and kT tau**2 for the others.
    """

    kt: float
    n_dof: int
    tau: float


def advance_chain(
    momenta: Tensor,
    inverse_masses: Tensor,
    velocities: Tensor,
    positions: Tensor,
    time: float,
    chain: Chain,
) -> tuple[Tensor, Tensor]:
    """Let the chain act on the momenta for a time, each replica by itself.

    The odd links move for half the time; then the even links, the momenta and
    the thermostat positions; then the odd links again.

    Args:
        momenta: (R, N, 3) float64, scaled in place.
        inverse_masses: 1 / mass in the shape of ``momenta``.
        velocities: of the links, (R, M), 1/time.
        positions: of the links, (R, M).
        time: internal units.
        chain: the constants.

    Returns:
        Velocities and positions of the links after that time, (R, M) each.
    """
    if momenta.device.type != "cpu":
        return advance_chain_tensors(momenta, inverse_masses, velocities, positions, time, chain)
    new_velocities, new_positions = velocities.clone(), positions.clone()
    _advance_chain(
        momenta.numpy(),
        inverse_masses.numpy(),
        new_velocities.numpy(),
        new_positions.numpy(),
        time,
        chain.kt,
        chain.n_dof,
        chain.tau,
    )
    return new_velocities, new_positions


@numba.njit(cache=True)
def _advance_chain(
    momenta: np.ndarray,
    inverse_masses: np.ndarray,
    velocities: np.ndarray,
    positions: np.ndarray,
    time: float,
    kt: float,
    n_dof: int,
    tau: float,
) -> None:
    n_replicas, n_atoms, _ = momenta.shape
    n_links = velocities.shape[1]
    rate = 1.0 / tau**2
    for r in range(n_replicas):
        v = velocities[r]
        x = positions[r]
        twice_kinetic = 0.0
        for a in range(n_atoms):
            for i in range(3):
                twice_kinetic += momenta[r, a, i] ** 2 * inverse_masses[r, a, i]
        for part in range(3):
            span = time if part == 1 else 0.5 * time
            if part == 1:
                scale = exp(-time * v[0])
                twice_kinetic *= scale * scale
                for a in range(n_atoms):
                    for i in range(3):
                        momenta[r, a, i] *= scale
            for j in range(part % 2, n_links, 2):
                decay = exp(-0.5 * span * v[j + 1]) if j + 1 < n_links else 1.0
                if j == 0:
                    drive = rate * (twice_kinetic / (n_dof * kt) - 1.0)
                else:
                    drive = (n_dof if j == 1 else 1) * v[j - 1] ** 2 - rate
                v[j] = (v[j] * decay + span * drive) * decay
            # Positions move while their own velocity is held constant.
            for j in range((part + 1) % 2, n_links, 2):
                x[j] += span * v[j]


def advance_chain_tensors(
    momenta: Tensor,
    inverse_masses: Tensor,
    velocities: Tensor,
    positions: Tensor,
    time: float,
    chain: Chain,
) -> tuple[Tensor, Tensor]:
    """:func:`advance_chain` by tensor operations, for any device."""
    rate = 1.0 / chain.tau**2
    v, x = list(velocities.unbind(1)), list(positions.unbind(1))
    twice_kinetic = (momenta * inverse_masses).mul_(momenta).flatten(1).sum(dim=1)
    for part in range(3):
        span = time if part == 1 else 0.5 * time
        if part == 1:
            scale = torch.exp(-time * v[0])
            twice_kinetic = twice_kinetic * scale * scale
            momenta.mul_(scale[:, None, None])
        for j in range(part % 2, len(v), 2):
            if j == 0:
                drive = rate * (twice_kinetic / (chain.n_dof * chain.kt) - 1.0)
            else:
                drive = (chain.n_dof if j == 1 else 1) * v[j - 1].square() - rate
            if j + 1 < len(v):
                decay = torch.exp(-0.5 * span * v[j + 1])
                v[j] = (v[j] * decay + span * drive) * decay
            else:
                v[j] = v[j] + span * drive
        for j in range((part + 1) % 2, len(v), 2):
            x[j] = x[j] + span * v[j]
    return torch.stack(v, dim=1), torch.stack(x, dim=1)
