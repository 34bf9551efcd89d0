"""What a command shows: what is being done and why, progress with time left, tables."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from stablemd.workflows.reporter import Reporter

QUIET_SECONDS = 30.0
"""Time between lines about pretraining where the output is not a terminal."""


class ConsoleReporter(Reporter):
    """Shows a workflow on a terminal, or as lines in a file."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console()
        self._progress: Progress | None = None
        self._part: TaskID | None = None
        self._whole: TaskID | None = None
        self._last_share = 0.0
        self._last_line = 0.0

    def begin(self, title: str, why: str = "") -> None:
        self.end()
        self.console.print()
        self._line(Text(title, style="bold"))
        if why:
            self._line(Text(why, style="dim"))
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self._progress.start()

    def progress(self, text: str, share: float, overall: float | None = None) -> None:
        if self._progress is None:
            return
        if self._part is None:
            self._part = self._progress.add_task(text, total=1.0)
        elif share < self._last_share:
            self._progress.reset(self._part)
        self._last_share = share
        self._progress.update(self._part, completed=share, description=text)
        if overall is not None:
            if self._whole is None:
                self._whole = self._progress.add_task("all, at most", total=1.0)
            self._progress.update(self._whole, completed=overall)

    def record(self, record: Mapping[str, Any]) -> None:
        line = describe_record(record)
        if record.get("phase") == "pretrain":
            now = time.monotonic()
            if self.console.is_terminal or now - self._last_line < QUIET_SECONDS:
                return
            self._last_line = now
        self._line(Text(line))

    def note(self, text: str) -> None:
        self._line(Text(text))

    def _line(self, text: Text) -> None:
        # A file or a pipe gets whole lines.
        self.console.print(text, soft_wrap=not self.console.is_terminal)

    def end(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = self._part = self._whole = None
        self._last_share = 0.0

    def __enter__(self) -> ConsoleReporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def facts(self, title: str, facts: Mapping[str, str]) -> None:
        """A table of names and values."""
        table = Table(title=Text(title, style="bold"), title_justify="left", show_header=False)
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in facts.items():
            table.add_row(Text(name), Text(value))
        self.console.print(table)

    def evaluation(self, metrics: Mapping[str, Any]) -> None:
        """The table and the headline of an evaluation's metrics.json."""
        from stablemd.evaluation.report_text import headline, table
        from stablemd.workflows.evaluate import PURPOSES

        parts = {role: metrics[role] for role in PURPOSES if role in metrics}
        roles, rows = table(parts)
        shown = Table(show_edge=False, pad_edge=False)
        shown.add_column("")
        for role in roles:
            shown.add_column(role, justify="right")
        for row in rows:
            name = f"{row.name} ({row.unit})" if row.unit else row.name
            cells = ["\n".join(part for part in cell if part) for cell in row.cells]
            shown.add_row(Text(name), *(Text(cell) for cell in cells))
        self.console.print()
        self.console.print(shown)
        self.console.print()
        for sentence in headline(parts):
            self._line(Text(sentence, style="bold"))

    def files(self, files: Mapping[str, object]) -> None:
        """Where results are."""
        self.console.print()
        width = max(len(name) for name in files)
        for name, path in files.items():
            line = Text.assemble((f"{name:<{width}}  ", "cyan"), str(path))
            self.console.print(line, soft_wrap=True)


def describe_record(record: Mapping[str, Any]) -> str:
    """One line about a record of the log."""
    mae = f"force MAE {record['force_mae_ev_per_angstrom']:.4f} eV/Å"
    phase = record["phase"]
    if phase == "pretrain":
        return (
            f"epoch {record['epoch']}: {mae}, energy MAE {record['energy_mae_ev']:.4f} eV, "
            f"best epoch {record['best_epoch']}, learning rate {record['learning_rate']:.1e}"
        )
    failed = f"{100.0 * record['failed_fraction']:.0f} % of replicas failed"
    if phase == "simulate":
        at = f" at {record['state_point']}" if "state_point" in record else ""
        return (
            f"cycle {record['cycle']}, simulation{at}: {failed} in "
            f"{record['replica_time_ps']:.1f} ps together; {mae}"
        )
    parts = [
        f"{100.0 * part['failed_fraction']:.0f} % at {name}"
        for name, part in record.get("points", {}).items()
        if part["failed_fraction"] is not None
    ]
    if parts:
        failed = " and ".join(parts) + " failed"
    steps = record.get("steps") or []
    loss = f", observable loss {steps[0]['observable_loss']:.3g}" if steps else ""
    end = f"; {record['end_of_phase']}" if record.get("end_of_phase") else ""
    return (
        f"cycle {record['cycle']}, epoch {record['epoch']}: {failed} in the window, "
        f"{len(steps)} steps{loss}; {mae}{end}"
    )
