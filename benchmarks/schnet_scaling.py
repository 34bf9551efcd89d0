"""SchNet MD on aspirin from one replica to many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks import contenders as names
from benchmarks.contenders import Aspirin
from benchmarks.measure import Contender, Timing
from benchmarks.section import Section, Settings

REPLICAS = (1, 8, 32, 128, 1024)

N_ATOMS = 21

_WORK = 1280
"""Replica-steps per call of the fast contenders."""


def build(settings: Settings) -> list[Contender]:
    """The whole step and the sampling form alone; all contenders where ``full`` is set.

    With few replicas more steps are made, so that every call takes a while.
    """
    found = []
    for n in REPLICAS if settings.n_replicas >= REPLICAS[-2] else (1, settings.n_replicas):
        aspirin = Aspirin.build(n)
        many = max(settings.n_steps, _WORK // n)
        here = [aspirin.whole(many), aspirin.bare(many)]
        if settings.full:
            few = max(2, min(settings.n_steps, _WORK // (10 * n)))
            torch_sim = aspirin.torch_sim(few)
            here += [aspirin.tabulated(few), aspirin.torch_geometric(few)]
            here += [torch_sim] if torch_sim else []
        found += [Contender(_name(c.name, n), c.run, c.units) for c in here]
    if settings.full:
        ase = Aspirin.build(1).ase(settings.n_steps)
        found.append(Contender(_name(ase.name, 1), ase.run, ase.units))
    return found


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """Rates by contender and number of replicas, and the overhead at each size."""
    rates: dict[str, dict[str, dict[str, float]]] = {}
    overhead = {}
    by_key = {_parse(t.name): t for t in timings}
    for (name, n), timing in by_key.items():
        rates.setdefault(name, {})[str(n)] = {
            "replica_steps_per_s": 1e3 / timing.cpu_ms,
            "us_per_atom_step": 1e3 * timing.cpu_ms / N_ATOMS,
        }
        if name == names.WHOLE:
            overhead[str(n)] = 1.0 / timing.speedup_over(by_key[names.BARE, n]) - 1.0
    return {"rates": rates, "overhead_fraction": overhead}


def describe(derived: dict[str, Any]) -> str:
    """A table of the rates."""
    lines = [
        "| | replicas | replica-steps per s of CPU time | µs per atom-step | step loop adds |",
        "|---|---|---|---|---|",
    ]
    for name, sizes in derived["rates"].items():
        for n, rate in sizes.items():
            added = ""
            if name == names.WHOLE:
                added = f"{100 * derived['overhead_fraction'][n]:.1f} %"
            lines.append(
                f"| {name} | {n} | {rate['replica_steps_per_s']:.0f} "
                f"| {rate['us_per_atom_step']:.2f} | {added} |"
            )
    return "\n".join(lines)


def _name(contender: str, n_replicas: int) -> str:
    return f"{contender}, {n_replicas}"


def _parse(name: str) -> tuple[str, int]:
    contender, _, n_replicas = name.rpartition(", ")
    return contender, int(n_replicas)


SECTION = Section(
    key="schnet_scaling",
    title="From one replica to many",
    about=(
        "The same model and molecule with other numbers of replicas (the last number of each "
        "row), on one core. `make bench-full` adds the other contenders."
    ),
    unit="replica-step",
    build=build,
    derive=derive,
    describe=describe,
)
