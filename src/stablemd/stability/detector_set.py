"""Several detectors as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.stability.base import Detection, Detector


@dataclass(frozen=True)
class SetDetection:
    """What a set of detectors saw.

    Attributes:
        failed: whether any detector failed the replica, (R,) bool.
        parts: what each detector saw, in order.
    """

    failed: Tensor
    parts: tuple[Detection, ...]

    @cached_property
    def detector(self) -> Tensor:
        """Index of the first detector that failed the replica, -1 if none, (R,) int64."""
        failed = torch.stack([part.failed for part in self.parts])
        return torch.where(self.failed, failed.to(torch.int64).argmax(dim=0), -1)

    @property
    def value(self) -> Tensor:
        """Value of that detector, NaN if none failed, (R,) float64."""
        values = torch.stack([part.value for part in self.parts])
        chosen = values.gather(0, self.detector.clamp(min=0)[None])[0]
        return torch.where(self.failed, chosen, torch.nan)

    @property
    def where(self) -> Tensor:
        """Place that detector points at, -1 if none failed, (R,) int64."""
        places = torch.stack([part.where for part in self.parts])
        chosen = places.gather(0, self.detector.clamp(min=0)[None])[0]
        return torch.where(self.failed, chosen, -1)


class DetectorSet:
    """Runs detectors in order; the first that fails a replica gives the reason.

    Nothing here waits for the device: only reading the result does.

    Args:
        detectors: at least one detector.

    Raises:
        ConfigError: no detector was given.
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        if not detectors:
            raise ConfigError(
                "no stability detector was given; give at least 'nonfinite', or a replica that "
                "fails would go on as NaN"
            )
        self.detectors = tuple(detectors)
        self.needs = frozenset().union(*(d.needs for d in self.detectors))
        self.has_memory = any(d.has_memory for d in self.detectors)

    @property
    def thresholds(self) -> list[str]:
        """What counts as a failure, one line per number with its origin."""
        return [f"{d.reason}: {threshold}" for d in self.detectors for threshold in d.thresholds]

    def for_run(self) -> DetectorSet:
        """The set that one run uses, without memory of others."""
        return DetectorSet([d.for_run() for d in self.detectors])

    def keep(self, going_on: Tensor) -> None:
        """Forget the replicas that do not go on, (R,) bool."""
        for detector in self.detectors:
            detector.keep(going_on)

    def detect(
        self,
        positions: Tensor,
        momenta: Tensor,
        energies: Tensor,
        cells: Tensor | None = None,
        **further: Tensor,
    ) -> SetDetection:
        """Test R replicas.

        Args:
            positions: (R, N, 3) Å.
            momenta: (R, N, 3) internal units.
            energies: (R,) eV.
            cells: (R, 3, 3) Å.
            further: what ``needs`` names.
        """
        parts = tuple(
            d.detect(positions, momenta, energies, cells, **{k: further[k] for k in d.needs})
            for d in self.detectors
        )
        failed = parts[0].failed
        for part in parts[1:]:
            failed = failed | part.failed
        return SetDetection(failed=failed, parts=parts)

    def explain(self, detection: SetDetection, replicas: Sequence[int]) -> list[tuple[str, str]]:
        """Reason and sentence for each of the failed ``replicas`` of a detection."""
        detector, value, where = (
            t.tolist() for t in (detection.detector, detection.value, detection.where)
        )
        return [
            (
                self.detectors[detector[r]].reason,
                self.detectors[detector[r]].describe(where[r], value[r]),
            )
            for r in replicas
        ]
