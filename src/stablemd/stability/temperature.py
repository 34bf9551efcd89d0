"""Replicas that heat up."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stablemd import units
from stablemd.errors import ConfigError
from stablemd.stability.base import Detection, Detector
from stablemd.stability.thresholds import Threshold
from stablemd.system import System


class KineticTemperature(Detector):
    """Fails a replica when its kinetic temperature reaches a limit.

    The temperature is 2K / (3N k_B); ``Detection.value`` is this temperature in
    K, and ``where`` is -1.

    Args:
        system: the atoms; their masses enter.
        max_temperature_k: limit in K.  Small molecules fluctuate by a factor of
            two and more, so take several times the simulated temperature.

    Raises:
        ConfigError: the limit is not a positive number.
    """

    reason = "temperature"

    def __init__(self, system: System, max_temperature_k: float = 5000.0) -> None:
        if not math.isfinite(max_temperature_k) or max_temperature_k <= 0:
            raise ConfigError(
                f"max_temperature_k must be a positive temperature in K, got {max_temperature_k}"
            )
        self.max_temperature_k = float(max_temperature_k)
        self.thresholds = (Threshold("max_temperature_k", self.max_temperature_k, "K"),)
        n_dof = 3 * system.n_atoms
        per_atom = 1.0 / (n_dof * units.KB * system.masses)
        self._per_component = per_atom.repeat_interleave(3)

    def detect(
        self,
        positions: Tensor,
        momenta: Tensor,
        energies: Tensor,
        cells: Tensor | None = None,
    ) -> Detection:
        temperature = momenta.flatten(1).square().mul_(self._per_component).sum(dim=1)
        return Detection(
            failed=temperature.lt(self.max_temperature_k).logical_not_(),
            value=temperature,
            where=torch.full_like(temperature, -1, dtype=torch.int64),
        )

    def describe(self, where: int, value: float) -> str:
        return f"kinetic temperature is {value:.0f} K (limit {self.max_temperature_k:.0f} K)"
