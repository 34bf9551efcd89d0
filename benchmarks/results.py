"""Results of benchmarks: merged by section into JSON, from which the page is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.figure import scaling_figure
from benchmarks.measure import Timing
from benchmarks.section import Section, Settings
from stablemd.atomic import write_atomic
from stablemd.strict_json import write_json
from stablemd.versions import collect_versions


def record(section: Section, settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """Everything about one section's run."""
    done = settings if section.replicas is None else replace(settings, n_replicas=section.replicas)
    return {
        "title": section.title,
        "about": section.about,
        "unit": section.unit,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": asdict(done),
        "versions": collect_versions(),
        "timings": [asdict(t) for t in timings],
        "derived": section.derive(settings, timings) if section.derive else None,
    }


def merge(path: Path, new: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Put new sections into the file, keep the others; returns all.

    The numbers of ``schnet_md`` also stand under ``sampling.schnet_aspirin_<replicas>``,
    those of ``estimator`` directly in its section.
    """
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results |= new
    derived = new.get("schnet_md", {}).get("derived")
    if derived:
        key = f"schnet_aspirin_{derived['n_replicas']}"
        results["sampling"] = {**results.get("sampling", {}), key: derived}
    if "estimator" in new:
        results["estimator"] = {**new["estimator"], **(new["estimator"].get("derived") or {})}
    write_json(path, results)
    return results


def write_page(path: Path, results: dict[str, Any], known: Mapping[str, Section]) -> None:
    """Write the Markdown page, its figure, and the JSON of the same name.

    Args:
        path: of the page.
        results: from ``merge``.
        known: every section by its key, in the order of the page.
    """
    sections = {key: results[key] for key in known if key in results}
    parts = [
        "# Benchmarks",
        "Written by `make bench`, from the numbers in `benchmarks/results.json`. CPU time is that "
        "of the whole process, the median over the repeats with the least and the largest; the "
        "contenders take turns, and the ratio is the median of the ratios within a turn.",
        *(_section(s, known[key], path.parent / "images") for key, s in sections.items()),
    ]
    rates = (sections.get("schnet_scaling", {}).get("derived") or {}).get("rates")
    if rates:
        picture = path.parent / "images" / "benchmarks.png"
        write_atomic(picture, scaling_figure(rates))
        parts.append(f"![Time per atom and step by number of replicas](images/{picture.name})")
    write_atomic(path, "\n\n".join(parts) + "\n")
    write_json(path.with_suffix(".json"), results)


def _section(section: dict[str, Any], kind: Section, images: Path) -> str:
    settings, versions, unit = section["settings"], section["versions"], section["unit"]
    rows = [
        f"| {t['name']} | {t['cpu_ms']:.3f} ({t['cpu_ms_min']:.3f}–{t['cpu_ms_max']:.3f}) "
        f"| {t['wall_ms']:.3f} | {t['ratio']:.1f} |"
        for t in section["timings"]
    ]
    table = [
        f"| | CPU time, ms per {unit} | wall time, ms per {unit} | times less CPU time |",
        "|---|---|---|---|",
        *rows,
    ]
    conditions = (
        f"{settings['n_replicas']} replicas, {settings['n_steps']} steps per call, "
        f"{settings['repeats']} repeats; {section['date']}; {versions['cpu']}, "
        f"{versions['torch_threads']} thread(s) of {versions['cores']} cores; "
        f"torch {versions['torch']}, numba {versions['numba']}, Python {versions['python']}."
    )
    derived = section.get("derived")
    more = [kind.describe(derived)] if derived and kind.describe else []
    if derived and kind.draw:
        picture = images / f"benchmark_{kind.key}.png"
        write_atomic(picture, kind.draw(derived))
        more.append(f"![{section['title']}](images/{picture.name})")
    tables = ["\n".join(table)] if rows else []
    parts = [f"## {section['title']}", section["about"], *tables, *more, conditions]
    return "\n\n".join(parts)
