"""Worker processes that stay, each of which runs a share of the replicas."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from stablemd.errors import SimulationError
from stablemd.md.result import SimulationResult
from stablemd.md.worker_messages import Packed, pack, receive, send, unpack
from stablemd.md.worker_process import Job
from stablemd.potentials.base import SamplingForm

logger = logging.getLogger(__name__)

Report = Callable[[int, int], None]

COMMAND = "from stablemd.md.worker_process import main; main()"


class NotTransferableError(Exception):
    """A form or another part of the job can't be sent to another process; the text says why."""


class WorkerLostError(Exception):
    """A worker has ended without an answer; the text says how."""


class Worker:
    """One process, started at once and waited for at the first request."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        }
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            environment.setdefault(name, "1")
        # A plain process, not multiprocessing's: that would run the user's script again.
        self._process = subprocess.Popen(
            [sys.executable, "-c", COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._ready = False
        self._form: Packed | None = None
        self.cpu_s = 0.0

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def run(self, form: Packed, job: Packed, report: Report) -> SimulationResult:
        """The result of a job; the form is sent where it is not the one that is there.

        Raises:
            NotTransferableError: the process can't read the form.
            WorkerLostError: the process has ended.
            Exception: what the job raised there.
        """
        if not self._ready:
            self._answer("ready", report)
            self._ready = True
        if form != self._form:
            self._form = None
            self._send(form)
            try:
                self._answer("form", report)
            except WorkerLostError:
                raise
            except Exception as error:
                raise NotTransferableError(f"{type(error).__name__}: {error}") from error
            self._form = form
        self._send(job)
        result: SimulationResult
        result, cpu_s = self._answer("result", report)
        self.cpu_s = cpu_s
        return result

    def end(self) -> None:
        """End the process at once, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _send(self, message: Packed) -> None:
        assert self._process.stdin is not None
        try:
            send(self._process.stdin, message)  # type: ignore[arg-type]
        except (OSError, ValueError) as error:
            raise self._lost() from error

    def _answer(self, wanted: str, report: Report) -> Any:
        assert self._process.stdout is not None
        while True:
            try:
                kind, content = unpack(receive(self._process.stdout))  # type: ignore[arg-type]
            except (OSError, EOFError, ValueError) as error:
                raise self._lost() from error
            if kind == wanted:
                return content
            if kind == "error":
                raise content
            if kind == "log":
                name, level, text = content
                logging.getLogger(name).log(level, "worker %d: %s", self.process_id, text)
            elif kind == "progress":
                report(*content)

    def _lost(self) -> WorkerLostError:
        try:
            code = self._process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            return WorkerLostError("it closed its pipe")
        if code == -9:
            return WorkerLostError("it was killed (signal 9), as systems do when memory runs out")
        return WorkerLostError(f"signal {-code}" if code < 0 else f"exit status {code}")


class WorkerPool:
    """As many workers as were asked for so far; they end with this process."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._ended_cpu_s = 0.0

    @property
    def n_running(self) -> int:
        """Workers that are there."""
        return sum(worker.is_running for worker in self._workers) if self._is_own else 0

    @property
    def cpu_s(self) -> float:
        """Processor time of all workers for jobs they have finished, in s."""
        return self._ended_cpu_s + sum(worker.cpu_s for worker in self._workers)

    @property
    def _is_own(self) -> bool:
        return self._owner == os.getpid()  # not so in a process that was forked from it

    def prepare(self, n: int) -> None:
        """Start what is missing of ``n`` workers; does not wait for them."""
        if not self._is_own:
            self._workers, self._owner, self._lock = [], os.getpid(), threading.Lock()
        for worker in [w for w in self._workers if not w.is_running]:
            self._drop(worker)
        self._workers += [Worker() for _ in range(n - len(self._workers))]

    def run(
        self, form: SamplingForm, jobs: Sequence[Job], reports: Sequence[Report]
    ) -> list[SimulationResult]:
        """The results of jobs, one a worker.

        A job whose worker has ended, for want of memory perhaps, is run once more in a
        fresh worker after the others are done, which then have finished theirs.

        Raises:
            NotTransferableError: the form or a job can't be sent; nothing was computed.
            SimulationError: a job's worker ended twice.
            Exception: what a job raised; all workers are ended.
        """
        try:
            packed_form = pack(("form", form.for_thread()))
            packed = [pack(("job", job)) for job in jobs]
        except Exception as error:
            raise NotTransferableError(f"{type(error).__name__}: {error}") from error
        with self._lock:
            self.prepare(len(jobs))
            try:
                return self._run(packed_form, packed, reports)
            except NotTransferableError:
                raise
            except BaseException:
                self._end()
                raise

    def _run(
        self, form: Packed, jobs: Sequence[Packed], reports: Sequence[Report]
    ) -> list[SimulationResult]:
        lost: dict[int, WorkerLostError] = {}

        def run(k: int) -> SimulationResult | None:
            try:
                return self._workers[k].run(form, jobs[k], reports[k])
            except WorkerLostError as error:
                lost[k] = error
                return None

        with ThreadPoolExecutor(len(jobs)) as pool:
            futures = [pool.submit(run, k) for k in range(len(jobs))]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()  # raises what ended it
                results = [future.result() for future in futures]
            except NotTransferableError:
                raise
            except BaseException:
                self._end()  # so that the threads that read from them end as well
                raise
        return [
            self._again(form, jobs[k], reports[k], lost[k]) if result is None else result
            for k, result in enumerate(results)
        ]

    def _again(
        self, form: Packed, job: Packed, report: Report, first: WorkerLostError
    ) -> SimulationResult:
        logger.warning(
            "a worker process ended: %s; its replicas are run once more, in a fresh one and "
            "while the others wait",
            first,
        )
        for worker in [w for w in self._workers if not w.is_running]:
            self._drop(worker)
        worker = Worker()
        self._workers.append(worker)
        try:
            return worker.run(form, job, report)
        except WorkerLostError as second:
            raise SimulationError(
                f"a worker process ended while it ran its replicas: {first}; a fresh one did "
                f"too: {second}; use fewer replicas, a smaller model, or processes: 1"
            ) from second

    def _drop(self, worker: Worker) -> None:
        self._ended_cpu_s += worker.cpu_s
        worker.end()
        self._workers.remove(worker)

    def end(self) -> None:
        """End all workers; the next run starts new ones."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._is_own:
            for worker in list(self._workers):
                self._drop(worker)


POOL = WorkerPool()
"""The workers of this process."""

atexit.register(POOL.end)
