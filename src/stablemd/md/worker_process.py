"""A worker process: runs the replicas it is sent, for as long as its parent lives."""

from __future__ import annotations

import logging
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

from stablemd.errors import SimulationError
from stablemd.md.integrators import Integrator
from stablemd.md.result import SimulationResult
from stablemd.md.state import State
from stablemd.md.worker_messages import Packed, pack, receive, send, unpack
from stablemd.potentials.base import SamplingForm
from stablemd.stability.base import Detector
from stablemd.stability.detector_set import DetectorSet
from stablemd.system import System

PROGRESS_S = 0.1
"""Shortest time between two reports of progress."""


@dataclass(frozen=True)
class Surroundings:
    """What numbers may depend on apart from the job: PyTorch's settings of the parent."""

    torch_threads: int
    default_dtype: torch.dtype
    matmul_precision: str

    @classmethod
    def here(cls) -> Surroundings:
        """Those of this process."""
        return cls(
            torch.get_num_threads(),
            torch.get_default_dtype(),
            torch.get_float32_matmul_precision(),
        )

    def apply(self) -> None:
        """Make them those of this process."""
        if torch.get_num_threads() != self.torch_threads:
            torch.set_num_threads(self.torch_threads)
        torch.set_default_dtype(self.default_dtype)
        torch.set_float32_matmul_precision(self.matmul_precision)


@dataclass(frozen=True)
class Job:
    """One share of a simulation.

    Attributes:
        state: the share's replicas.
        integrator: the dynamics.
        detectors: what counts as a failure.
        system: the atoms.
        options: further arguments of ``simulate``.
        block_size: replicas evaluated together.
        threads: that share the replicas within the process.
        surroundings: PyTorch's settings.
    """

    state: State
    integrator: Integrator
    detectors: DetectorSet | list[Detector]
    system: System
    options: dict[str, Any]
    block_size: int
    threads: int
    surroundings: Surroundings

    def run(self, form: SamplingForm, on_progress: Any) -> SimulationResult:
        """The result of the share with a form."""
        from stablemd.md.sharding import run_in_threads

        self.surroundings.apply()
        return run_in_threads(
            form,
            self.state,
            self.integrator,
            self.detectors,
            self.system,
            block_size=self.block_size,
            threads=self.threads,
            on_progress=on_progress,
            **self.options,
        )


def main() -> None:
    """Answer the requests that come through standard input until it is closed."""
    # An interrupt is for the parent, which ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests: BinaryIO = os.fdopen(os.dup(0), "rb")
    answers = _Answers(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what is printed must not come between the messages
    sys.stdin = open(os.devnull)  # noqa: SIM115
    logger = logging.getLogger("stablemd")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(_ToParent(answers))
    inbox: queue.SimpleQueue[Packed] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests, inbox), daemon=True).start()
    answers.put("ready")
    form: SamplingForm | None = None
    while True:
        request = inbox.get()
        try:
            kind, content = unpack(request)
            if kind == "form":
                form = content
                answers.put("form")
            else:
                assert form is not None
                result = content.run(form, _Progress(answers))
                answers.put("result", (result, time.process_time()))
        except Exception as error:
            answers.put_error(error)


def _read_requests(requests: BinaryIO, inbox: queue.SimpleQueue[Packed]) -> None:
    """Pass requests on; end the process, whatever it is doing, when the parent has ended."""
    while True:
        try:
            inbox.put(receive(requests))
        except EOFError:
            os._exit(0)


class _Answers:
    """Messages to the parent, one at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def put(self, kind: str, content: object = None) -> None:
        packed = pack((kind, content))
        with self._lock:
            send(self._stream, packed)

    def put_error(self, error: Exception) -> None:
        try:
            packed = pack(("error", error))
            unpack(packed)
        except Exception:
            packed = pack(("error", SimulationError(f"{type(error).__name__}: {error}")))
        with self._lock:
            send(self._stream, packed)


class _Progress:
    """Reports at most every ``PROGRESS_S``, and whenever a replica has failed."""

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers
        self._last = (0.0, -1)

    def __call__(self, step: int, n_running: int) -> None:
        now = time.monotonic()
        if now - self._last[0] >= PROGRESS_S or n_running != self._last[1]:
            self._last = (now, n_running)
            self._answers.put("progress", (step, n_running))


class _ToParent(logging.Handler):
    """Hands the log over."""

    def __init__(self, answers: _Answers) -> None:
        super().__init__(logging.INFO)
        self._answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        self._answers.put("log", (record.name, record.levelno, record.getMessage()))


if __name__ == "__main__":
    main()
