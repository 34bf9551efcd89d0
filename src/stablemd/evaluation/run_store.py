"""What an evaluation's simulation has come to, kept on disk while it runs."""

from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from stablemd.errors import CheckpointError
from stablemd.md import RecordedFrames
from stablemd.md.long_run import LongRun
from stablemd.training.checkpoint import load_checkpoint, save_checkpoint

KIND = "simulation of an evaluation"
FRAMES_KIND = "frames of an evaluation"
SAVE_EVERY_S = 30.0
"""Wall time between two savings at least."""


class RunStore:
    """A folder with a simulation's state and the frames that it has recorded.

    Frames go into a new file each time, so that saving costs what is new.

    Args:
        folder: made when something is saved.
        model: what the run depends on beside its settings, as a check sum.
    """

    def __init__(self, folder: Path, *, model: str) -> None:
        self._folder = folder
        self._model = model
        self._saved_at = time.perf_counter()
        self._n_parts = 0
        self._new: list[RecordedFrames] = []

    def load(self, device: torch.device) -> tuple[LongRun, list[RecordedFrames], float] | None:
        """The run, its frames and the seconds it took; None if nothing was saved.

        Raises:
            CheckpointError: a file is missing or damaged, or the run is another model's.
        """
        path = self._folder / "run.pt"
        if not path.is_file():
            return None
        saved = load_checkpoint(path, kind=KIND)
        if saved["model"] != self._model:
            raise CheckpointError(
                f"{path} was made with another model than the one that is evaluated now; give "
                "that model, begin anew with --overwrite, or give another folder with --out"
            )
        self._n_parts = saved["n_parts"]
        frames = [self._frames(k, device) for k in range(self._n_parts)]
        return LongRun.from_payload(saved["run"], device), frames, float(saved["wall_s"])

    def add(self, run: LongRun, frames: RecordedFrames, wall_s: float, *, at_end: bool) -> None:
        """Take the state after a window and the window's frames; save if it is time, or the end."""
        self._new.append(frames)
        now = time.perf_counter()
        if not at_end and now - self._saved_at < SAVE_EVERY_S:
            return
        part = RecordedFrames.concatenate(self._new)
        content = {f.name: getattr(part, f.name) for f in fields(part)}
        save_checkpoint(self._part(self._n_parts), content, kind=FRAMES_KIND)
        self._n_parts += 1
        state = {
            "model": self._model,
            "n_parts": self._n_parts,
            "run": run.payload(),
            "wall_s": wall_s,
        }
        # Last: a part that it does not count is written again.
        save_checkpoint(self._folder / "run.pt", state, kind=KIND)
        self._new = []
        self._saved_at = time.perf_counter()

    def _frames(self, k: int, device: torch.device) -> RecordedFrames:
        saved: dict[str, Any] = load_checkpoint(self._part(k), kind=FRAMES_KIND)
        moved: dict[str, Any] = {
            name: None if value is None else value.to(device) for name, value in saved.items()
        }
        return RecordedFrames(**moved)

    def _part(self, k: int) -> Path:
        return self._folder / f"frames_{k:05d}.pt"
