"""What a configuration key accepts, in words, from the JSON schema of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

Node = Mapping[str, Any]
Location = Sequence[str | int]


class ConfigSchema:
    """The tree of keys that a settings class accepts.

    Args:
        model: the settings class at the root.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self.root: Node = model.model_json_schema()
        self._definitions: Mapping[str, Node] = self.root.get("$defs", {})

    def resolve(self, node: Node, tag: str | None = None) -> Node:
        """A node without references, without null, and of the kind named ``tag``."""
        if "$ref" in node:
            return self.resolve(self._definitions[node["$ref"].rsplit("/", 1)[1]], tag)
        if "discriminator" in node:
            kinds = node["discriminator"]["mapping"]
            return self.resolve({"$ref": kinds[tag]}) if tag in kinds else node
        options = [option for option in node.get("anyOf", []) if option.get("type") != "null"]
        return self.resolve(options[0], tag) if len(options) == 1 else node

    def at(self, location: Location, values: object) -> tuple[Node | None, list[str | int]]:
        """The node at a location of pydantic, and the location as a user writes it.

        Pydantic's locations name the kind of a tagged union where a file has no
        such key; these are left out.

        Args:
            location: path of keys and indices.
            values: the values that were validated, to tell keys from kinds.
        """
        node: Node | None = self.root
        path: list[str | int] = []
        for part in location:
            if node is not None and "discriminator" in node:
                node = self.resolve(node, str(part))
                continue
            path.append(part)
            tag = None
            if isinstance(values, Mapping):
                values = values.get(part)
            elif isinstance(values, list) and isinstance(part, int) and part < len(values):
                values = values[part]
            node = None if node is None else self.child(node, part)
            node = None if node is None else self.resolve(node, tag)
        return node, path

    def declared(self, location: Location, values: object) -> Node | None:
        """The node at a location as it is declared, null and description included."""
        if not location:
            return self.root
        parent, _ = self.at(location[:-1], values)
        child = None if parent is None else self.child(parent, location[-1])
        return child if child is not None else self.at(location, values)[0]

    def key_names(self, location: Location, values: object) -> list[str]:
        """Names that the keys of a mapping are restricted to; empty where they are free."""
        node, _ = self.at(location, values)
        names = {} if node is None else node.get("propertyNames", {})
        return list(self.resolve(names).get("enum", []))

    def child(self, node: Node, part: str | int) -> Node | None:
        """The node of a key or an index under a node, if it is known."""
        if isinstance(part, int):
            prefix = node.get("prefixItems", [])
            return prefix[part] if part < len(prefix) else node.get("items")
        properties = node.get("properties", {})
        extra = node.get("additionalProperties")
        return properties.get(part, extra if isinstance(extra, Mapping) else None)

    def keys(self, node: Node | None) -> list[str]:
        """Keys that a section accepts; empty for anything else."""
        return [] if node is None else list(node.get("properties", {}))

    def leaves(self, node: Node | None = None, prefix: str = "") -> Iterator[tuple[str, Node]]:
        """Dotted key and node of every value, section by section in order."""
        start = self.root if node is None else node
        for name, child in start.get("properties", {}).items():
            key = f"{prefix}{name}"
            target = self.resolve(child)
            if target.get("properties"):
                yield from self.leaves(target, f"{key}.")
            else:
                yield key, child

    def accepts_boolean(self, node: Node | None) -> bool:
        """Whether true and false are values of the node, or nothing is known about it."""
        return node is None or "boolean" in self._types(node) or not self._types(node)

    def _types(self, node: Node) -> set[str]:
        if "$ref" in node:
            return self._types(self.resolve(node))
        options = [*node.get("anyOf", []), *node.get("oneOf", [])]
        found = {t for option in options for t in self._types(option)}
        return found | ({node["type"]} if "type" in node else set())

    def describe(self, node: Node | None) -> str:
        """What a node accepts: ``an integer ≥ 2``, ``a number > 0, or null``, ``a or b``."""
        if node is None:
            return "another value"
        if "anyOf" in node:
            return ", or ".join(self.describe(option) for option in node["anyOf"])
        node = self.resolve(node)
        if "discriminator" in node:
            kinds = _alternatives(list(node["discriminator"]["mapping"]))
            return f"a section with name: {kinds}"
        if "enum" in node:
            return _alternatives([str(value) for value in node["enum"]])
        if "const" in node:
            return str(node["const"])
        kind = node.get("type")
        if kind in ("integer", "number"):
            noun = "an integer" if kind == "integer" else "a number"
            return " ".join([noun, _bounds(node)]).strip()
        if kind == "array":
            if "prefixItems" in node:
                return f"{len(node['prefixItems'])} values"
            least = node.get("minItems")
            number = f" of {least} or more" if least else ""
            return f"a list{number}"
        if kind == "object":
            keys = self.keys(node)
            return f"a section with keys {', '.join(keys)}" if keys else "keys with values"
        words = {"string": "text", "boolean": "true or false", "null": "null"}
        return words.get(str(kind), "another value")


def _alternatives(words: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _bounds(node: Node) -> str:
    # A type's own bound and a field's may both stand there; the tighter one counts.
    low, low_open = node.get("minimum"), node.get("exclusiveMinimum")
    if low_open is not None and low is not None:
        low, low_open = (low, None) if low > low_open else (None, low_open)
    if node.get("type") == "integer" and low_open is not None:
        low, low_open = low_open + 1, None
    words = []
    for symbol, value in (
        (">", low_open),
        ("≥", low),
        ("<", node.get("exclusiveMaximum")),
        ("≤", node.get("maximum")),
    ):
        if value is not None:
            words.append(f"{symbol} {value:g}")
    return " and ".join(words)
