"""A CUDA graph's semantics without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stablemd.potentials import device_graph

Work = Callable[[], None]


class RecordedWork(TorchDispatchMode):
    """Keeps every operation with its very tensors, as a graph keeps kernels and addresses.

    A replay calls no Python of the recorded work: what was decided or computed
    on the host while recording stays as it was.
    """

    def __init__(self) -> None:
        super().__init__()
        self._entries: list[Callable[[], object]] = []
        self._in_kernel = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self._in_kernel:
            assert func is not torch.ops.aten._local_scalar_dense.default, "a number was asked for"

            def again() -> None:
                repeated = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(repeated), strict=True):
                    if isinstance(old, Tensor) and not _same_memory(old, new):
                        old.copy_(new)

            self._entries.append(again)
        return result

    @contextmanager
    def kernel(self, start: Callable[[], object]) -> Iterator[None]:
        """Record a kernel that is no operation of PyTorch."""
        self._entries.append(start)
        self._in_kernel = True
        yield
        self._in_kernel = False

    def replay(self) -> None:
        for entry in self._entries:
            entry()


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


class Recorder:
    """Stands in for ``device_graph.record``."""

    def __init__(self) -> None:
        self.recorded: list[RecordedWork] = []
        self.n_replays = 0
        self._now: RecordedWork | None = None

    def __call__(self, work: Work, device: torch.device) -> Work:
        for _ in range(device_graph.WARM_UPS):
            work()
        recording = RecordedWork()
        self._now = recording
        with recording:
            work()
        self._now = None
        self.recorded.append(recording)

        def replay() -> None:
            self.n_replays += 1
            recording.replay()

        return replay

    def launching(self, launch: Callable[..., None]) -> Callable[..., None]:
        """A launcher of kernels that is recorded too."""

        def recorded(*arguments: Any, **constants: Any) -> None:
            if self._now is None:
                launch(*arguments, **constants)
                return
            with self._now.kernel(lambda: launch(*arguments, **constants)):
                launch(*arguments, **constants)

        return recorded


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
