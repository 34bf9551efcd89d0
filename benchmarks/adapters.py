"""Models of other packages beside their own ASE calculators.

Run in the environment of one package: ``python -m benchmarks.adapters --package mace``
(``make bench-adapters`` does so for all).
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from benchmarks.aspirin import aspirin_replicas
from benchmarks.measure import Contender, compare
from benchmarks.results import merge, record
from benchmarks.section import Section, Settings
from stablemd.potentials import NequIP, Potential
from stablemd.potentials.files import load_potential, save_potential

ROOT = Path(__file__).resolve().parents[1]
CUTOFF = 5.0
N_LOOP = 8
"""Replicas that the calculator evaluates per call, since each costs the same."""

AGREEMENT = 1e-4
"""Largest difference of forces between contenders, relative to the largest, in float32."""


def nequip_model(folder: Path) -> tuple[Path, Any]:
    from nequip.integrations.ase import NequIPCalculator

    path = folder / "model.nequip.zip"
    save_potential(NequIP("paper", elements=["H", "C", "O"], seed=1), path)
    calculator = NequIPCalculator._from_saved_model(
        str(path), chemical_species_to_atom_type_map=True
    )
    return path, calculator


def mace_model(folder: Path) -> tuple[Path, Any]:
    from stablemd.potentials.adapters.mace import importing_mace

    with importing_mace():
        from e3nn import o3
        from mace import modules
    from mace.calculators import MACECalculator

    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    torch.manual_seed(1)
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=3,
        hidden_irreps=o3.Irreps("32x0e + 32x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(3),
        avg_num_neighbors=15.0,
        atomic_numbers=[1, 6, 8],
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    path = folder / "model.model"
    torch.save(model, path)
    return path, MACECalculator(str(path), device="cpu", default_dtype="float32")


def graph_pes_model(folder: Path) -> tuple[Path, Any]:
    from graph_pes.models import PaiNN

    torch.manual_seed(1)
    model = PaiNN(cutoff=CUTOFF)
    path = folder / "model.graph-pes.pt"
    torch.save(model, path)
    return path, model.eval().ase_calculator()


Maker = Callable[[Path], tuple[Path, Any]]

MODELS: dict[str, tuple[Maker, str]] = {
    "nequip": (nequip_model, "NequIP of the paper's size"),
    "mace": (mace_model, "MACE, 32x0e + 32x1o, correlation 3"),
    "graph-pes": (graph_pes_model, "graph-pes's PaiNN"),
}


def build(package: str, settings: Settings) -> list[Contender]:
    """The package's calculator in a loop, and one batched evaluation; checked to agree."""
    make, _ = MODELS[package]
    system, positions = aspirin_replicas(settings.n_replicas)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dtype = torch.get_default_dtype()
        path, calculator = make(Path(folder))
        potential: Potential = load_potential(path)
        torch.set_default_dtype(torch.float64 if package == "nequip" else dtype)
    form = potential.for_sampling(system)
    atoms = [Atoms(system.numbers.numpy(), x.numpy()) for x in positions[:N_LOOP]]

    def loop() -> np.ndarray:
        for one in atoms:
            one.calc = calculator
            one.positions += 1e-9  # or ASE would give the result of the call before
        return np.stack([one.get_forces() for one in atoms])

    def batched() -> np.ndarray:
        forces: np.ndarray = form(positions)[1].numpy()
        return forces

    expected, found = loop(), batched()[:N_LOOP]
    error = np.abs(found - expected).max() / np.abs(expected).max()
    if not error < AGREEMENT:
        raise SystemExit(f"{package}: the forces differ by {error:.1e} of the largest")
    for _ in range(3):  # compiled parts settle
        batched()
    return [
        Contender(f"{package}'s ASE calculator, one by one", loop, N_LOOP),
        Contender("stablemd, all replicas at once", batched, settings.n_replicas),
    ]


def section(package: str) -> Section:
    """The benchmark of a package."""
    return Section(
        key=f"adapter_{package.replace('-', '_')}",
        title=f"Energies and forces: {MODELS[package][1]}",
        about="One evaluation of displaced aspirin molecules (21 atoms) in float32 by the "
        "package's own ASE calculator in a loop, and by the adapter as one batch; neighbour lists "
        "included in both. The forces agree. Random weights.",
        unit="replica",
        build=lambda settings: build(package, settings),
    )


SECTIONS = {s.key: s for s in map(section, MODELS)}
"""Every package's benchmark; they run in environments of their own."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one package's section, and add it to the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__)
    parser.add_argument("--package", choices=MODELS, required=True)
    parser.add_argument("--replicas", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = Settings(options.replicas, 1, options.repeats)
    chosen = section(options.package)
    timings = compare(chosen.build(settings), settings.repeats)
    for timing in timings:
        print(f"{timing.name}: {timing.cpu_ms:.3f} ms CPU, ratio {timing.ratio:.1f}")
    merge(options.out, {chosen.key: record(chosen, settings, timings)})
    print(f"Written: {options.out}; the page follows with python -m benchmarks.run --page-only")


if __name__ == "__main__":
    main()
