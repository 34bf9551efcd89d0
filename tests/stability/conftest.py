"""Systems of the detector tests: a water molecule alone, and water in a triclinic cell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.stability import Detection, Detector, DetectorSet, ReferenceStructures
from stablemd.system import System

CELL = [[9.0, 0.2, -0.3], [0.8, 9.4, 0.1], [-0.5, 0.7, 8.8]]
WATER = torch.tensor([[0.0, 0.0, 0.0], [0.97, 0.0, 0.0], [-0.24, 0.94, 0.0]], dtype=torch.float64)


@dataclass
class Example:
    """A system with thermal structures of it."""

    system: System
    positions: Tensor
    cells: Tensor | None

    @property
    def reference(self) -> ReferenceStructures:
        forces = torch.sin(10.0 * self.positions)
        return ReferenceStructures(self.positions, self.cells, forces)

    def detect(
        self, detector: Detector, positions: Tensor | None = None, **changes: Tensor
    ) -> Detection:
        """What a set of this one detector sees, at rest and without forces by default."""
        x = self.positions if positions is None else positions
        given = {
            "momenta": torch.zeros_like(x),
            "energies": x.new_zeros(len(x)),
            "forces": torch.zeros_like(x),
            "conserved": x.new_zeros(len(x)),
            **changes,
        }
        cells = None if self.cells is None else self.cells[: len(x)]
        further = {k: given[k] for k in detector.needs}
        (part,) = (
            DetectorSet([detector])
            .detect(x, given["momenta"], given["energies"], cells, **further)
            .parts
        )
        return part


def molecule() -> Example:
    generator = torch.Generator().manual_seed(1)
    system = System.create(["O", "H", "H"], bonds=[[0, 1], [0, 2]], bond_lengths=[0.97, 0.97])
    noise = torch.randn(12, 3, 3, generator=generator, dtype=torch.float64)
    return Example(system, WATER + 0.02 * noise + 7.0, None)


def box() -> Example:
    """Eight molecules on a distorted grid, some of them outside the cell."""
    generator = torch.Generator().manual_seed(2)
    n = 8
    system = System.create(
        ["O", "H", "H"] * n,
        cell=CELL,
        pbc=True,
        bonds=[[3 * m, 3 * m + h] for m in range(n) for h in (1, 2)],
        bond_lengths=[0.97] * (2 * n),
    )
    grid = torch.cartesian_prod(*[torch.arange(2.0)] * 3).double() / 2.0
    turns = torch.randint(-1, 2, grid.shape, generator=generator)
    centres = (grid + turns) @ system.cell
    noise = torch.randn(12, n, 3, 3, generator=generator, dtype=torch.float64)
    positions = (centres[:, None] + WATER + 0.03 * noise).reshape(12, 3 * n, 3)
    scale = torch.linspace(0.99, 1.01, 12, dtype=torch.float64)[:, None, None]
    return Example(system, positions, scale * system.cell)
