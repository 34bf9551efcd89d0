"""Mistakes in a configuration, each named by its key, the value and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from stablemd.config_schema import ConfigSchema, Location, Node
from stablemd.errors import ConfigError


def config_error(
    model: type[BaseModel],
    error: ValidationError,
    values: Mapping[str, Any],
    source: str,
    prefix: str = "",
) -> ConfigError:
    """Pydantic's findings as one ``ConfigError`` in the user's terms.

    Args:
        model: the settings class that refused the values.
        error: what it said.
        values: what it was given.
        source: the file, for the message.
        prefix: dotted key of ``values`` in the whole configuration, with a final dot.
    """
    schema = ConfigSchema(model)
    findings = error.errors(include_url=False)
    messages = [
        _explain(schema, finding, values, prefix)
        for finding in findings
        if not _is_consequence(finding["loc"], findings)
    ]
    return as_error(list(dict.fromkeys(messages)), source)


def as_error(messages: Sequence[str], source: str) -> ConfigError:
    """One error for one or several messages."""
    if len(messages) == 1:
        return ConfigError(f"{source}: {messages[0]}")
    listed = "".join(f"\n  - {message}" for message in messages)
    return ConfigError(f"{source}: {len(messages)} problems{listed}")


def refuse_misplaced_booleans(
    model: type[BaseModel], values: Mapping[str, Any], source: str
) -> None:
    """Raise where true or false stands for a number or text, which YAML makes of yes and no.

    Raises:
        ConfigError: naming the key and what it accepts.
    """
    schema = ConfigSchema(model)
    messages = []
    for location, value in _booleans(schema, values, values, ()):
        node, path = schema.at(location, values)
        if not schema.accepts_boolean(node):
            full = schema.declared(location, values)
            messages.append(f"{dotted(path)} is {_show(value)}; {_expected(schema, full)}")
    if messages:
        raise as_error(messages, source)


def dotted(path: Location) -> str:
    """A location as a user writes it: ``stable.observables.0.weight``."""
    return ".".join(str(part) for part in path)


def suggestion(word: str, known: Sequence[str]) -> str:
    """The known word that is meant, probably, as the end of a sentence; else nothing."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _explain(schema: ConfigSchema, finding: Any, values: Mapping[str, Any], prefix: str) -> str:
    location, kind = finding["loc"], finding["type"]
    node, path = schema.at(location, values)
    key = prefix + dotted(path)
    if kind == "extra_forbidden":
        section, _ = schema.at(location[:-1], values)
        known = schema.keys(section)
        where = (prefix + dotted(path[:-1])).rstrip(".") or "the configuration"
        hint = suggestion(str(path[-1]), known)
        return f"{key} is unknown{hint or ';'} {where} has the keys {', '.join(known)}"
    if location[-1:] == ("[key]",):
        known = schema.key_names(location[:-2], values)
        word = str(path[-2])
        key = prefix + dotted(path[:-1])
        return f"{key} is unknown{suggestion(word, known) or ';'} known are {', '.join(known)}"
    if kind == "missing":
        return f"{key} is missing; {_expected(schema, node)}"
    given = finding["input"]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _explain_tag(finding, key, given)
    if kind == "value_error":
        return f"{key} is {_show(given)}: {finding['ctx']['error']}"
    hint = ""
    if node is not None and "enum" in node and isinstance(given, str):
        hint = suggestion(given, node["enum"])
    return f"{key} is {_show(given)}; {_expected(schema, schema.declared(location, values))}{hint}"


def _explain_tag(finding: Any, key: str, given: object) -> str:
    if finding["type"] == "union_tag_not_found":
        return f"{key}.name is missing; it says which kind this is"
    known = [tag.strip(" '") for tag in finding["ctx"]["expected_tags"].split(",")]
    name = given.get("name") if isinstance(given, Mapping) else given
    hint = suggestion(str(name), known)
    return f"{key}.name is {_show(name)}; expected {' or '.join(known)}{hint}"


def _expected(schema: ConfigSchema, node: Node | None) -> str:
    meaning = node.get("description", "") if node is not None else ""
    is_section = node is not None and bool(schema.keys(schema.resolve(node)))
    text = f"expected {schema.describe(node)}"
    return f"{text} ({meaning})" if meaning and not is_section else text


def _is_consequence(location: Location, findings: Sequence[Any]) -> bool:
    """Whether a finding about a list or section only repeats one about a part of it."""
    n = len(location)
    return any(
        len(other["loc"]) > n and tuple(other["loc"][:n]) == tuple(location) for other in findings
    )


def _show(value: object) -> str:
    plain_words = {True: "true", False: "false", None: "null"}
    if value is None or isinstance(value, bool):
        return plain_words[value]
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _booleans(
    schema: ConfigSchema, root: Mapping[str, Any], values: object, path: tuple[Any, ...]
) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """Location, in pydantic's terms, of every true and false."""
    if isinstance(values, bool):
        yield path, values
    elif isinstance(values, Mapping):
        node, _ = schema.at(path, root)
        is_union = "discriminator" in (node or {})
        tag = (values["name"],) if is_union and "name" in values else ()
        for key, value in values.items():
            yield from _booleans(schema, root, value, (*path, *tag, key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _booleans(schema, root, value, (*path, index))
