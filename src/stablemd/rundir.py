"""The folder that holds everything about one run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from stablemd.atomic import write_atomic
from stablemd.errors import CheckpointError, ConfigError
from stablemd.jsonl import JsonlLog
from stablemd.strict_json import plain, write_json
from stablemd.versions import collect_versions


class RunDirectory:
    """Paths, log and metadata of one run::

        config.yaml      the resolved configuration
        versions.json    versions of everything, hardware, git commit
        status.json      running or finished, and since when
        log.jsonl        one JSON object per epoch or evaluation
        metrics.json     the final numbers
        report.html      the final page
        checkpoints/     whole-run checkpoints and the best model
        trajectories/    recorded frames
        tensorboard/     event files, where tensorboard is installed

    Making the object touches no file; ``start`` creates the folder.  Every file is
    written atomically, and JSON holds no NaN (it becomes null).

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.log = JsonlLog(self.path / "log.jsonl")

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def versions_path(self) -> Path:
        return self.path / "versions.json"

    @property
    def status_path(self) -> Path:
        return self.path / "status.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.json"

    @property
    def report_path(self) -> Path:
        return self.path / "report.html"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def trajectories(self) -> Path:
        return self.path / "trajectories"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    def checkpoint(self, name: str) -> Path:
        """Path of a checkpoint by name, e.g. ``"last"`` -> ``checkpoints/last.pt``."""
        return self.checkpoints / f"{name}.pt"

    @property
    def is_run(self) -> bool:
        """Whether a run was started here."""
        return self.config_path.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether the run that was started here came to its end."""
        return self._read_json(self.status_path).get("state") == "finished"

    def start(
        self,
        config: Mapping[str, object],
        *,
        resume: bool = False,
        overwrite: bool = False,
        may_change: Collection[str] = (),
    ) -> bool:
        """Begin a run, or continue the one that is here.

        Args:
            config: the resolved configuration, nested plain values.
            resume: continue an earlier run, if there is one, with the same configuration.
            overwrite: remove what an earlier run left (its own files only) and begin anew.
            may_change: dotted keys that may differ on resume, e.g. ``"device"``; a key
                covers everything under it.

        Returns:
            True if an earlier run is continued.

        Raises:
            ConfigError: both flags are set; an earlier run is here and neither flag is;
                files that no run can explain are in the way; or the configuration of a
                resumed run changed.
        """
        if resume and overwrite:
            raise ConfigError(
                "resume and overwrite are both set; resume continues an earlier run and "
                "overwrite removes it, so give one of them"
            )
        values = plain(config)
        if self.is_run and resume:
            self._require_same_config(values, may_change)
            self._write_status("running", started=self._read_json(self.status_path).get("started"))
            return True
        self._require_free(overwrite=overwrite)
        for folder in (self.checkpoints, self.trajectories):
            folder.mkdir(parents=True, exist_ok=True)
        write_json(self.versions_path, collect_versions())
        self._write_status("running", started=_now())
        # Last, because this file is what makes the folder a run.
        write_atomic(self.config_path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        return False

    def finish(self) -> None:
        """Record that the run came to its end."""
        self._write_status("finished", started=self._read_json(self.status_path).get("started"))

    def read_config(self) -> dict[str, Any]:
        """The resolved configuration of the run that is here.

        Raises:
            CheckpointError: no run was started here, or the file is damaged.
        """
        if not self.is_run:
            raise CheckpointError(
                f"{self.path} is not a run directory (it has no config.yaml); give the --out "
                "folder of an earlier run"
            )
        try:
            config = yaml.safe_load(self.config_path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise CheckpointError(f"{self.config_path} is not valid YAML: {error}") from error
        if not isinstance(config, dict):
            raise CheckpointError(
                f"{self.config_path} holds {type(config).__name__}, expected keys and values; "
                "start the run again with --overwrite"
            )
        return config

    def write_metrics(self, metrics: Mapping[str, object]) -> Path:
        """Write ``metrics.json``; returns its path."""
        return write_json(self.metrics_path, metrics)

    def read_metrics(self) -> dict[str, Any]:
        """Content of ``metrics.json``; empty if the run has not written it yet."""
        return self._read_json(self.metrics_path)

    def read_versions(self) -> dict[str, Any]:
        """Content of ``versions.json``; empty if it is absent."""
        return self._read_json(self.versions_path)

    def write_report(self, html: str) -> Path:
        """Write ``report.html``; returns its path."""
        return write_atomic(self.report_path, html)

    @property
    def _own(self) -> tuple[Path, ...]:
        """What a run may leave, in the order of removal.

        The configuration goes last: an interrupted removal can then be repeated.
        """
        return (
            self.status_path,
            self.checkpoints,
            self.trajectories,
            self.tensorboard,
            self.report_path,
            self.metrics_path,
            self.log.path,
            self.versions_path,
            self.config_path,
        )

    def _require_free(self, *, overwrite: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; give a folder for the results with --out")
        present = [p for p in self._own if p.exists()]
        if not present:
            return
        if self.is_run and not overwrite:
            state = "a finished" if self.is_finished else "an unfinished"
            raise ConfigError(
                f"{self.path} already holds {state} run; continue it with --resume, replace it "
                "with --overwrite, or give another folder with --out"
            )
        names = ", ".join(p.name for p in present)
        if not self.is_run and any(not _is_leftover(p) for p in present):
            raise ConfigError(
                f"{self.path} has {names} but no config.yaml, so these are not known to be "
                "results of a run and are left alone; give another folder with --out"
            )
        for path in present:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _require_same_config(self, new: dict[str, Any], may_change: Collection[str]) -> None:
        old_flat, new_flat = _flatten(self.read_config()), _flatten(new)
        absent = object()
        changed = [
            f"{key}: {old_flat.get(key, '(absent)')!r} -> {new_flat.get(key, '(absent)')!r}"
            for key in sorted({*old_flat, *new_flat})
            if old_flat.get(key, absent) != new_flat.get(key, absent)
            and not any(key == k or key.startswith(f"{k}.") for k in may_change)
        ]
        if changed:
            raise ConfigError(
                f"the run in {self.path} was started with another configuration "
                f"({'; '.join(changed)}); resume with the same one, or start anew with "
                "--overwrite or another --out"
            )

    def _write_status(self, state: str, *, started: object) -> None:
        write_json(self.status_path, {"state": state, "started": started, "updated": _now()})

    def _read_json(self, path: Path) -> dict[str, Any]:
        if not path.is_file():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{path} is not valid JSON ({error}); remove it") from error
        return content if isinstance(content, dict) else {}


def _flatten(values: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(values, Mapping) or not values:
        return {prefix: values}
    flat: dict[str, object] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _is_leftover(path: Path) -> bool:
    """Whether ``start`` itself makes this before the marker, so that it may go."""
    if path.is_dir():
        return not any(path.iterdir())
    return path.name in {"versions.json", "status.json"}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
