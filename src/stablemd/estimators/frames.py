"""Sampled frames: what an estimator needs to know about a simulation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.errors import DataError


@dataclass(frozen=True)
class SampledFrames:
    """Decorrelated frames of a simulation at the sampling parameters θ0, on one device.

    Attributes:
        positions: Å, (n, N, 3).
        reference_energies: U_θ0 of every frame in eV, (n,).  Take them from
            ``potential_energies`` with the potential that was sampled, so that
            rounding cancels and the weights at θ0 are exactly uniform.
        values: observable of every frame, (n, D), detached.
        replica: replica that each frame came from, (n,) int64.
        cells: cell of every frame in Å, (n, 3, 3); None for the system's own.
        group: which replicas are independent of each other, (n,) int64: copies of
            one state that were continued separately share a group.  By default
            every replica is a group of its own.
        reference_atomic_energies: ε_θ0 of every atom in eV, (n, N).  With them the
            localized estimator weighs every neighbourhood by its own energy.
    """

    positions: Tensor
    reference_energies: Tensor
    values: Tensor
    replica: Tensor
    cells: Tensor | None = None
    group: Tensor | None = None
    reference_atomic_energies: Tensor | None = None

    def __post_init__(self) -> None:
        n = self.positions.shape[0] if self.positions.ndim == 3 else -1
        shapes = {
            "positions": (self.positions, self.positions.ndim == 3, "(n, N, 3)"),
            "reference_energies": (
                self.reference_energies,
                self.reference_energies.shape == (n,),
                "(n,)",
            ),
            "values": (self.values, self.values.ndim == 2 and len(self.values) == n, "(n, D)"),
            "replica": (self.replica, self.replica.shape == (n,), "(n,)"),
            "group": (self.independent, self.independent.shape == (n,), "(n,)"),
        }
        if self.cells is not None:
            shapes["cells"] = (self.cells, self.cells.shape == (n, 3, 3), "(n, 3, 3)")
        if self.reference_atomic_energies is not None:
            atomic = self.reference_atomic_energies
            fits = atomic.shape == self.positions.shape[:2]
            shapes["reference_atomic_energies"] = (atomic, fits, "(n, N)")
        for name, (tensor, fits, expected) in shapes.items():
            if not fits:
                raise DataError(
                    f"sampled frames need {name} of shape {expected} with one n for all, "
                    f"got {tuple(tensor.shape)} beside positions {tuple(self.positions.shape)}"
                )

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    def select(self, index: Tensor) -> SampledFrames:
        """The frames at ``index`` (an integer or boolean index tensor)."""
        return SampledFrames(
            positions=self.positions[index],
            reference_energies=self.reference_energies[index],
            values=self.values[index],
            replica=self.replica[index],
            cells=None if self.cells is None else self.cells[index],
            group=None if self.group is None else self.group[index],
            reference_atomic_energies=(
                None
                if self.reference_atomic_energies is None
                else self.reference_atomic_energies[index]
            ),
        )

    @property
    def independent(self) -> Tensor:
        """Group of independent replicas that each frame belongs to, (n,) int64."""
        return self.replica if self.group is None else self.group

    def finite_mask(self) -> Tensor:
        """Whether all numbers of each frame are finite, (n,) bool."""
        known = torch.isfinite(self.reference_energies)
        if self.reference_atomic_energies is not None:
            known = known & torch.isfinite(self.reference_atomic_energies).all(dim=1)
        return (
            known
            # A sum is finite if and only if its terms are, short of an overflow.
            & torch.isfinite(self.values.double().sum(dim=1))
            & torch.isfinite(self.positions.double().sum(dim=(1, 2)))
        )
