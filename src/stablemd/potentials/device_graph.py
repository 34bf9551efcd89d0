"""Work on fixed buffers of a GPU, recorded once and started again as a whole.

Starting one small kernel from Python takes longer than the kernel runs.  A CUDA
graph holds a sequence of kernels with their arguments and is started with one
call.  What is recorded may read and write buffers that stay where they are,
and may not ask the device for a number or decide anything from one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

logger = logging.getLogger(__name__)

Work = Callable[[], None]

WARM_UPS = 3
"""Calls before recording, in which kernels are compiled and libraries set themselves up."""

_enabled = True


def set_cuda_graphs(enabled: bool) -> None:
    """Whether work on a GPU is recorded as a graph (at the start of a process: yes)."""
    global _enabled
    _enabled = enabled


def get_cuda_graphs() -> bool:
    """What ``set_cuda_graphs`` set."""
    return _enabled


def record(work: Work, device: torch.device) -> Work | None:
    """A recording of ``work`` that does the same when it is called.

    Args:
        work: works on buffers that stay where they are.  It is called a few times
            here, so the buffers are filled afterwards; the caller keeps them alive.
        device: of the buffers.

    Returns:
        None where ``work`` itself is to be called: elsewhere than on a GPU, where
        graphs are switched off, or where recording fails, with the reason logged.
    """
    if device.type != "cuda":
        return None
    if not _enabled:
        logger.info("kernels are started one by one: CUDA graphs are switched off")
        return None
    try:
        return _record(work, device)
    except RuntimeError as error:
        logger.warning("kernels are started one by one, since no graph was recorded: %s", error)
        return None


def _record(work: Work, device: torch.device) -> Work:
    with torch.cuda.device(device):
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
    replay: Work = graph.replay
    return replay
