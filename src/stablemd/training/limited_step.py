"""An optimizer's step, taken as far as every state point allows."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stablemd.estimators.step_limit import largest_share
from stablemd.potentials.base import SamplingForm
from stablemd.training.epoch_frames import EpochFrames
from stablemd.training.label_errors import LabelErrors
from stablemd.training.point_objective import PointObjective

SHRINK_FACTORS = (1.0, 0.5, 0.25, 0.125, 0.0625)
"""Shares of a proposed step that are tried until the limits allow one."""

RATE_GROWTH, RATE_CUT = 1.3, 0.6
"""How the step size follows: after a step that was taken whole, and after one that was cut."""

REJECTED_CUT = 0.25

RATE_SCALE_RANGE = (0.02, 10.0)
"""The upper end matters where no limit binds: N_eff can't see regions without frames."""

Sampled = tuple[PointObjective, EpochFrames]
"""A state point that sampled, and its frames."""


class LimitedStep:
    """Shrinks a proposed step, and in the end rejects it, until all limits are kept.

    The validation errors of every state point stay within its budget, and the frames of
    every point that sampled keep their effective sample size.

    Args:
        points: all state points.
        parameters: what is trained.
        optimizer: proposes the steps.
        max_n_eff_loss: how much of N_eff/N a step may cost.
    """

    def __init__(
        self,
        points: Sequence[PointObjective],
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        max_n_eff_loss: float,
    ) -> None:
        self._points = points
        self._parameters = parameters
        self._optimizer = optimizer
        self._max_n_eff_loss = max_n_eff_loss
        self.rate_scale = 1.0

    def take(self, sampled: Sequence[Sampled]) -> tuple[float, list[SamplingForm]]:
        """Take the optimizer's step as far as the limits allow.

        Args:
            sampled: points with frames; their energies and all points' errors follow.

        Returns:
            The share taken, and every point's sampling form at the new parameters; of a
            rejected step 0 and no forms.
        """
        before = [p.detach().clone() for p in self._parameters]
        memory = copy.deepcopy(self._optimizer.state_dict())
        self._optimizer.step()
        proposed = [
            self.rate_scale * (p.detach() - b)
            for p, b in zip(self._parameters, before, strict=True)
        ]
        floors = [p.n_eff_share(e, e.energies) - self._max_n_eff_loss for p, e in sampled]
        usage_before = [point.budget_used for point in self._points]
        allowed = 1.0
        for share in SHRINK_FACTORS:
            if share > allowed:
                continue
            self._put([start + share * p for start, p in zip(before, proposed, strict=True)])
            forms, errors = self._within_budgets(usage_before)
            if errors is None:
                continue
            form_of = dict(zip(map(id, self._points), forms, strict=True))
            energies = [p.energies_of(e, form_of[id(p)]) for p, e in sampled]
            if not _margin(sampled, floors, energies) >= 0.0:
                allowed = _share_on_paper(sampled, floors, energies, share)
                continue
            for point, found in zip(self._points, errors, strict=True):
                point.errors = found
            for (_, epoch), new in zip(sampled, energies, strict=True):
                epoch.energies = new
            self._follow(RATE_GROWTH if share == 1.0 else max(share, RATE_CUT))
            return share, forms
        self._put(before)
        self._optimizer.load_state_dict(memory)  # a rejected step leaves no momentum
        self._follow(REJECTED_CUT)
        return 0.0, []

    def _within_budgets(
        self, usage_before: Sequence[float]
    ) -> tuple[list[SamplingForm], list[LabelErrors] | None]:
        """Sampling forms and errors of all points; no errors once one is over its budget."""
        forms, errors = [], []
        for point, before in zip(self._points, usage_before, strict=True):
            forms.append(point.sampling_form())
            errors.append(point.errors_of(forms[-1]))
            # A model that is over its budget already may only come closer to it.
            if point.budget.usage(errors[-1]) > max(1.0, before * (1.0 - 1e-9)):
                return forms, None
        return forms, errors

    def _follow(self, factor: float) -> None:
        low, high = RATE_SCALE_RANGE
        self.rate_scale = min(max(self.rate_scale * factor, low), high)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            parameter.copy_(value)


def _margin(
    sampled: Sequence[Sampled], floors: Sequence[float], energies: Sequence[Tensor]
) -> float:
    """What is left to the floor of the effective share, where it is least; NaN below any."""
    margins = [
        point.n_eff_share(epoch, at) - floor
        for (point, epoch), floor, at in zip(sampled, floors, energies, strict=True)
    ]
    return min(margins) if all(m == m for m in margins) else float("nan")


def _share_on_paper(
    sampled: Sequence[Sampled], floors: Sequence[float], energies: list[Tensor], tried: float
) -> float:
    """The largest smaller share that is allowed if energies change in proportion to it."""
    present = [epoch.energies for _, epoch in sampled]
    changes = [(new - old) / tried for new, old in zip(energies, present, strict=True)]
    if not all(bool(change.isfinite().all()) for change in changes):
        return 0.5 * tried  # a step this long says nothing about shorter ones
    return largest_share(
        (share for share in SHRINK_FACTORS if share < tried),
        present,
        changes,
        lambda moved: _margin(sampled, floors, moved),
    )
