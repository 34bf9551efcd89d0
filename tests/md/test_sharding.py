"""A simulation on several threads gives the same bits as on one."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from torch import Tensor

from stablemd.errors import ConfigError, SimulationError
from stablemd.md import initial_state, make_integrator, placement, sharding, simulate
from stablemd.md.joint_progress import JointProgress
from stablemd.md.result import SimulationResult
from stablemd.potentials.base import SamplingForm
from stablemd.stability import make_detectors
from stablemd.system import System


class LeakyWell(SamplingForm):
    """Harmonic wells around the origin that push an atom away for good beyond 0.28 Å."""

    replica_independent = True

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        forces = torch.where(positions.abs() > 0.28, 30.0 * positions, -2.0 * positions)
        return positions.square().sum(dim=(1, 2)), forces


def run(threads: int, integrator: str, form: SamplingForm | None = None) -> SimulationResult:
    system = System.create([6, 6, 1], bonds=[(0, 1)], bond_lengths=[0.0])
    form = form or LeakyWell()
    state = initial_state(
        system, torch.zeros(9, 3, 3, dtype=torch.float64), form, temperature_k=400.0, seed=5
    )
    state = state.scatter(torch.tensor([4]), state.select(torch.tensor([4])))
    state.alive[4] = False
    sharding.set_threads(threads)
    return simulate(
        form,
        state,
        make_integrator(integrator, dt_fs=1.0, temperature_k=400.0),
        make_detectors({"nonfinite": {}, "bond_length": {"threshold": 0.8}}, system),
        system,
        n_steps=400,
        seed=5,
        record_every=7,
        rewind_steps=30,
    )


@pytest.mark.parametrize("integrator", ["langevin", "nose_hoover"])
def test_the_number_of_threads_changes_no_bit(integrator: str, monkeypatch) -> None:
    monkeypatch.setattr(placement.os, "cpu_count", lambda: 4)
    one, three = run(1, integrator), run(3, integrator)
    assert 0 < one.n_failed < 8
    assert torch.equal(one.failed_step, three.failed_step)
    assert one.reasons == three.reasons
    assert one.details == three.details
    for name in ("positions", "momenta", "forces", "energies", "alive", "replica_ids"):
        assert torch.equal(getattr(one.state, name), getattr(three.state, name)), name
        assert one.rewind_state is not None
        assert three.rewind_state is not None
        if name != "alive":
            first, second = getattr(one.rewind_state, name), getattr(three.rewind_state, name)
            assert torch.equal(first, second), name
    for name, value in one.state.thermostat.items():
        others = three.state.thermostat[name]
        assert torch.equal(value[one.state.alive], others[one.state.alive]), name
    for name in ("positions", "energies", "replica", "step"):
        assert torch.equal(getattr(one.frames, name), getattr(three.frames, name)), name
    assert one.state.step == three.state.step


def test_an_error_in_one_thread_reaches_the_caller(monkeypatch) -> None:
    monkeypatch.setattr(placement.os, "cpu_count", lambda: 4)

    class Broken(LeakyWell):
        calls = 0

        def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
            type(self).calls += 1
            if type(self).calls > 20:
                raise SimulationError("the potential gave up")
            return super().__call__(positions)

    with pytest.raises(SimulationError, match="gave up"):
        run(3, "langevin", Broken())


def test_an_error_in_one_thread_ends_the_others(monkeypatch) -> None:
    monkeypatch.setattr(placement.os, "cpu_count", lambda: 4)

    class Slow(LeakyWell):
        """The second thread's form breaks at once; the others would take 4 s."""

        made = 0
        calls = 0
        breaks = False

        def for_thread(self) -> Slow:
            form = Slow()
            form.breaks = Slow.made == 1
            Slow.made += 1
            return form

        def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
            if self.breaks:
                raise SimulationError("the potential gave up")
            if Slow.made:
                Slow.calls += 1
                time.sleep(0.01)
            return super().__call__(positions)

    with pytest.raises(SimulationError, match="gave up"):
        run(3, "langevin", Slow())
    assert Slow.calls < 2 * 100  # of 400 steps in each of two threads


def test_progress_is_that_of_the_slowest_thread_that_still_runs() -> None:
    seen: list[tuple[int, int]] = []
    progress = JointProgress(
        [3, 2], lambda step, running: seen.append((step, running)), threading.Event()
    )
    first, second = progress.of(0), progress.of(1)
    first(10, 3)  # the second has not begun
    second(20, 2)
    second(30, 0)  # all of its replicas have failed, so it ends here
    first(40, 3)
    first(50, 0)
    assert seen == [(0, 5), (10, 5), (10, 3), (40, 3), (50, 0)]


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(ConfigError, match="threads is 100000"):
        sharding.set_threads(100_000)


def test_errors_name_the_replicas_of_the_whole_run(monkeypatch) -> None:
    monkeypatch.setattr(placement.os, "cpu_count", lambda: 4)
    sharding.set_threads(3)
    system, form = System.create([6]), LeakyWell()
    positions = torch.zeros(9, 1, 3, dtype=torch.float64)
    state = initial_state(system, positions, form, temperature_k=300.0, seed=0)
    state.energies[7] = torch.nan
    integrator = make_integrator("nve", dt_fs=1.0, temperature_k=300.0)
    detectors = make_detectors({"nonfinite": {}}, system)
    with pytest.raises(SimulationError, match=r"1 of 9 .*replicas: \[7\]"):
        simulate(form, state, integrator, detectors, system, n_steps=5, seed=0)


def test_energies_of_frames_do_not_depend_on_the_threads(monkeypatch) -> None:
    monkeypatch.setattr(placement.os, "cpu_count", lambda: 4)
    positions = torch.randn(100, 3, 3, generator=torch.Generator().manual_seed(1)).double()
    form = LeakyWell()
    sharding.set_threads(3)
    assert torch.equal(sharding.energies(form, positions), form.energies(positions))
    assert torch.equal(sharding.energies(form, positions[:5]), form.energies(positions[:5]))
