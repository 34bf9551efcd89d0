"""The commands that make a run again, checked against its configuration."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path, PurePath
from typing import Any

from case_study.conditions import short_path
from stablemd.config import RunConfig
from stablemd.config_file import read_yaml
from stablemd.errors import ConfigError

FREE = ("out", "device", "threads")
"""Keys on which results do not depend."""

FILES = ("data.path", "data.reference", "potential.path")
SHARED = ("seed", "dynamics.")
"""Keys that other sections follow, so that they come first."""

Values = Mapping[str, Any]


def commands(config: Values, source: Path, shown: str, *, pretrains: bool, out: str) -> list[str]:
    """Lines for a shell that repeat a run with a configuration file.

    Args:
        config: the resolved configuration of the run.
        source: a configuration file; keys in which it differs become ``--set``.
        shown: how the commands name that file.
        pretrains: whether the run trained its starting model.
        out: the run directory that the commands write.

    Raises:
        ConfigError: the run has keys that no ``--set`` on this file can give.
    """
    options = [f"--set {shlex.quote(f'{key}={_yaml(v)}')}" for key, v in overrides(config, source)]
    lines, tail = [], f"{shlex.quote(shown)} --out {shlex.quote(out)}"
    if options:
        lines = ["options=(", *(f"  {option}" for option in options), ")"]
        tail += ' "${options[@]}"'
    names = [*(["pretrain"] if pretrains else []), "train", "evaluate"]
    return lines + [f"stablemd {name} {tail}" for name in names]


def overrides(config: Values, source: Path) -> list[tuple[str, Any]]:
    """Keys and values that turn a configuration file into a resolved configuration.

    Files are compared by name and given by the last two parts of their paths.
    """
    wanted = _with_short_paths(config)
    values = read_yaml(source)
    chosen: dict[str, Any] = {}
    for only_shared in (True, False):
        for key, value in _differences(wanted, values, source).items():
            if key in wanted and (not only_shared or key.startswith(SHARED)):
                chosen[key] = value
                _put(values, key, value)
    missing = sorted(_differences(wanted, values, source))
    if missing:
        raise ConfigError(
            f"{source} can't be turned into the run's configuration ({', '.join(missing)} stay "
            "different); give the file that the run was made with as --config"
        )
    return list(chosen.items())


def _differences(wanted: Values, values: Values, source: Path) -> dict[str, Any]:
    present = _flatten(RunConfig.from_values(values, str(source)).to_values())
    keys = dict.fromkeys([*wanted, *present])
    return {
        key: wanted.get(key)
        for key in keys
        if key not in FREE and not _same(key, wanted.get(key), present.get(key))
    }


def _same(key: str, a: Any, b: Any) -> bool:
    if key in FILES and a is not None and b is not None:
        return PurePath(a).name == PurePath(b).name
    return bool(a == b)


def _with_short_paths(config: Values) -> dict[str, Any]:
    flat = _flatten(config)
    return {k: short_path(v) if k in FILES and v is not None else v for k, v in flat.items()}


def _flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, Mapping):
        return {prefix: deepcopy(values)}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[last] = value


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
