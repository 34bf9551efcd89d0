"""Configurations as YAML files, with overrides from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stablemd.config import RunConfig
from stablemd.config_schema import ConfigSchema, Node
from stablemd.errors import ConfigError

PATH_KEYS = (("data", "path"), ("data", "reference"), ("potential", "path"))
"""Keys that hold files to read; ``out`` is not one of them."""

OBSERVABLE_LISTS = (
    ("stable", "observables"),
    ("evaluation", "observables"),
    ("evaluation", "dynamical"),
)
"""Lists of observables, which may name a file as their reference."""

POINT_PATH_KEYS = (("data", "path"), ("data", "reference"))
"""Keys of a further state point that hold files to read."""


class _Loader(yaml.SafeLoader):
    """YAML without duplicate keys, and with 1e-3 as the number that it is."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands here a second time", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def load_config(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    device: str | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
) -> RunConfig:
    """Read and check a configuration.

    Paths of files to read are relative to the configuration file; in ``overrides``
    they are relative to the working directory, as on any command line.  ``out`` is
    relative to the working directory, and is ``runs/<name of the file>`` by default.

    Args:
        path: a YAML file.
        overrides: ``"a.b.c=value"``, where the value is read as YAML.
        device: replaces the configuration's.
        seed: replaces the configuration's.
        out: replaces the configuration's.

    Raises:
        ConfigError: the file is missing or not valid YAML, an override is not of that
            form, a key or value is wrong, or a file to read does not exist.
    """
    path = Path(path)
    values = _absolute(read_yaml(path), path.resolve().parent)
    values.setdefault("out", f"runs/{path.stem}")
    changed: dict[str, Any] = {}
    for override in overrides:
        key, value = parse_override(override)
        _put(changed, key.split("."), value, override)
    flags = {"device": device, "seed": seed, "out": None if out is None else str(out)}
    changed |= {key: value for key, value in flags.items() if value is not None}
    schema = ConfigSchema(RunConfig)
    merged = _merge(values, _absolute(changed, Path.cwd()), schema, schema.root)
    config = RunConfig.from_values(merged, str(path))
    _require_files(config, str(path))
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a YAML file.

    Raises:
        ConfigError: it is missing, no valid YAML, or holds something else than keys.
    """
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "missing"
        raise ConfigError(f"{path} is {kind}; expected a YAML file (examples are in examples/)")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}; expected sections like data:")
    return values


def parse_override(text: str) -> tuple[str, Any]:
    """Dotted key and value of ``"a.b.c=value"``; the value is read as YAML.

    Raises:
        ConfigError: there is no key, no equals sign, or no valid YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or "" in key.strip().split("."):
        raise ConfigError(
            f"--set {text} is not of the form key=value; for example --set stable.n_replicas=64"
        )
    try:
        return key.strip(), yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text}: the value is not valid YAML: {error}") from error


def _put(values: dict[str, Any], parts: list[str], value: Any, override: str) -> None:
    for part in parts[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override} contradicts an earlier --set of {part!r}")
    values[parts[-1]] = value


def _merge(values: Any, changes: Mapping[str, Any], schema: ConfigSchema, node: Node | None) -> Any:
    """``values`` with ``changes`` on top; in a list, keys are indices.

    A list that stands in no file is the default one.
    """
    is_list = bool(changes) and all(key.isdigit() for key in changes)
    if is_list and values is None and node is not None:
        values = node.get("default")
    if is_list and isinstance(values, list) and all(int(key) < len(values) for key in changes):
        merged = list(values)
        for key, change in changes.items():
            nested = isinstance(change, Mapping)
            merged[int(key)] = _merge(merged[int(key)], change, schema, None) if nested else change
        return merged
    result = dict(values) if isinstance(values, Mapping) else {}
    for key, change in changes.items():
        child = None if node is None else schema.child(schema.resolve(node), key)
        nested = isinstance(change, Mapping)
        result[key] = _merge(result.get(key), change, schema, child) if nested else change
    return result


def _absolute(values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    result = _absolute_keys(values, PATH_KEYS, base)
    for section, key in OBSERVABLE_LISTS:
        part = result.get(section)
        if isinstance(part, Mapping) and key in part:
            result[section] = {**part, key: _references(part[key], base)}
    points = result.get("state_points")
    if isinstance(points, list):
        result["state_points"] = [_absolute_point(point, base) for point in points]
    elif isinstance(points, Mapping):  # of --set, by index
        result["state_points"] = {k: _absolute_point(point, base) for k, point in points.items()}
    return result


def _absolute_point(point: Any, base: Path) -> Any:
    if not isinstance(point, Mapping):
        return point
    result = _absolute_keys(point, POINT_PATH_KEYS, base)
    if "observables" in result:
        result["observables"] = _references(result["observables"], base)
    return result


def _absolute_keys(
    values: Mapping[str, Any], keys: Iterable[tuple[str, str]], base: Path
) -> dict[str, Any]:
    result = dict(values)
    for section, key in keys:
        part = result.get(section)
        if isinstance(part, Mapping) and isinstance(part.get(key), str):
            result[section] = part = {**part, key: _from(base, part[key])}
    return result


def _references(observables: Any, base: Path) -> Any:
    """The observables, in a list or by index, with the paths of their references made absolute."""
    if isinstance(observables, list):
        return [_references({"0": entry}, base)["0"] for entry in observables]
    if not isinstance(observables, Mapping):
        return observables
    result = dict(observables)
    for index, entry in observables.items():
        reference = entry.get("reference") if isinstance(entry, Mapping) else None
        if isinstance(reference, Mapping) and isinstance(reference.get("path"), str):
            path = _from(base, reference["path"])
            result[index] = {**entry, "reference": {**reference, "path": path}}
    return result


def _from(base: Path, path: str) -> str:
    return str(base / Path(path).expanduser())


def _require_files(config: RunConfig, source: str) -> None:
    for key, path in _named_files(config):
        if path is not None and not path.is_file():
            raise ConfigError(
                f"{source}: {key} is {path}, and there is no such file; paths are "
                "relative to the configuration file"
            )


def _named_files(config: RunConfig) -> Iterator[tuple[str, Path | None]]:
    """Dotted keys and values of all files that a configuration reads."""
    for section, key in PATH_KEYS:
        yield f"{section}.{key}", getattr(getattr(config, section), key)
    for section, key in OBSERVABLE_LISTS:
        yield from _reference_files(f"{section}.{key}", getattr(getattr(config, section), key))
    for index, point in enumerate(config.state_points):
        place = f"state_points.{index}"
        for section, key in POINT_PATH_KEYS:
            changes = getattr(point, section)
            if key in changes.model_fields_set:
                yield f"{place}.{section}.{key}", getattr(changes, key)
        yield from _reference_files(f"{place}.observables", point.observables or ())


def _reference_files(key: str, observables: Sequence[Any]) -> Iterator[tuple[str, Path | None]]:
    for index, choice in enumerate(observables):
        path = getattr(getattr(choice, "reference", None), "path", None)
        yield f"{key}.{index}.reference.path", path
