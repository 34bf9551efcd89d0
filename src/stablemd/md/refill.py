"""Times to failure with replicas that follow each other in a slot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.errors import SimulationError
from stablemd.md.initial import initial_state
from stablemd.md.integrators import Integrator
from stablemd.md.sharding import simulate
from stablemd.md.state import State
from stablemd.potentials.base import SamplingForm
from stablemd.stability.base import Detector
from stablemd.stability.detector_set import DetectorSet
from stablemd.system import System

Starts = Callable[[Tensor], Tensor]
"""Replica identities (F,) int64 -> start positions (F, N, 3) in Å."""


@dataclass(frozen=True)
class FailureTimes:
    """What replicas in refilled slots lived to.

    Attributes:
        steps: steps that each replica ran, to its failure or to the end, (M,) int64.
        failed: whether it failed; otherwise its time is a lower bound, (M,) bool.
        slot: where it ran, (M,) int64.
        begin: step of its slot at which it started, (M,) int64.
        details: one sentence per failure, None for the others.
    """

    steps: Tensor
    failed: Tensor
    slot: Tensor
    begin: Tensor
    details: list[str | None]

    @property
    def failures_per_step(self) -> float:
        """Failures over all steps: the rate, if it does not depend on a replica's age."""
        return float(self.failed.sum()) / float(self.steps.sum())


def failure_times(
    form: SamplingForm,
    starts: Starts,
    integrator: Integrator,
    detectors: DetectorSet | Sequence[Detector],
    system: System,
    *,
    n_slots: int,
    n_steps: int,
    temperature_k: float,
    seed: int,
    refill_every: int = 1000,
    check_every: int = 10,
    on_progress: Callable[[int, int], None] | None = None,
) -> FailureTimes:
    """Run ``n_slots`` replicas for ``n_steps`` steps, and a fresh one wherever one has failed.

    No step is spent on an empty slot for longer than ``refill_every``, so a
    potential that fails early gives many more failures for the same cost.

    When a replica starts depends only on those before it in its slot, which are
    independent of it, so the end of the run cuts its life short at a time that
    says nothing about that life: estimates for censored data (Kaplan-Meier,
    failures over total time) stay valid.  Two things would not be: the plain
    mean of the times of replicas that failed (short lives fit in more often),
    and averages of an observable over all frames (there are more young
    replicas).  Use refilling for times to failure only.

    Args:
        form: evaluator of energies and forces.
        starts: start positions of replicas by their identity, independent
            draws from the same distribution for all.
        integrator: the dynamics.
        detectors: what counts as a failure.
        system: the atoms.
        n_slots: replicas that run at a time.
        n_steps: steps of each slot.
        temperature_k: temperature of the start momenta in K.
        seed: seed of the random streams; every replica has streams of its own.
        refill_every: steps between two fillings; empty slots wait for the next.
        check_every: steps between checks.
        on_progress: called after every filling interval with the steps done and
            the replicas started so far.

    Raises:
        SimulationError: a number is out of range, or a start is not finite.
    """
    if n_slots < 1 or refill_every < 1 or n_steps < 1:
        raise SimulationError(
            "n_slots, refill_every and n_steps must be at least 1, got "
            f"{n_slots}, {refill_every} and {n_steps}"
        )

    def fresh(first: int, count: int, step: int) -> State:
        identities = torch.arange(first, first + count)
        state = initial_state(
            system,
            starts(identities),
            form,
            temperature_k=temperature_k,
            seed=seed,
            replica_ids=identities,
            step=step,
        )
        return integrator.init(state, system, seed)

    state = fresh(0, n_slots, 0)
    replica = torch.arange(n_slots)
    slots, begins = list(range(n_slots)), [0] * n_slots
    lives, failed = [n_steps] * n_slots, [False] * n_slots
    details: list[str | None] = [None] * n_slots
    done = 0
    while done < n_steps:
        size = min(refill_every, n_steps - done)
        result = simulate(
            form,
            state,
            integrator,
            detectors,
            system,
            n_steps=size,
            seed=seed,
            check_every=check_every,
        )
        for slot in torch.nonzero(result.failed).flatten().tolist():
            r = int(replica[slot])
            lives[r] = done + int(result.failed_step[slot]) - begins[r]
            failed[r], details[r] = True, result.details[slot]
        done += size
        state = result.state
        empty = torch.nonzero(~state.alive).flatten()
        if len(empty) and done < n_steps:
            first = len(slots)
            state = state.scatter(empty, fresh(first, len(empty), state.step))
            replica[empty] = torch.arange(first, first + len(empty))
            slots += empty.tolist()
            begins += [done] * len(empty)
            lives += [n_steps - done] * len(empty)
            failed += [False] * len(empty)
            details += [None] * len(empty)
        if on_progress is not None:
            on_progress(done, len(slots))
    return FailureTimes(
        steps=torch.tensor(lives),
        failed=torch.tensor(failed),
        slot=torch.tensor(slots),
        begin=torch.tensor(begins),
        details=details,
    )
