"""How a workflow tells what it is doing, to a terminal or to nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Reporter:
    """Does nothing; the command line overrides what it shows."""

    def begin(self, title: str, why: str = "") -> None:
        """A part begins; ``why`` says in plain words what it is for."""

    def progress(self, text: str, share: float, overall: float | None = None) -> None:
        """Something is going on.

        Args:
            text: what.
            share: part of it that is done, 0 to 1.
            overall: part of everything that may still come, at most, 0 to 1.
        """

    def record(self, record: Mapping[str, Any]) -> None:
        """A record was logged."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def end(self) -> None:
        """The part is over."""


SILENT = Reporter()
"""For callers that want no messages."""
