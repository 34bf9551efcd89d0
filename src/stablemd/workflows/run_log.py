"""The log of one command: a file, TensorBoard where it is installed, and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
            at = record.get("state_point")
            self._tensorboard.append({at: record} if at else record, self._n_records)
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


def point_records(records: Iterable[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """A training's records as those of one of its state points, in order.

    Simulation phases of other points are left out; learning epochs and their steps have the
    point's own numbers in the place of those of all points.  Records of a training with a
    single state point stay as they are.
    """
    return [
        _at_point(record, name) for record in records if record.get("state_point", name) == name
    ]


def _at_point(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    own = {**record, **record.get("points", {}).get(name, {})}
    if "steps" in own:
        own["steps"] = [{**s, **(s.get("points") or {}).get(name, {})} for s in own["steps"]]
    return own
