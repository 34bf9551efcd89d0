"""Write the keys in docs/configuration.md from the settings, so that the two can't disagree.

python scripts/make_configuration_docs.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stablemd.config import RunConfig
from stablemd.config_checks import hyperparameter_model
from stablemd.config_schema import ConfigSchema, Node
from stablemd.potentials import POTENTIALS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"

SECTIONS = {
    "data": "Reference structures, how they are split, and which atoms are bonded.",
    "potential": "Which architecture, or which trained model to start from.",
    "dynamics": "Thermostat, time step and stability criterion, common to `stable`, `evaluation` "
    "and `simulation`. Each of them has a section `dynamics` with the same keys, where single "
    "keys can be set otherwise.",
    "pretrain": "`stablemd pretrain`: training on energies and forces.",
    "stable": "`stablemd train`: StABlE Training.",
    "evaluation": "`stablemd evaluate`.",
    "simulation": "`stablemd simulate`.",
}

STATE_POINTS = """\
`state_points` is a list of further temperatures, boxes or systems, trained together with the main \
one by one model; see [estimators.md](estimators.md#several-state-points). `data` and `dynamics` \
hold the keys that are different there (`dynamics` those of `stable` and of an evaluation with \
`--at`); all others are those of the main sections, also those of `stable` (replicas, steps, \
budget), which hold at every point. Paths are relative to the configuration file.
"""

MARKER = "<!-- From here on written by scripts/make_configuration_docs.py. -->\n"


def page() -> str:
    """The text of docs/configuration.md: its own introduction, then all keys."""
    introduction = PAGE.read_text(encoding="utf-8").split(MARKER)[0]
    schema = ConfigSchema(RunConfig)
    leaves = list(schema.leaves())
    top = [(key, node) for key, node in leaves if "." not in key]
    parts = [introduction + MARKER, "## General\n", *_table(schema, top)]
    for section, text in SECTIONS.items():
        mine = [
            (key.removeprefix(f"{section}."), node)
            for key, node in leaves
            if key.startswith(f"{section}.") and not (section != "dynamics" and ".dynamics." in key)
        ]
        parts += [f"\n## {section}\n", text + "\n", *_table(schema, mine)]
        if section == "potential":
            parts += _hyperparameters()
    parts.append("\n## State points\n")
    parts.append(STATE_POINTS)
    parts += _table(schema, list(_state_point(schema)))
    parts.append("\n## Observables\n")
    parts.append("`stable.observables` and `evaluation.observables` are lists of such sections.")
    parts += _kinds(schema, _listed(schema, "stable", "observables"))
    parts.append("\n## Dynamical observables\n")
    parts.append(
        "`evaluation.dynamical` is a list of such sections; results are in metrics.json and in "
        "the report. Velocities are recorded where one of them needs them."
    )
    parts += _kinds(schema, _listed(schema, "evaluation", "dynamical"))
    parts.append("\n## Thermodynamic observables\n")
    parts.append("`evaluation.thermodynamic` is a list of such sections.")
    parts += _kinds(schema, _listed(schema, "evaluation", "thermodynamic"))
    parts.append("\n## Detectors\n")
    parts.append(
        "`dynamics.detectors` is a list of such sections. `nonfinite` is always tested, first. "
        "Limits that are learnt are printed with their origin, and stand in metrics.json."
    )
    parts += _kinds(schema, _detectors(schema))
    return "\n".join(parts).rstrip() + "\n"


def _hyperparameters() -> Iterator[str]:
    for name in POTENTIALS:
        schema = ConfigSchema(hyperparameter_model(name))
        yield f"\n`hyperparameters` of `name: {name}`:\n"
        yield "| key | value | default |\n|---|---|---|"
        for key, node in schema.leaves():
            yield f"| `{key}` | {schema.describe(node)} | {_default(node)} |"


def _kinds(schema: ConfigSchema, kinds: list[tuple[str, Node]]) -> Iterator[str]:
    """A heading and a table for each kind of a list's sections."""
    for name, node in kinds:
        rows = [(k, v) for k, v in node["properties"].items() if k != "name"]
        yield f"\n`name: {name}` – {node['description']}\n"
        if rows:
            yield from _table(schema, rows)


def _listed(schema: ConfigSchema, section: str, key: str) -> list[tuple[str, Node]]:
    """The kinds of sections that the list ``section.key`` may hold."""
    items = schema.resolve(schema.root["properties"][section])["properties"][key]["items"]
    return [(name, schema.resolve(items, name)) for name in items["discriminator"]["mapping"]]


def _state_point(schema: ConfigSchema) -> Iterator[tuple[str, Node]]:
    items = schema.resolve(schema.root["properties"]["state_points"]["items"])
    for key, node in items["properties"].items():
        if key in ("data", "dynamics"):  # the keys stand in the sections of that name
            yield key, {"type": "object", "default": {}, "description": node["description"]}
        else:
            yield key, node


def _detectors(schema: ConfigSchema) -> list[tuple[str, Node]]:
    dynamics = schema.resolve(schema.root["properties"]["dynamics"])
    items = schema.resolve(dynamics["properties"]["detectors"])["items"]
    return [(name, schema.resolve(items, name)) for name in items["discriminator"]["mapping"]]


def _table(schema: ConfigSchema, rows: list[tuple[str, Any]]) -> Iterator[str]:
    yield "| key | value | default | meaning |\n|---|---|---|---|"
    for key, node in rows:
        meaning = node.get("description", "").replace("|", "\\|")
        yield f"| `{key}` | {schema.describe(node)} | {_default(node)} | {meaning} |"


def _default(node: Node) -> str:
    if "default" not in node:
        return "" if "default_factory" in node or node.get("type") == "object" else "required"
    value = node["default"]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return ", ".join(f"`{entry['name']}`" for entry in value)
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
