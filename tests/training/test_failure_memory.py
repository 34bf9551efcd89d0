from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import pytest
import torch

import stablemd.training.point_dynamics
from stablemd.md import State, simulate
from stablemd.training.checkpoint import load_checkpoint, save_checkpoint
from stablemd.training.failure_memory import FailureMemory
from stablemd.training.stable import train_stable

CPU = torch.device("cpu")


def failures(*marks: float) -> State:
    """One replica for every mark, which is its first coordinate."""
    positions = torch.zeros(len(marks), 2, 3, dtype=torch.float64)
    positions[:, 0, 0] = torch.tensor(marks, dtype=torch.float64)
    return State(
        positions=positions,
        momenta=2.0 * positions,
        forces=3.0 * positions,
        energies=positions[:, 0, 0],
        replica_ids=torch.arange(len(marks)),
        step=7,
        alive=torch.ones(len(marks), dtype=torch.bool),
    )


def marks(memory: FailureMemory) -> list[float]:
    return [] if memory.states is None else memory.states.positions[:, 0, 0].tolist()


@pytest.mark.parametrize("capacity", [0, 1, 3, 9])
def test_the_newest_failures_are_kept(capacity: int) -> None:
    memory = FailureMemory(capacity)
    assert memory.states is None
    memory.add(failures(1.0, 2.0))
    assert marks(memory) == [1.0, 2.0][:capacity]
    memory.add(failures())
    memory.add(failures(3.0))
    assert marks(memory) == [3.0, 1.0, 2.0][:capacity]


def test_a_checkpoint_holds_it(tmp_path: Path) -> None:
    memory, other = FailureMemory(4), FailureMemory(4)
    memory.add(failures(1.0, 2.0, 3.0))
    file = save_checkpoint(tmp_path / "m.pt", {"memory": memory.payload()}, kind="memory")
    other.restore(load_checkpoint(file, kind="memory")["memory"], CPU)
    for each in (memory, other):
        each.add(failures(4.0, 5.0))
    assert marks(other) == marks(memory) == [4.0, 5.0, 1.0, 2.0]
    smaller = FailureMemory(2)
    smaller.restore(memory.payload(), CPU)
    assert marks(smaller) == [4.0, 5.0]
    other.restore(FailureMemory(4).payload(), CPU)
    assert other.states is None


@pytest.mark.parametrize("capacity", [0, 5])
def test_learning_phases_start_near_earlier_failures_too(
    toy, monkeypatch: pytest.MonkeyPatch, capacity: int
) -> None:
    """Every phase finds failures, since thermal motion counts as one."""
    found: list[torch.Tensor] = []
    starts: list[torch.Tensor] = []

    def watched(form, state, *args, **options):
        result = simulate(form, state, *args, **options)
        if options.get("rewind_steps"):
            found.append(result.rewind_state.positions[result.failed])
        else:
            starts.append(state.positions)
        return result

    monkeypatch.setattr(stablemd.training.point_dynamics, "simulate", watched)
    dynamics = toy.settings().dynamics.model_copy(update={"bond_threshold": 0.2})
    settings = toy.settings(
        dynamics=dynamics, n_replicas=12, learning_replicas=48, max_windows=1, max_cycles=3,
        max_learning_epochs=1, remembered_failures=capacity, failing_share=1.0,
    )  # fmt: skip
    train_stable(toy.model(), toy.system, toy.train, toy.validation, toy.reference, settings)
    assert len(starts) == 3 and all(len(f) for f in found)
    remembered = found[0][:0]
    for new, start in zip(found, starts, strict=False):
        copied = (start[:, None] == remembered[None]).flatten(2).all(dim=2).any(dim=0)
        assert len(remembered) == len(copied) and bool(copied.all())
        assert bool((start[:, None] == new[None]).flatten(2).all(dim=2).any(dim=0).all())
        remembered = torch.cat([new, remembered])[:capacity]


@pytest.mark.parametrize("enough", [None, 1, 5])
def test_a_phase_ends_in_the_window_that_completes_enough_failures(
    toy, monkeypatch: pytest.MonkeyPatch, enough: int | None
) -> None:
    windows: list[int] = []  # failed replicas of each window of the present phase
    phases: list[list[int]] = []

    def watched(form, state, *args, **options):
        result = simulate(form, state, *args, **options)
        if options.get("rewind_steps"):
            windows.append(result.n_failed)
        return result

    def end_of_phase(record) -> None:
        if record["phase"] == "simulate":
            phases.append(windows.copy())
            windows.clear()

    monkeypatch.setattr(stablemd.training.point_dynamics, "simulate", watched)
    settings = toy.settings(
        simulation_steps=25, max_windows=8, max_failed=1.0, max_cycles=3, max_learning_epochs=1,
        remembered_failures=4, enough_failures=enough, learning_rate=1e-6,
    )  # fmt: skip
    train_stable(
        toy.model(), toy.system, toy.train, toy.validation, toy.reference, settings,
        on_record=end_of_phase,
    )  # fmt: skip
    remembered = 0
    for phase in phases:
        failed = list(accumulate(phase))
        done = [n > 0 and enough is not None and n + remembered >= enough for n in failed]
        assert not any(done[:-1])
        assert done[-1] or len(phase) == 8
        remembered = min(4, remembered + failed[-1])
    assert remembered == 4 and any(len(phase) < 8 for phase in phases) == (enough is not None)
