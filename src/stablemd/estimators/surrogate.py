"""One weight per frame: energies without a graph, and the chunked backward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd.errors import ConfigError, PotentialError
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
    _require_chunk(chunk_size)
    energies = torch.empty(len(positions), dtype=torch.float64, device=positions.device)
    for start in range(0, len(positions), chunk_size):
        part = slice(start, start + chunk_size)
        chunk = positions[part].to(potential.device)
        boxes = None if cells is None else cells[part].to(potential.device)
        energies[part] = potential.energy(system, chunk, boxes).to(energies)
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

    The frames are differentiated chunk by chunk, so the graph of one chunk is
    all that is ever held; the chunks' gradients are summed in float64, since the
    coefficients sum to zero and most of each chunk's gradient cancels.

    Args:
        potential: its parameters with ``requires_grad`` receive the gradient.
        system: the molecule.
        positions: (n, N, 3) in Å.
        coefficients: c_i, (n,), detached.
        cells: (n, 3, 3) in Å; the system's cell by default.
        chunk_size: frames per forward and backward pass.

    Returns:
        Norm of the gradient that was added.

    Raises:
        ConfigError: ``chunk_size`` is not positive.
        PotentialError: no parameter requires a gradient.
    """
    _require_chunk(chunk_size)
    parameters = [p for p in potential.parameters() if p.requires_grad]
    if not parameters:
        raise PotentialError(
            f"{type(potential).__name__} has no parameter with requires_grad, so there is "
            "nothing to train; unfreeze at least one parameter"
        )
    total = [torch.zeros_like(p, dtype=torch.float64) for p in parameters]
    for start in range(0, len(positions), chunk_size):
        part = slice(start, start + chunk_size)
        chunk = positions[part].detach().to(potential.device)
        boxes = None if cells is None else cells[part].detach().to(potential.device)
        with torch.enable_grad():
            energies = potential.energy(system, chunk, boxes)
        weights = coefficients[part].detach().to(energies)
        gradients = torch.autograd.grad(energies, parameters, weights, allow_unused=True)
        for accumulated, gradient in zip(total, gradients, strict=True):
            if gradient is not None:
                accumulated += gradient
    for parameter, gradient in zip(parameters, total, strict=True):
        added = gradient.to(parameter.dtype)
        parameter.grad = added if parameter.grad is None else parameter.grad + added
    return float(torch.stack([g.square().sum() for g in total]).sum().sqrt())


def _require_chunk(chunk_size: int) -> None:
    if chunk_size < 1:
        raise ConfigError(f"chunk_size is the number of frames per pass, >= 1; got {chunk_size}")
