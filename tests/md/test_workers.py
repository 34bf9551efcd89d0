"""A simulation in several worker processes gives the same bits as in one."""

from __future__ import annotations

import copy
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from stablemd.errors import ConfigError, SimulationError
from stablemd.md import initial_state, make_integrator, placement, sharding, worker_choice
from stablemd.md.result import SimulationResult
from stablemd.md.worker_messages import pack, unpack
from stablemd.md.worker_pool import POOL, WorkerPool
from stablemd.md.worker_process import Job, Surroundings
from stablemd.potentials import Potential, SamplingForm, make_potential
from stablemd.potentials.base import EagerSampling
from stablemd.potentials.function import FunctionPotential
from stablemd.stability import make_detectors
from stablemd.system import System

N_REPLICAS = 144


@pytest.fixture(autouse=True, scope="module")
def _workers_find_this_file() -> Iterator[None]:
    """Workers find this file as a module, and end with it."""
    POOL.end()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(os.path.dirname(__file__))
        patch.setattr(Fatal, "__module__", "test_workers")
        if "test_workers" not in sys.modules:
            patch.setitem(sys.modules, "test_workers", sys.modules[__name__])
        yield
    POOL.end()


@pytest.fixture
def four_cores(monkeypatch) -> None:
    monkeypatch.setattr(placement.os, "cpu_count", lambda: 4)


def gemnet() -> Potential:
    torch.manual_seed(1)
    potential = make_potential("gemnet_t", preset="small", n_blocks=1, n_edge=16, cutoff=2.5)
    return potential.double()  # in float32 it has a compiled form, which threads can share


def run(
    form: SamplingForm,
    ethanol: System,
    processes: int | None,
    threads: int | None,
    n_steps: int = 6,
    **options,
) -> SimulationResult:
    sharding.set_placement(1, 1)
    generator = torch.Generator().manual_seed(4)
    from ase.build import molecule

    base = torch.from_numpy(molecule("CH3CH2OH").positions)
    noise = torch.randn(N_REPLICAS, 9, 3, generator=generator, dtype=torch.float64)
    start = base + 0.03 * noise
    state = initial_state(ethanol, start, form, temperature_k=300.0, seed=2)
    state.momenta[[3, 17, 139]] *= 30.0  # these fail
    state.alive[5] = False
    sharding.set_placement(processes, threads)
    return sharding.simulate(
        form,
        state,
        make_integrator("nose_hoover", dt_fs=0.5, temperature_k=300.0, tau_fs=50.0),
        make_detectors({"nonfinite": {}, "temperature": {"max_temperature_k": 9000.0}}, ethanol),
        ethanol,
        n_steps=n_steps,
        seed=2,
        check_every=2,
        record_every=2,
        record_momenta=True,
        rewind_steps=4,
        **options,
    )


def assert_same(one: SimulationResult, other: SimulationResult) -> None:
    assert one.details == other.details
    assert torch.equal(one.failed_step, other.failed_step)
    for name in ("positions", "momenta", "energies", "replica", "step"):
        assert torch.equal(getattr(one.frames, name), getattr(other.frames, name)), name
    for state, second in (
        (one.state, other.state),
        (one.rewind_state, other.rewind_state),
    ):
        assert state is not None
        assert second is not None
        assert state.step == second.step
        for name in ("positions", "momenta", "forces", "energies"):
            assert torch.equal(getattr(state, name), getattr(second, name)), name
        for name, value in state.thermostat.items():
            alive = one.state.alive
            assert torch.equal(value[alive], second.thermostat[name][alive]), name


@pytest.mark.usefixtures("four_cores")
def test_no_number_of_processes_and_threads_changes_a_bit(ethanol: System) -> None:
    # Its sums round differently with another number of replicas in a call.
    torch.manual_seed(1)
    schnet = make_potential("schnet", n_features=16, n_filters=16, n_interactions=1)
    form = EagerSampling(schnet, ethanol)
    assert form.holds_gil and form.block_size(N_REPLICAS) == 36
    one = run(form, ethanol, 1, 1)
    assert one.failed_step.tolist().count(0) == 3
    for processes, threads in ((1, 3), (2, 1), (2, 2)):
        assert_same(one, run(form, ethanol, processes, threads))


@pytest.mark.usefixtures("four_cores")
def test_a_form_whose_replicas_are_independent_runs_in_processes_too(ethanol: System) -> None:
    torch.manual_seed(0)
    schnet = make_potential("schnet", n_features=16, n_filters=16, n_interactions=1)
    form = schnet.for_sampling(ethanol)
    assert form.replica_independent
    assert_same(run(form, ethanol, 1, 1), run(form, ethanol, 2, 1))


def test_blocks_are_independent_of_the_placement_and_hold_every_replica() -> None:
    from stablemd.md.blocks import shares_of_blocks

    alive = torch.ones(23, dtype=torch.bool)
    alive[4:8] = False  # a whole block
    for n in (1, 2, 3, 9):
        shares = shares_of_blocks(alive, 4, n)
        assert len(shares) == min(n, 5)
        everyone = torch.cat(shares).sort().values
        assert everyone.tolist() == [r for r in range(23) if not 4 <= r < 8]
        for share in shares:
            begins = share[::4]
            assert (begins % 4 == 0).all()


def test_a_worker_takes_new_parameters_and_is_sent_no_others(ethanol: System, monkeypatch) -> None:
    sent = []
    from stablemd.md import worker_pool

    real = worker_pool.send

    def counting(stream, packed) -> None:
        sent.append(unpack(packed)[0])
        real(stream, packed)

    monkeypatch.setattr(worker_pool, "send", counting)
    potential = gemnet()
    for scale in (1.0, 1.0, 1.1):
        with torch.no_grad():
            for parameter in potential.parameters():
                parameter.mul_(scale)
        form = potential.for_sampling(ethanol)
        assert_same(run(form, ethanol, 1, 1, n_steps=2), run(form, ethanol, 2, 1, n_steps=2))
    assert sorted(sent) == ["form"] * 4 + ["job"] * 6  # two workers, two sets of parameters


def test_what_another_process_cannot_have_runs_in_threads(ethanol: System, caplog) -> None:
    secret = threading.Lock()  # can be neither pickled nor copied

    def stiff(batch) -> Tensor:
        assert secret is not None
        return 2.0 * (batch.positions**2).sum(dim=1)

    form = FunctionPotential(stiff, cutoff=3.0).for_sampling(ethanol)
    one = run(form, ethanol, 1, 1)
    with caplog.at_level(logging.WARNING, logger="stablemd.md.sharding"):
        two = run(form, ethanol, 2, 1)
    assert "not shared among processes" in caplog.text
    assert_same(one, two)


def test_progress_of_workers_is_that_of_one_simulation(ethanol: System) -> None:
    seen: list[tuple[int, int]] = []
    form = gemnet().for_sampling(ethanol)
    run(form, ethanol, 2, 1, on_progress=lambda step, running: seen.append((step, running)))
    steps = [step for step, _ in seen]
    assert steps == sorted(steps)
    assert seen[-1][1] == N_REPLICAS - 4  # one was not running, three failed


class Fatal(SamplingForm):
    """Harmonic wells; ends its process in a worker, for good or while a file is there."""

    replica_independent = True
    holds_gil = True

    def __init__(self, parent: int, path: str | None, error: bool = False) -> None:
        self.parent, self.path, self.error = parent, path, error

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if os.getpid() != self.parent:
            if self.error:
                raise SimulationError("the potential gave up")
            if self.path is None:
                os.kill(os.getpid(), signal.SIGKILL)
            elif os.path.exists(self.path):
                os.remove(self.path)
                os.kill(os.getpid(), signal.SIGKILL)
        return positions.square().sum(dim=(1, 2)), -2.0 * positions


def test_a_worker_that_dies_costs_its_share_once_more(ethanol: System, tmp_path, caplog) -> None:
    path = tmp_path / "alive"
    form = Fatal(os.getpid(), str(path))
    one = run(form, ethanol, 1, 1)
    path.write_text("")
    with caplog.at_level(logging.WARNING, logger="stablemd.md.worker_pool"):
        two = run(form, ethanol, 2, 1)
    assert "killed (signal 9)" in caplog.text
    assert_same(one, two)


def test_an_error_in_a_worker_reaches_the_caller(ethanol: System) -> None:
    with pytest.raises(SimulationError, match="the potential gave up"):
        run(Fatal(os.getpid(), None, error=True), ethanol, 2, 1)
    assert POOL.n_running == 0


def test_a_worker_that_dies_twice_is_a_clear_error() -> None:
    pool = WorkerPool()
    form, job = endless(None)
    with pytest.raises(SimulationError, match=r"killed \(signal 9\).*processes: 1"):
        pool.run(form, [job], [lambda step, running: None])
    assert pool.n_running == 0


@pytest.mark.usefixtures("four_cores")
def test_an_automatic_placement_starts_processes_for_long_runs_alone(
    ethanol: System, monkeypatch
) -> None:
    monkeypatch.setattr(placement, "available_cores", lambda: 2)
    monkeypatch.setattr(worker_choice, "_spent_s", 0.0)
    form = gemnet().for_sampling(ethanol)
    asked: list[int] = []
    monkeypatch.setattr(WorkerPool, "n_running", 0)
    monkeypatch.setattr(POOL, "run", lambda form, jobs, reports: asked.append(len(jobs)))
    monkeypatch.setattr(sharding, "join_results", lambda state, shares, results: results)
    assert isinstance(run(form, ethanol, None, None), SimulationResult)
    assert asked == []
    run(form, ethanol, None, None, n_steps=1_000_000)
    assert asked == [2]
    # Threads that were asked for stay threads.
    assert isinstance(run(form, ethanol, None, 1), SimulationResult)


def test_messages_keep_every_kind_of_tensor() -> None:
    shared = torch.arange(6.0)
    model = torch.nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    message = {
        "shared": [shared, shared],
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "empty": torch.zeros(0, 3, dtype=torch.float64),
        "scalar": torch.tensor(2),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "model": model,
    }
    back = unpack(pack(message))
    assert back["shared"][0] is back["shared"][1]
    for name in ("transposed", "empty", "scalar", "half", "flags"):
        assert torch.equal(back[name], message[name]), name
        assert back[name].dtype == message[name].dtype
        assert back[name].stride() == message[name].stride()
    assert [p.requires_grad for p in back["model"].parameters()] == [False, True]
    assert torch.equal(back["model"].weight, model.weight)
    back["shared"][0][0] = 5.0
    assert shared[0] == 0.0
    assert pack(model) == pack(copy.deepcopy(model))  # so that a model is not sent again


SCRIPT = """
import sys, torch
from stablemd.md import worker_pool
pool = worker_pool.POOL
pool.prepare(1)
print(*[w.process_id for w in pool._workers], flush=True)
sys.stdin.readline()
"""


def test_workers_end_with_their_parent_however_it_ends() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    workers = [int(text) for text in parent.stdout.readline().split()]
    assert len(workers) == 1
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 20.0
    while any(_exists(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.05)


def _exists(process_id: int) -> bool:
    try:
        with open(f"/proc/{process_id}/stat") as file:
            return file.read().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def endless(path: str | None) -> tuple[Fatal, Job]:
    """A job of a single atom that would take hours."""
    system = System.create([6])
    form = Fatal(os.getpid(), path)
    positions = torch.zeros(4, 1, 3, dtype=torch.float64)
    state = initial_state(system, positions, form, temperature_k=300.0, seed=0)
    integrator = make_integrator("nve", dt_fs=1.0, temperature_k=300.0)
    options = {"n_steps": 10**9, "seed": 0, "check_every": 1}
    detectors = make_detectors({"nonfinite": {}}, system)
    job = Job(state, integrator, detectors, system, options, 1, 1, Surroundings.here())
    return form, job


def test_an_interrupt_ends_the_workers() -> None:
    pool = WorkerPool()

    def interrupted(step: int, n_running: int) -> None:
        raise KeyboardInterrupt

    form, job = endless("")
    with pytest.raises(KeyboardInterrupt):
        pool.run(form, [job], [interrupted])
    assert pool.n_running == 0


def test_more_processes_and_threads_than_cores_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(placement.os, "cpu_count", lambda: 4)
    with pytest.raises(ConfigError, match="processes is 5"):
        sharding.set_placement(5, 1)
    with pytest.raises(ConfigError, match="processes × threads is 2 × 3"):
        sharding.set_placement(2, 3)
