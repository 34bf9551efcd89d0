"""A log with one JSON object per line, which survives an interruption while it is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stablemd.atomic import write_atomic
from stablemd.errors import CheckpointError
from stablemd.strict_json import dumps


class JsonlLog:
    """Records that are appended one at a time and can be read back at any moment.

    A process that is killed while writing leaves half a line at the end.  Reading
    ignores it, and the first append of the next process removes it.

    Args:
        path: the file; it is created by the first append.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._end_is_whole = False

    def append(self, record: Mapping[str, object]) -> None:
        """Write one record as one line, flushed to the operating system.

        Values that JSON can't hold (NaN, infinities) are stored as null.
        """
        line = dumps(record) + "\n"
        if not self._end_is_whole:
            self._remove_half_line()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()

    def read(self) -> list[dict[str, Any]]:
        """All whole records in order; an absent file has none.

        Raises:
            CheckpointError: a line in the middle is not a JSON object.
        """
        return [self._parse(i, line) for i, line in enumerate(self._whole_lines())]

    def truncate(self, n_records: int) -> None:
        """Keep the first ``n_records``, so that a resumed run does not log steps twice.

        Raises:
            CheckpointError: the log has fewer records than the checkpoint knows of.
        """
        lines = self._whole_lines()
        if len(lines) < n_records:
            raise CheckpointError(
                f"{self.path} has {len(lines)} records, but the checkpoint was taken after "
                f"{n_records}; the log was shortened or belongs to another run, so start "
                "again in another directory"
            )
        write_atomic(self.path, b"".join(lines[:n_records]))
        self._end_is_whole = True

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Keep the records that are wanted, so that a part of a run can be done again.

        Raises:
            CheckpointError: a line in the middle is not a JSON object.
        """
        if self.path.exists():
            pairs = zip(self._whole_lines(), self.read(), strict=True)
            write_atomic(self.path, b"".join(line for line, record in pairs if wanted(record)))
            self._end_is_whole = True

    def __len__(self) -> int:
        return len(self._whole_lines())

    def _whole_lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        return [s for s in self.path.read_bytes().splitlines(keepends=True) if s.endswith(b"\n")]

    def _remove_half_line(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            whole = sum(len(line) for line in self._whole_lines())
            os.truncate(self.path, whole)
        self._end_is_whole = True

    def _parse(self, index: int, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise self._damaged(index) from error
        if not isinstance(record, dict):
            raise self._damaged(index)
        return record

    def _damaged(self, index: int) -> CheckpointError:
        return CheckpointError(
            f"{self.path}, line {index + 1} is not a JSON object; the file was edited or "
            "damaged: remove that line, or start again in another directory"
        )
