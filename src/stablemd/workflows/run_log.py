"""The log of one command: a file, TensorBoard where it is installed, and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from stablemd.rundir import RunDirectory
from stablemd.stages import Stage
from stablemd.tensorboard_log import TensorBoardLog, tensorboard_is_installed
from stablemd.workflows.reporter import Reporter


class RunLog:
    """Appends the records of a stage; use it as a context manager.

    Args:
        directory: the run directory.
        stage: named in every record.
        reporter: told of every record.
    """

    def __init__(self, directory: RunDirectory, stage: Stage, reporter: Reporter) -> None:
        self._log = directory.log
        self._stage = stage
        self._reporter = reporter
        self._n_records = len(stage_records(directory, stage))
        self._tensorboard: TensorBoardLog | None = None
        if tensorboard_is_installed():
            self._tensorboard = TensorBoardLog(
                directory.tensorboard / stage.name, purge_step=self._n_records or None
            )

    def append(self, record: Mapping[str, Any]) -> None:
        """Log one record."""
        self._log.append({"stage": self._stage.name, **record})
        if self._tensorboard is not None:
            self._tensorboard.append(record, self._n_records)
        self._n_records += 1
        self._reporter.record(record)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()


def stage_records(directory: RunDirectory, stage: Stage) -> list[dict[str, Any]]:
    """Records of one stage in the log, in order."""
    return [r for r in directory.log.read() if r.get("stage") == stage.name]
