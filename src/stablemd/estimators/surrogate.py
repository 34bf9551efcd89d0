"""One weight per frame: energies without a graph, and the chunked backward pass."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.estimators.gradient_sum import trained_parameters, weighted_sum_gradient
from stablemd.estimators.weighted_energies import WeightedEnergies
from stablemd.potentials.base import Potential
from stablemd.system import System


@torch.no_grad()
def potential_energies(
    potential: Potential,
    system: System,
    positions: Tensor,
    *,
    cells: Tensor | None = None,
    chunk_size: int = 64,
) -> Tensor:
    """Energies of frames without a graph.

    Args:
        potential: evaluated as it is, on its own device.
        system: the molecule.
        positions: (n, N, 3) in Å.
        cells: (n, 3, 3) in Å; the system's cell by default.
        chunk_size: frames per call of the potential, which bounds the memory.

    Returns:
        (n,) float64 in eV, on the device of ``positions``.

    Raises:
        ConfigError: ``chunk_size`` is not positive.
    """
    energies = torch.empty(len(positions), dtype=torch.float64, device=positions.device)
    for part, x, h in _chunks(potential, positions, cells, chunk_size):
        energies[part] = potential.energy(system, x, h).to(energies)
    return energies


@torch.no_grad()
def potential_atomic_energies(
    potential: Potential,
    system: System,
    positions: Tensor,
    *,
    cells: Tensor | None = None,
    chunk_size: int = 64,
) -> Tensor:
    """Atomic energies of frames without a graph, (n, N) float64 in eV.

    Arguments and errors as for ``potential_energies``.

    Raises:
        PotentialError: the potential has no atomic energies.
    """
    potential.require_local_energies()
    shape = positions.shape[:2]
    energies = torch.empty(shape, dtype=torch.float64, device=positions.device)
    for part, x, h in _chunks(potential, positions, cells, chunk_size):
        local = potential.local_energies(potential.batch(system, x, h))
        energies[part] = local.to(energies).reshape(x.shape[:2])
    return energies


def backward_weighted_energy(
    potential: Potential,
    system: System,
    positions: Tensor,
    coefficients: Tensor,
    *,
    cells: Tensor | None = None,
    chunk_size: int = 64,
) -> float:
    """Add ∇θ Σ_i c_i U_θ(x_i) to the parameters' ``.grad``.

    The frames are differentiated chunk by chunk (``weighted_sum_gradient``).

    Args:
        potential: its parameters with ``requires_grad`` receive the gradient.
        system: the molecule.
        positions: (n, N, 3) in Å.
        coefficients: c_i, (n,), or (n, N) on atomic energies, detached.
        cells: (n, 3, 3) in Å; the system's cell by default.
        chunk_size: frames per forward and backward pass.

    Returns:
        Norm of the gradient that was added.

    Raises:
        ConfigError: ``chunk_size`` is not positive.
        PotentialError: no parameter requires a gradient.
    """
    parameters = trained_parameters(potential)
    energies = WeightedEnergies(potential, system, positions, coefficients, cells)
    result = weighted_sum_gradient(parameters, energies, chunk_size=chunk_size)
    result.add_to(parameters)
    return result.norm


def _chunks(
    potential: Potential, positions: Tensor, cells: Tensor | None, chunk_size: int
) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
    """Parts of the frames, with their positions and cells on the potential's device."""
    if chunk_size < 1:
        raise ConfigError(f"chunk_size is the number of frames per pass, >= 1; got {chunk_size}")
    for start in range(0, len(positions), chunk_size):
        part = slice(start, start + chunk_size)
        boxes = None if cells is None else cells[part].to(potential.device)
        yield part, positions[part].to(potential.device), boxes
