"""The first state of a simulation."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd.errors import SimulationError
from stablemd.geometry.lattice import cells_of
from stablemd.md.state import State
from stablemd.md.velocities import maxwell_boltzmann_momenta
from stablemd.potentials.base import SamplingForm
from stablemd.system import System


def initial_state(
    system: System,
    positions: Tensor,
    form: SamplingForm,
    *,
    temperature_k: float,
    seed: int,
    replica_ids: Tensor | None = None,
    step: int = 0,
    remove_com: bool = True,
    cells: Tensor | None = None,
) -> State:
    """Replicas at given positions with forces and Maxwell-Boltzmann momenta.

    Args:
        system: the atoms.
        positions: (R, N, 3) Å.
        form: evaluator of energies and forces.
        temperature_k: temperature of the momenta in K.
        seed: seed of the random streams.
        replica_ids: identity of each replica in the random streams, (R,)
            int64; 0..R-1 by default.
        step: step count of the random streams to start from.
        remove_com: set the total momentum of each replica to zero.
        cells: (3, 3) or (R, 3, 3) in Å; the system's cell by default.

    Returns:
        A state with every replica alive and no thermostat variables.

    Raises:
        SimulationError: shapes do not fit, two replicas share an identity, or
            start positions, energies or forces are not finite.
    """
    n = system.n_atoms
    if positions.ndim != 3 or positions.shape[1:] != (n, 3) or positions.shape[0] == 0:
        raise SimulationError(
            f"start positions must have shape (replicas, {n}, 3) with at least one replica for "
            f"{system.formula}, got {tuple(positions.shape)}"
        )
    n_replicas = positions.shape[0]
    if replica_ids is None:
        replica_ids = torch.arange(n_replicas)
    replica_ids = replica_ids.to(device=positions.device, dtype=torch.int64)
    _check_replica_ids(replica_ids, n_replicas)
    positions = positions.detach().to(torch.float64).clone()
    boxes = None
    if system.is_periodic:
        boxes = cells_of(system.cell, n_replicas, cells).detach().to(positions).clone()
    with torch.no_grad():
        energies, forces = form(positions, boxes)
        energies, forces = energies.to(torch.float64), forces.to(torch.float64)
        _check_start(positions, energies, forces)
        momenta = maxwell_boltzmann_momenta(
            system, temperature_k, seed, replica_ids, step=step, remove_com=remove_com
        )
    return State(
        positions=positions,
        momenta=momenta,
        forces=forces,
        energies=energies,
        replica_ids=replica_ids,
        step=step,
        alive=torch.ones(n_replicas, dtype=torch.bool, device=positions.device),
        cells=boxes,
    )


def require_finite(values: dict[str, Tensor], replicas: Tensor) -> None:
    """Raise a clear error naming the replicas whose start values are not finite.

    Args:
        values: name -> (A, ...) tensors.
        replicas: index of each of the A replicas, for the message.
    """
    for name, value in values.items():
        bad = ~value.isfinite().flatten(1 if value.ndim > 1 else 0).reshape(len(value), -1).all(1)
        if bool(bad.any()):
            first = replicas[bad][:5].tolist()
            raise SimulationError(
                f"start {name} of {int(bad.sum())} of {len(value)} replicas are not finite (first "
                f"replicas: {first}); check the start structures (overlapping atoms?) and the "
                "potential"
            )


def _check_replica_ids(replica_ids: Tensor, n_replicas: int) -> None:
    if tuple(replica_ids.shape) != (n_replicas,):
        raise SimulationError(
            f"replica_ids must have shape ({n_replicas},), one per replica, got "
            f"{tuple(replica_ids.shape)}"
        )
    if len(replica_ids.unique()) != n_replicas or int(replica_ids.min()) < 0:
        raise SimulationError(
            "replica_ids must be different non-negative integers, or replicas would share their "
            f"random numbers; got {replica_ids[:20].tolist()}"
        )
    if int(replica_ids.max()) >= 1 << 32:
        raise SimulationError(
            f"replica_ids must be less than 2**32, got {int(replica_ids.max())}; number replicas "
            "from 0"
        )


def _check_start(positions: Tensor, energies: Tensor, forces: Tensor) -> None:
    if energies.shape != positions.shape[:1] or forces.shape != positions.shape:
        raise SimulationError(
            f"the potential returned energies {tuple(energies.shape)} and forces "
            f"{tuple(forces.shape)} for positions {tuple(positions.shape)}; expected "
            f"({positions.shape[0]},) and {tuple(positions.shape)}"
        )
    replicas = torch.arange(len(positions), device=positions.device)
    require_finite({"positions": positions, "energies": energies, "forces": forces}, replicas)
