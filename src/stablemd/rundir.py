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
from stablemd.stages import PRETRAIN, SIMULATE, STAGES, TRAIN, Stage, files_of, model_files
from stablemd.strict_json import plain, write_json
from stablemd.versions import collect_versions

OWN_METRICS_KEY = (PRETRAIN.name, TRAIN.name)
"""Stages whose numbers stand under their own key of metrics.json."""


class RunDirectory:
    """Paths, log and metadata of one run::

        config.yaml      the resolved configuration
        versions.json    versions of everything, hardware, git commit
        status.json      which commands ran here, whether they finished, and when
        log.jsonl        one JSON object per epoch or phase
        pretrained.pt    the model after pretraining
        start.pt, stable.pt, control.pt    the models of StABlE Training; models of other
                         packages keep their suffix, e.g. stable.model
        metrics.json     the numbers of the evaluation
        report.html      the page of the evaluation; report.json: its content
        checkpoints/     whole-run checkpoints; simulations of an unfinished evaluation
        trajectories/    recorded frames
        tensorboard/     event files, where tensorboard is installed
        at/              evaluations at further state points, each a folder of this kind

    Making the object touches no file; ``start`` creates the folder.  Every file is
    written atomically, and JSON holds no NaN (it becomes null).  Several commands
    (stages) share the folder; the configuration is that of all of them.

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
    def report_data_path(self) -> Path:
        return self.path / "report.json"

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
        """Path of a checkpoint by name, e.g. ``"stable"`` -> ``checkpoints/stable.pt``."""
        return self.checkpoints / f"{name}.pt"

    def model(self, name: str) -> Path:
        """Path of a model by name, e.g. ``"pretrained"`` -> ``pretrained.pt``.

        The one that is there, whose suffix says its format; this package's if there is none.
        """
        found = [path for n in model_files(name) if (path := self.path / n).is_file()]
        return found[0] if found else self.path / f"{name}.pt"

    def new_model(self, name: str, suffix: str) -> Path:
        """Where a model of a format goes; files of the same name in others are removed."""
        target = self.path / f"{name}{suffix}"
        for other in model_files(name):
            if other != target.name:
                (self.path / other).unlink(missing_ok=True)
        return target

    @property
    def is_run(self) -> bool:
        """Whether a run was started here."""
        return self.config_path.is_file()

    def stages(self) -> dict[str, dict[str, Any]]:
        """What ran here: stage -> ``state`` (running or finished), ``started``, ``updated``."""
        found = self._read_json(self.status_path).get("stages", {}) if self.is_run else {}
        return {name: status for name, status in found.items() if name in STAGES}

    def is_finished(self, stage: Stage) -> bool:
        """Whether a stage came to its end here."""
        return self.stages().get(stage.name, {}).get("state") == "finished"

    def start(
        self,
        config: Mapping[str, object],
        stage: Stage,
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> bool:
        """Begin a stage, or continue it.

        Args:
            config: the resolved configuration, nested plain values.
            stage: which command this is.
            resume: continue the stage, if it was started here.
            overwrite: remove what the stage and those that follow from it left
                (their own files only) and begin it anew.

        Returns:
            True if an earlier stage is continued.

        Raises:
            ConfigError: both flags are set; the stage ran here and neither flag is;
                files that no run can explain are in the way; the folder is another
                stage's alone; or the configuration differs from that of a stage
                whose results stay, in a key that they depend on.
        """
        if resume and overwrite:
            raise ConfigError(
                "resume and overwrite are both set; resume continues an earlier run and "
                "overwrite removes it, so give one of them"
            )
        values = plain(config)
        self._require_known_files()
        present = self.stages()
        self._require_room(stage, present)
        continued = resume and stage.name in present
        if stage.name in present and not (resume or overwrite):
            raise self._occupied(stage, present)
        removed = {stage.name, *stage.followers} & set(present) if overwrite else set()
        for name in sorted(set(present) - removed):
            self._require_same_config(values, STAGES[name])
        if removed:
            self._remove([STAGES[name] for name in removed])
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.versions_path, collect_versions())
        self._write_status(stage, "running", fresh=not continued)
        # Last, because this file is what makes the folder a run.
        write_atomic(self.config_path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        return continued

    def finish(self, stage: Stage) -> None:
        """Record that a stage came to its end."""
        self._write_status(stage, "finished", fresh=False)

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
                "start the run again in another folder"
            )
        return config

    def write_metrics(self, metrics: Mapping[str, object], stage: Stage) -> Path:
        """Write a stage's part of ``metrics.json``, leaving the others'; returns the path.

        Pretraining and training have one key each; all other keys are the evaluation's.
        """
        own = {stage.name: dict(metrics)} if stage.name in OWN_METRICS_KEY else dict(metrics)
        return write_json(self.metrics_path, {**own, **self._metrics_without(stage)})

    def read_metrics(self) -> dict[str, Any]:
        """Content of ``metrics.json``; empty if the run has not written it yet."""
        return self._read_json(self.metrics_path)

    def read_versions(self) -> dict[str, Any]:
        """Content of ``versions.json``; empty if it is absent."""
        return self._read_json(self.versions_path)

    def _require_known_files(self) -> None:
        """Refuse a folder with files of a run's names that no run put there."""
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"{self.path} is a file; give a folder for the results with --out")
        if self.is_run:
            return
        names = [n for stage in STAGES.values() for n in files_of(stage)]
        present = [n for n in dict.fromkeys(names) if (self.path / n).exists()]
        # start itself makes these two before the configuration.
        unknown = [n for n in present if n not in ("versions.json", "status.json")]
        if unknown:
            raise ConfigError(
                f"{self.path} has {', '.join(unknown)} but no config.yaml, so these are not known "
                "to be results of a run and are left alone; give another folder with --out"
            )

    def _require_room(self, stage: Stage, present: Mapping[str, Any]) -> None:
        others = [STAGES[name] for name in present if name != stage.name]
        if others and (stage.exclusive or any(other.exclusive for other in others)):
            names = ", ".join(other.name for other in others)
            raise ConfigError(
                f"{self.path} holds results of {names}, and {stage.name} can't share its folder; "
                "give another folder with --out"
            )

    def _occupied(self, stage: Stage, present: Mapping[str, Any]) -> ConfigError:
        state = "a finished" if present[stage.name]["state"] == "finished" else "an unfinished"
        lost = [name for name in stage.followers if name in present]
        also = f" (which also removes what was computed from it: {', '.join(lost)})" if lost else ""
        go_on = "continue it with --resume, " if stage.resumable else ""
        return ConfigError(
            f"{self.path} already holds {state} {stage.name}; {go_on}replace it with "
            f"--overwrite{also}, or give another folder with --out"
        )

    def _remove(self, stages: Collection[Stage]) -> None:
        names = {stage.name for stage in stages}
        self.log.keep(lambda record: record.get("stage") not in names)
        for stage in stages:
            for name in files_of(stage):
                path = self.path / name
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            if not stage.exclusive:
                if self.metrics_path.exists() and stage.name != SIMULATE.name:
                    write_json(self.metrics_path, self._metrics_without(stage))
                self._forget(stage)

    def _require_same_config(self, new: dict[str, Any], stage: Stage) -> None:
        old_flat, new_flat = _flatten(self.read_config()), _flatten(new)
        changed = [
            f"{key}: {old_flat.get(key, '(absent)')!r} -> {new_flat.get(key, '(absent)')!r}"
            for key in sorted({*old_flat, *new_flat})
            if not _is_same(old_flat.get(key, ()), new_flat.get(key, ()))
            and (stage.depends_on is None or _is_under(key, stage.depends_on))
            and not _is_under(key, stage.may_change)
        ]
        if changed:
            raise ConfigError(
                f"the {stage.name} in {self.path} was made with another configuration "
                f"({'; '.join(changed)}); use the same one, which is {self.config_path}, begin it "
                "anew with --overwrite, or give another folder with --out"
            )

    def _write_status(self, stage: Stage, state: str, *, fresh: bool) -> None:
        stages = self.stages()
        started = None if fresh else stages.get(stage.name, {}).get("started")
        stages[stage.name] = {"state": state, "started": started or _now(), "updated": _now()}
        write_json(self.status_path, {"stages": stages})

    def _metrics_without(self, stage: Stage) -> dict[str, Any]:
        kept = set(OWN_METRICS_KEY) if stage.name not in OWN_METRICS_KEY else None
        return {
            key: value
            for key, value in self.read_metrics().items()
            if (kept is None or key in kept) and key != stage.name
        }

    def _forget(self, stage: Stage) -> None:
        stages = self.stages()
        stages.pop(stage.name, None)
        write_json(self.status_path, {"stages": stages})

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


def _is_same(old: object, new: object) -> bool:
    """Whether two values are equal; a list that was not there yet counts as an empty one."""
    return old == new or (
        isinstance(old, list | tuple) and isinstance(new, list | tuple) and not old and not new
    )


def _is_under(key: str, roots: Collection[str]) -> bool:
    return any(key == root or key.startswith(f"{root}.") for root in roots)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
