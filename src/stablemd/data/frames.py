"""Reference structures of one composition with energies and forces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.errors import DataError


@dataclass(frozen=True)
class Frames:
    """Structures of the same atoms in the same order, with labels where known.

    Attributes:
        numbers: atomic numbers, (N,) int64.
        positions: Å, (n, N, 3) float64.
        energies: eV, (n,) float64, or None.
        forces: eV/Å, (n, N, 3) float64, or None.
        cell: cell vectors as rows in Å, (n, 3, 3) float64, or None.
        pbc: periodic directions, (3,) bool.
        source: where the frames came from, for messages and reports.
    """

    numbers: Tensor
    positions: Tensor
    energies: Tensor | None = None
    forces: Tensor | None = None
    cell: Tensor | None = None
    pbc: Tensor | None = None
    source: str = "memory"

    def __post_init__(self) -> None:
        n_atoms = self.numbers.shape[0] if self.numbers.ndim == 1 else -1
        if n_atoms < 1:
            raise DataError(
                f"{self.source}: atomic numbers must be a non-empty (N,) array, "
                f"got shape {tuple(self.numbers.shape)}"
            )
        if self.positions.ndim != 3 or self.positions.shape[1:] != (n_atoms, 3):
            raise DataError(
                f"{self.source}: positions must have shape (frames, {n_atoms}, 3) for "
                f"{n_atoms} atoms, got {tuple(self.positions.shape)}"
            )
        if len(self) == 0:
            raise DataError(f"{self.source}: no frames were found; give at least one structure")
        expected = {
            "energies": (len(self),),
            "forces": (len(self), n_atoms, 3),
            "cell": (len(self), 3, 3),
            "pbc": (3,),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise DataError(
                    f"{self.source}: {name} must have shape {shape}, got {tuple(value.shape)}"
                )
        for name in ("positions", "energies", "forces", "cell"):
            value = getattr(self, name)
            if value is not None:
                self._require_finite(name, value)

    def _require_finite(self, name: str, value: Tensor) -> None:
        bad = ~torch.isfinite(value).reshape(len(self), -1).all(dim=1)
        if bool(bad.any()):
            first = torch.nonzero(bad).flatten()[:5].tolist()
            raise DataError(
                f"{self.source}: {name} of {int(bad.sum())} of {len(self)} frames are not finite "
                f"(first frames: {first}); remove or relabel these frames"
            )

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    @property
    def n_atoms(self) -> int:
        return int(self.numbers.shape[0])

    def geometry(self, device: torch.device | str) -> tuple[Tensor, Tensor | None]:
        """Positions (n, N, 3) and cells (n, 3, 3) or None in Å, on a device."""
        return self.positions.to(device), None if self.cell is None else self.cell.to(device)

    def select(self, index: Tensor | slice | list[int]) -> Frames:
        """The frames at ``index`` (a slice, a list, or an index tensor), in that order."""
        if isinstance(index, list):
            index = torch.as_tensor(index, dtype=torch.int64)

        def pick(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[index]

        return Frames(
            numbers=self.numbers,
            positions=self.positions[index],
            energies=pick(self.energies),
            forces=pick(self.forces),
            cell=pick(self.cell),
            pbc=self.pbc,
            source=self.source,
        )

    def require_labels(self) -> tuple[Tensor, Tensor]:
        """Energies (n,) and forces (n, N, 3), or a clear error if either is missing."""
        if self.energies is None or self.forces is None:
            missing = [k for k in ("energies", "forces") if getattr(self, k) is None]
            raise DataError(
                f"{self.source}: {' and '.join(missing)} missing; training and error metrics "
                "need both labels for every frame"
            )
        return self.energies, self.forces
