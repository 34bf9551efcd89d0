"""The scalars of the run's log for TensorBoard, where that is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from stablemd.errors import MissingDependencyError
from stablemd.strict_json import plain

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def tensorboard_is_installed() -> bool:
    """Whether a ``TensorBoardLog`` can be made."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoardLog:
    """Mirrors log records as scalars; the JSON-lines log stays the record of truth.

    Use it as a context manager, or call ``close``.

    Args:
        directory: where the event files go, usually the run directory's ``tensorboard``.
        purge_step: on resume, the first step that will be logged again; what an
            interrupted run logged from there on is hidden.

    Raises:
        MissingDependencyError: tensorboard is not installed.
    """

    def __init__(self, directory: str | Path, *, purge_step: int | None = None) -> None:
        if not tensorboard_is_installed():
            raise MissingDependencyError(
                "tensorboard is not installed; install it with: pip install 'stablemd[tensorboard]'"
            )
        from torch.utils.tensorboard import SummaryWriter

        self._writer: SummaryWriter = SummaryWriter(str(directory), purge_step=purge_step)

    def append(self, record: Mapping[str, object], step: int) -> None:
        """Write every finite number of a record; nested keys are joined with ``/``."""
        for name, value in scalars(record):
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def scalars(record: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Names and values of the finite numbers in a record; lists and text have none."""
    for key, value in plain(record).items():
        name = f"{prefix}/{key}" if prefix else key
        if isinstance(value, dict):
            yield from scalars(value, name)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, float(value)
