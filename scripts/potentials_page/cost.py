"""Processor time of energies and forces, and of sums over triplets in two ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from scripts.potentials_page.training import TASKS, load
from stablemd.potentials import GemNetT, Potential, SamplingForm, SchNet
from stablemd.potentials.gemnet.angular_basis import angular_basis
from stablemd.potentials.gemnet.edges import DirectedEdges
from stablemd.potentials.gemnet.triplet_interaction import sum_over_neighbours
from stablemd.potentials.gemnet_sampling import GemNetSampling
from stablemd.system import System

REPEATS = 7
WATER_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "water_gemnet_small.yaml"
CUTOFFS = (3.0, 4.0, 5.0, 6.0)
SIZES = {"small": (16, 4), "paper": (64, 7)}
"""Features in the sum and degrees of the angle, per preset."""


def least_ms(run: Callable[[], object]) -> float:
    """Least processor time of a call in ms, after one untimed call."""
    run()
    times = []
    for _ in range(REPEATS):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return 1e3 * min(times)


def force_cost(data: Path) -> list[dict[str, Any]]:
    """Energies and forces in the sampling form, in µs per atom and step.

    GemNet-T also in its form by autograd, in turns with the compiled one.
    """
    models: dict[str, Callable[[], Potential]] = {
        "SchNet": SchNet,
        "GemNet-T, small": GemNetT,
        "GemNet-T, paper": lambda: GemNetT("paper"),
        "GemNet-T of the water example": _water_example,
    }
    rows = []
    for key, title, n_replicas in (
        ("water", "64 H₂O, periodic", 1),
        ("ethanol", "8 × ethanol", 8),
        ("ethanol", "32 × ethanol", 32),
    ):
        frames = load(TASKS[key], data)
        cell = None if frames.cell is None else frames.cell[0].numpy()
        system = System.create(frames.numbers, cell=cell, pbc=cell is not None)
        positions = frames.positions[:n_replicas]
        row: dict[str, Any] = {"system": title}
        for name, make in models.items():
            torch.manual_seed(0)
            potential = make()
            forms: dict[str, SamplingForm] = {name: potential.for_sampling(system)}
            if isinstance(potential, GemNetT):
                forms[f"{name}, by autograd"] = GemNetSampling(potential, system)
            for label, ms in _in_turns(forms, positions).items():
                row[label] = 1e3 * ms / (n_replicas * system.n_atoms)
        rows.append(row)
        print(row, flush=True)
    return rows


def _water_example() -> GemNetT:
    values = yaml.safe_load(WATER_EXAMPLE.read_text("utf-8"))
    return GemNetT(**values["potential"]["hyperparameters"])


def _in_turns(forms: Mapping[str, SamplingForm], positions: Tensor) -> dict[str, float]:
    """Least processor time of each form in ms; one call of each, over and over."""
    least = dict.fromkeys(forms, float("inf"))
    for form in forms.values():
        form(positions)
    for _ in range(REPEATS):
        for name, form in forms.items():
            begin = time.process_time()
            form(positions)
            least[name] = min(least[name], 1e3 * (time.process_time() - begin))
    return least


def triplet_cost(data: Path) -> list[dict[str, Any]]:
    """One sum over triplets and its gradient by products and by listed angles, µs per atom."""
    frames = load(TASKS["water"], data)
    assert frames.cell is not None
    system = System.create(frames.numbers, cell=frames.cell[0].numpy(), pbc=True)
    rows = []
    for cutoff in CUTOFFS:
        potential = GemNetT(cutoff=cutoff)
        batch = potential.batch(system, frames.positions[:1])
        vectors = batch.pair_vectors()
        near = vectors.norm(dim=1) < cutoff
        edges = DirectedEdges.of_pairs(batch.pairs[:, near], system.n_atoms)
        u = torch.nn.functional.normalize(vectors[near], dim=1)
        directions = torch.stack([u, -u], dim=1)
        neighbours = 2 * edges.n_pairs / system.n_atoms
        row: dict[str, Any] = {"cutoff": cutoff, "neighbours": neighbours}
        for preset, (n_features, n_spherical) in SIZES.items():
            x = torch.randn(edges.n_pairs, 2, n_features)
            for name, sums in (("products", _by_products), ("angles", _by_angles)):
                run = partial(_sums_and_gradient, sums, x, directions, edges, n_spherical)
                row[f"{preset}, {name}"] = 1e3 * least_ms(run) / system.n_atoms
            difference = _by_products(x, directions, edges, n_spherical) - _by_angles(
                x, directions, edges, n_spherical
            )
            inside = edges.by_target(torch.ones(edges.n_pairs, 2, 1))[..., None]
            if float((difference * inside).abs().max()) > 1e-3:
                raise RuntimeError("the two sums over triplets differ")
        rows.append(row)
        print(row, flush=True)
    return rows


def _sums_and_gradient(
    sums: Callable[..., Tensor], x: Tensor, directions: Tensor, edges: DirectedEdges, n: int
) -> None:
    leaf = directions.clone().requires_grad_(True)
    torch.autograd.grad(sums(x, leaf, edges, n).square().sum(), leaf)


def _by_products(x: Tensor, directions: Tensor, edges: DirectedEdges, n: int) -> Tensor:
    harmonics = angular_basis(directions.reshape(-1, 3), n).view(edges.n_pairs, 2, n * n)
    return sum_over_neighbours(edges.by_target(x), edges.by_target(harmonics), n)


def _by_angles(x: Tensor, directions: Tensor, edges: DirectedEdges, n: int) -> Tensor:
    """Legendre polynomials of every angle (n_atoms, width, width), as published codes do."""
    u = edges.by_target(directions)
    cosine = u @ u.transpose(1, 2)
    legendre = [torch.ones_like(cosine), cosine]
    for degree in range(2, n):
        last = (2 * degree - 1) * cosine * legendre[-1] - (degree - 1) * legendre[-2]
        legendre.append(last / degree)
    others = 1.0 - torch.eye(edges.width)
    inside = edges.by_target(x)
    return torch.stack([torch.bmm(p * others, inside) for p in legendre[:n]], dim=2)
