"""The state of R replicas of one system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class State:
    """Everything that changes during a simulation.  Internal units (Å, eV, amu).

    Attributes:
        positions: unwrapped, (R, N, 3) float64, Å.
        momenta: (R, N, 3) float64, amu·Å per internal time unit.
        forces: at ``positions``, (R, N, 3) float64, eV/Å.
        energies: potential energy at ``positions``, (R,) float64, eV.
        replica_ids: identity of each replica in the random streams, (R,) int64.
        step: step count of the random streams, common to all replicas.
        alive: False for replicas that are frozen after a failure, (R,) bool.
        cells: cell vectors as rows in Å, (R, 3, 3) float64; None where nothing
            is periodic.
        thermostat: per-replica variables of the integrator by name, each (R, ...).
    """

    positions: Tensor
    momenta: Tensor
    forces: Tensor
    energies: Tensor
    replica_ids: Tensor
    step: int
    alive: Tensor
    cells: Tensor | None = None
    thermostat: dict[str, Tensor] = field(default_factory=dict)

    @property
    def n_replicas(self) -> int:
        return int(self.positions.shape[0])

    def select(self, index: Tensor) -> State:
        """The replicas at ``index`` (an integer or boolean index tensor)."""
        return replace(
            self,
            positions=self.positions[index],
            momenta=self.momenta[index],
            forces=self.forces[index],
            energies=self.energies[index],
            replica_ids=self.replica_ids[index],
            alive=self.alive[index],
            cells=None if self.cells is None else self.cells[index],
            thermostat={k: v[index] for k, v in self.thermostat.items()},
        )

    @classmethod
    def concatenate(cls, states: Sequence[State]) -> State:
        """The replicas of all states, one after the other, at the step of the first."""
        first = states[0]
        cells = [s.cells for s in states if s.cells is not None]
        if cells and len(cells) != len(states):
            raise ValueError("periodic and isolated replicas can't be one state")
        return replace(
            first,
            positions=torch.cat([s.positions for s in states]),
            momenta=torch.cat([s.momenta for s in states]),
            forces=torch.cat([s.forces for s in states]),
            energies=torch.cat([s.energies for s in states]),
            replica_ids=torch.cat([s.replica_ids for s in states]),
            alive=torch.cat([s.alive for s in states]),
            cells=torch.cat(cells) if cells else None,
            thermostat={k: torch.cat([s.thermostat[k] for s in states]) for k in first.thermostat},
        )

    def scatter(self, index: Tensor, other: State) -> State:
        """This state with the replicas at ``index`` replaced by those of ``other``."""

        def put(old: Tensor, new: Tensor) -> Tensor:
            out = old.clone()
            out[index] = new
            return out

        return replace(
            self,
            positions=put(self.positions, other.positions),
            momenta=put(self.momenta, other.momenta),
            forces=put(self.forces, other.forces),
            energies=put(self.energies, other.energies),
            replica_ids=put(self.replica_ids, other.replica_ids),
            alive=put(self.alive, other.alive),
            cells=None
            if self.cells is None or other.cells is None
            else put(self.cells, other.cells),
            thermostat={k: put(v, other.thermostat[k]) for k, v in self.thermostat.items()},
            step=other.step,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers, for a checkpoint."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any], device: torch.device | str = "cpu") -> State:
        """The state that ``to_dict`` gave, on a device."""

        def move(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: move(v) for k, v in value.items()}
            return value.to(device) if isinstance(value, Tensor) else value

        return cls(**move(values))

    def kinetic_energies(self, masses: Tensor) -> Tensor:
        """Kinetic energy of each replica in eV, (R,); ``masses`` (N,) in amu."""
        return 0.5 * torch.einsum("rni,n->r", self.momenta**2, 1.0 / masses)
