"""How much accuracy on reference data the stability may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from stablemd.training.label_errors import LabelErrors


@dataclass(frozen=True)
class ErrorBudget:
    """Upper bounds on validation errors, as multiples of the errors at the start.

    Attributes:
        start: validation errors of the model before training.
        force_factor: the force MAE may grow by this factor; None: no bound.
        energy_factor: the same for the energy MAE.
    """

    start: LabelErrors
    force_factor: float | None
    energy_factor: float | None

    def usage(self, errors: LabelErrors) -> float:
        """Share of the allowed growth that is used up: 0 at the start, 1 at the bound.

        The larger of the two where both errors are bounded; 0 without a bound.
        """
        shares = [0.0]
        if self.force_factor is not None:
            shares.append(
                _share(
                    errors.force_mae_ev_per_angstrom,
                    self.start.force_mae_ev_per_angstrom,
                    self.force_factor,
                )
            )
        if self.energy_factor is not None:
            shares.append(
                _share(errors.energy_mae_ev, self.start.energy_mae_ev, self.energy_factor)
            )
        return max(shares)

    def allows(self, errors: LabelErrors) -> bool:
        """Whether the errors are within every bound."""
        return self.usage(errors) <= 1.0


def _share(value: float, start: float, factor: float) -> float:
    allowed_growth = (factor - 1.0) * start
    growth = value - start
    if not math.isfinite(growth):
        return float("inf")  # a comparison with NaN would pass for "within the budget"
    if growth <= 0.0:
        return 0.0
    return growth / allowed_growth if allowed_growth > 0.0 else float("inf")
