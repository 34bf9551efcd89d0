"""One move of the cell in the isothermal-isobaric ensemble: a diffusion of its strain.

With atoms at fixed fractional coordinates, momenta contravariant to them and
strains symmetric, the stationary density over cells, relative to the invariant
measure of strains, is ``V exp(-beta (K + U + P V))``.  A diffusion with the
constant coefficient D per component of the strain (or of ln V, where only the
volume moves) keeps it if its drift is D times the gradient of the logarithm,

    mean strain = D dt (1 + beta V (P_int - P)),

with P_int the instantaneous pressure, kinetic part included.  Where the total
momentum is fixed at zero, the centre of mass lacks its kT in it, which is added.

Bernetti & Bussi, J. Chem. Phys. 153, 114107 (2020), have D = kT rate / V of the
present volume, in which the 1 drops out; with that of a fixed volume the noise
is additive, so that each move's error vanishes with its time, as it does in
their equation for the root of the volume, and the same holds for the whole
cell (Del Tatto et al., Appl. Sci. 12, 1139 (2022)).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stablemd.geometry.lattice import volumes

_EXPONENTIAL_ORDER = 14
"""Terms of the exponential series: exact to rounding for strains up to 0.3."""


class Look(NamedTuple):
    """What the barostat knows of R replicas at one moment.

    Attributes:
        volume: Å³, (R,).
        enthalpy: K + U + P V in eV, (R,).
        excess: internal less external pressure in eV/Å³, (R, 3, 3).
    """

    volume: Tensor
    enthalpy: Tensor
    excess: Tensor


class Barostat:
    """Draws strains, and accounts for the energy that they bring.

    Args:
        kt: eV.
        pressure: eV/Å³.
        rate: compressibility over relaxation time, Å³/eV per fs.
        volume: of the system's own cell, Å³; sets the diffusion coefficient only.
        time: time of one move in fs.
        isotropic: move the volume only.
        com_fixed: the total momentum is fixed at zero.
    """

    def __init__(
        self,
        *,
        kt: float,
        pressure: float,
        rate: float,
        volume: float,
        time: float,
        isotropic: bool,
        com_fixed: bool,
    ) -> None:
        self._kt = kt
        self._pressure = pressure
        self._isotropic = isotropic
        self._com_fixed = com_fixed
        # D times the time of a move: a third for each of the three directions of ln V.
        self._diffused = kt * rate * time / volume / (1.0 if isotropic else 3.0)

    def look(
        self,
        cells: Tensor,
        momenta: Tensor,
        inverse_masses: Tensor,
        energies: Tensor,
        stress: Tensor,
    ) -> Look:
        """Volume, enthalpy and pressure of cells, momenta, potential energies and stress."""
        volume = volumes(cells)
        velocities = momenta * inverse_masses
        twice_kinetic = (momenta[..., :, None] * velocities[..., None, :]).sum(dim=1)
        trace = twice_kinetic.diagonal(dim1=1, dim2=2).sum(dim=1)
        unit = torch.eye(3, dtype=cells.dtype, device=cells.device)
        if self._com_fixed:
            twice_kinetic = twice_kinetic + self._kt * unit
        excess = twice_kinetic / volume[:, None, None] - stress - self._pressure * unit
        return Look(volume, 0.5 * trace + energies + self.work(cells), excess)

    def work(self, cells: Tensor) -> Tensor:
        """P V in eV, (R,)."""
        return self._pressure * volumes(cells)

    def draw(self, look: Look, noise: Tensor) -> Tensor:
        """Symmetric strains (R, 3, 3) of one move from six normals each, (R, 6)."""
        width = (2.0 * self._diffused) ** 0.5
        if self._isotropic:
            change = self._drift(look) + width * noise[:, 0]
            return (
                change[:, None, None] / 3.0 * torch.eye(3, dtype=noise.dtype, device=noise.device)
            )
        diagonal = torch.diag_embed(noise[:, :3])
        upper = noise.new_zeros(len(noise), 3, 3)
        rows, columns = torch.triu_indices(3, 3, offset=1, device=noise.device)
        upper[:, rows, columns] = noise[:, 3:] / 2.0**0.5
        return self._drift(look) + width * (diagonal + upper + upper.transpose(1, 2))

    def heat(self, before: Look, after: Look, strain: Tensor) -> Tensor:
        """Enthalpy that the bath brought by a move, (R,) eV.

        It is the change of the enthalpy less that of the effective energy,
        which is zero for a move that fulfils detailed balance.
        """
        forward = self._log_probability(before, strain)
        backward = self._log_probability(after, -strain)
        power = 2.0 if self._com_fixed else 1.0
        return self._kt * (power * torch.log(after.volume / before.volume) + backward - forward)

    def _drift(self, look: Look) -> Tensor:
        """Mean of one move: of ln V (R,), or of the strain (R, 3, 3)."""
        gradient = look.excess * (look.volume / self._kt)[:, None, None]
        if self._isotropic:
            return self._diffused * (1.0 + gradient.diagonal(dim1=1, dim2=2).mean(dim=1))
        unit = torch.eye(3, dtype=gradient.dtype, device=gradient.device)
        return self._diffused * (unit + 0.5 * (gradient + gradient.transpose(1, 2)))

    def _log_probability(self, look: Look, strain: Tensor) -> Tensor:
        """Logarithm of the probability of drawing a strain, up to a constant, (R,)."""
        if self._isotropic:
            move = strain.diagonal(dim1=1, dim2=2).sum(dim=1)
            distance2 = (move - self._drift(look)).square()
        else:
            distance2 = (strain - self._drift(look)).square().flatten(1).sum(dim=1)
        return -distance2 / (4.0 * self._diffused)


def rows_times(rows: Tensor, matrices: Tensor) -> Tensor:
    """``rows @ matrices`` for (R, N, 3) and (R, 3, 3), rounded alike in every batch."""
    columns = rows.unsqueeze(-1) * matrices.unsqueeze(1)
    return columns[..., 0, :] + columns[..., 1, :] + columns[..., 2, :]


def exponential(strain: Tensor) -> Tensor:
    """Matrix exponential of small strains (R, 3, 3), rounded alike in every batch."""
    unit = torch.eye(3, dtype=strain.dtype, device=strain.device).expand_as(strain)
    total = unit
    for order in range(_EXPONENTIAL_ORDER, 0, -1):
        total = unit + rows_times(strain, total) / order
    return total
