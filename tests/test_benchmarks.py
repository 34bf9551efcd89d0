"""The benchmarks compare like with like, and their results are kept together."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("torch_geometric", reason="the benchmarks need torch_geometric (make venv)")

from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import cuda, water, water_md
from benchmarks.ase_md import AseMD
from benchmarks.aspirin import aspirin_replicas
from benchmarks.ceiling import count
from benchmarks.contenders import BARE, EAGER, TORCH_GEOMETRIC, WHOLE, Aspirin
from benchmarks.measure import Contender, Timing, compare
from benchmarks.results import merge
from benchmarks.run import main
from benchmarks.schnet_md import build
from benchmarks.section import Settings
from benchmarks.torch_geometric_schnet import (
    CUTOFF,
    TorchGeometricMD,
    make_model,
    radius_graph,
    time_torch_geometric,
)
from benchmarks.torch_sim_md import TorchSimMD


def test_aspirin_is_aspirin() -> None:
    system, positions = aspirin_replicas(3)
    assert system.formula == "C9H8O4"
    distances = torch.cdist(positions, positions) + 10.0 * torch.eye(system.n_atoms)
    assert distances.min() > 0.75
    assert not torch.equal(positions[0], positions[1])


def test_radius_graph_lists_every_near_pair_of_a_molecule_in_both_directions() -> None:
    system, positions = aspirin_replicas(3)
    edges, lengths = radius_graph(system.n_atoms, positions.reshape(-1, 3), CUTOFF)
    expected = {
        (r * system.n_atoms + i, r * system.n_atoms + j)
        for r in range(3)
        for i in range(system.n_atoms)
        for j in range(system.n_atoms)
        if i != j and float((positions[r, i] - positions[r, j]).norm()) < CUTOFF
    }
    assert set(map(tuple, edges.T.tolist())) == expected
    assert len(expected) < 3 * system.n_atoms * (system.n_atoms - 1), "the cutoff has no effect"
    flat = positions.reshape(-1, 3)
    torch.testing.assert_close(lengths, (flat[edges[0]] - flat[edges[1]]).norm(dim=1))


def test_torch_geometric_dynamics_keeps_energy() -> None:
    system, positions = aspirin_replicas(2)
    model = make_model(system.n_atoms)
    dynamics = TorchGeometricMD(model, system, positions)

    def energies() -> tuple[float, float]:
        with torch.no_grad():
            potential = model(dynamics._numbers, dynamics._positions, dynamics._batch).sum()
        kinetic = (dynamics._momenta**2 / (2 * dynamics._masses)).sum()
        return float(kinetic), float(potential + kinetic)

    _, start = energies()
    dynamics.run(100)
    kinetic, end = energies()
    assert kinetic > 1e-3
    assert abs(end - start) < 0.02 * kinetic


def test_ratio_and_median_follow_the_work() -> None:
    def busy(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    slow, fast = compare(
        [Contender("slow", lambda: busy(0.04), 2), Contender("fast", lambda: busy(0.01), 2)], 3
    )
    assert slow.ratio == 1.0
    # The loop ends within one tick of the clock after the time it was given.
    assert slow.cpu_ms == pytest.approx(20.0, rel=0.1)
    assert fast.ratio == pytest.approx(4.0, rel=0.2)
    assert slow.cpu_ms_min <= slow.cpu_ms <= slow.cpu_ms_max


def test_ase_and_torch_sim_have_the_same_forces() -> None:
    pytest.importorskip("torch_sim", reason="torch-sim is compared where it is installed")
    aspirin = Aspirin.build(2)
    expected = aspirin.potential.energy_and_forces(aspirin.system, aspirin.positions)[1].numpy()
    theirs = TorchSimMD(aspirin.potential, aspirin.system, aspirin.positions)
    np.testing.assert_allclose(theirs.forces(), expected, atol=1e-5)


def test_ase_dynamics_starts_from_the_same_forces() -> None:
    aspirin = Aspirin.build(2)
    expected = aspirin.potential.energy_and_forces(aspirin.system, aspirin.positions)[1].numpy()
    ase = AseMD(aspirin.potential, aspirin.system, aspirin.positions)
    np.testing.assert_allclose(ase.forces(), expected, atol=1e-5)


def test_operations_are_those_of_the_layers() -> None:
    """Products of a forward pass: torch's own count, times two for the backward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    aspirin = Aspirin.build(1)
    potential, n = aspirin.potential, aspirin.system.n_atoms
    dense = {"project_in", "project_out", "update", "readout_hidden"}
    layers = [m for k, m in potential.named_modules() if k.rsplit(".", 1)[-1] in dense]
    assert len(layers) == 3 * 6 + 1
    with FlopCounterMode(display=False) as counter:
        for layer in layers:
            layer(torch.zeros(n, layer.in_features))
    first = 2 * n * 64 * 64  # its product is taken once for all steps
    assert count(n, 0.0)["products"] == 2 * (counter.get_total_flops() - first)


def test_models_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import contenders

    def other_weights(state: dict[str, torch.Tensor], **options: float) -> object:
        bent = {k: v + 0.1 if k == "lin2.weight" else v for k, v in state.items()}
        return original(bent, **options)

    original = contenders.schnet_from_weights
    monkeypatch.setattr(contenders, "schnet_from_weights", other_weights)
    with pytest.raises(RuntimeError, match="compare different models"):
        build(Settings(n_replicas=1, n_steps=1))


def test_a_new_section_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    merge(path, {"a": {"date": "old"}, "b": {"date": "old"}})
    merge(path, {"b": {"date": "new"}})
    assert json.loads(path.read_text()) == {"a": {"date": "old"}, "b": {"date": "new"}}


def test_a_run_writes_results_and_page(tmp_path: Path) -> None:
    out, page = tmp_path / "results.json", tmp_path / "docs" / "benchmarks.md"
    sizes = ["--replicas", "2", "--steps", "1", "--repeats", "1"]
    threads = torch.get_num_threads()
    try:
        main([*sizes, "--out", str(out), "--page", str(page)])
    finally:
        torch.set_num_threads(threads)
    results = json.loads(out.read_text())
    assert json.loads(page.with_suffix(".json").read_text()) == results
    timings = results["schnet_md"]["timings"]
    assert timings[0]["name"] == TORCH_GEOMETRIC and timings[0]["ratio"] == 1.0
    summary = results["sampling"]["schnet_aspirin_2"]
    by_name = {t["name"]: t["cpu_ms"] for t in timings}
    assert summary["cpu_ms_per_replica_step"] == by_name[WHOLE]
    # One round: the median of its ratios is the ratio of its times.
    assert summary["speedup_vs_eager"] == pytest.approx(by_name[EAGER] / by_name[WHOLE])
    assert summary["overhead_fraction"] == pytest.approx(by_name[WHOLE] / by_name[BARE] - 1.0)
    assert (page.parent / "images" / "benchmarks.png").read_bytes().startswith(b"\x89PNG")
    for timing in timings:
        assert f"{timing['cpu_ms']:.3f}" in page.read_text()
    assert results["schnet_md"]["versions"]["cpu"] in page.read_text()


def test_what_a_machine_lacks_is_said_and_nothing_is_recorded(tmp_path: Path, capsys) -> None:
    if torch.cuda.is_available():
        pytest.skip("here is a GPU, and the section would run")
    out, page = tmp_path / "results.json", tmp_path / "docs" / "benchmarks.md"
    main(["--section", "cuda", "--out", str(out), "--page", str(page)])
    assert "On a GPU: not run, no NVIDIA GPU is at hand" in capsys.readouterr().out
    assert json.loads(out.read_text()) == {}
    assert "GPU" not in page.read_text()
    with pytest.raises(RuntimeError, match="no NVIDIA GPU"):
        cuda.build(Settings())


def test_bytes_on_a_device_are_those_of_the_operations() -> None:
    """What one more interaction adds: PyTorch's operations in both passes, and our kernels."""
    n, f, w = 21, 64, 48
    features, filters = torch.zeros(n, f), torch.zeros(n, w)
    moved = 0

    class Counted(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal moved
            result = func(*args, **(kwargs or {}))
            rows = [t for t in [*args, result] if isinstance(t, torch.Tensor) and len(t) == n]
            moved += sum(t.nbytes for t in rows)
            return result

    def weight(a: int, b: int) -> torch.Tensor:
        return torch.zeros(a, b)

    with Counted():
        torch.mm(features, weight(f, w))  # into the convolution
        torch.mm(filters, weight(w, f))  # out of it
        torch.addmm(features, features, weight(f, f))
        torch.mm(features, weight(f, f))
        features * features  # the slopes of the activation
        torch.mm(features, weight(f, w))
        torch.addmm(features, filters, weight(w, f))
    own_kernels = 4 * n * (2 * w + 3 * f + 3 * w)  # convolution, activation, convolution's backward
    more = cuda.count_bytes(n, 0.0, f, w, 3) - cuda.count_bytes(n, 0.0, f, w, 2)
    assert more == moved + own_kernels


def test_fractions_on_a_device_follow_from_wall_times(monkeypatch) -> None:
    """Energies and forces that move their bytes as fast as a copy does reach the ceiling."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    system, positions = aspirin_replicas(128)
    needed = cuda.count_bytes(system.n_atoms, cuda.mean_pairs(positions, CUTOFF))
    gb_per_s = 2000.0
    bare = 1e3 * needed / (gb_per_s * 1e9)

    def timing(name: str, wall_ms: float) -> Timing:
        return Timing(name, 0.0, 0.0, 0.0, wall_ms, 1.0, (0.0,))

    timings = [timing(cuda.COPY, 1e3 / gb_per_s)]
    for n in cuda.REPLICAS:
        times = {cuda.BARE: bare, cuda.GRAPHS: 1.1 * bare, cuda.KERNELS: 3.3 * bare}
        times[cuda.EAGER] = 11.0 * bare
        timings += [timing(f"{name}, {n}", ms) for name, ms in times.items()]
    derived = cuda.derive(Settings(), timings)
    assert derived["memory_gb_per_s"] == pytest.approx(gb_per_s)
    assert set(derived["replicas"]) == {str(n) for n in cuda.REPLICAS}
    for found in derived["replicas"].values():
        assert found["fraction_of_bandwidth"] == pytest.approx(1.0)
        assert found["speedup_by_graphs"] == pytest.approx(3.0)
        assert found["speedup_vs_eager"] == pytest.approx(10.0)
        assert found["overhead_fraction"] == pytest.approx(0.1)
    assert "| 8192 |" in cuda.describe(derived)


def test_time_torch_geometric_is_a_time_per_replica_step() -> None:
    assert 1e-5 < time_torch_geometric(n_replicas=2, n_steps=2) < 1.0


def test_water_is_simulated_to_the_end_without_trained_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(water, "WATER_DATA", tmp_path)
    water_md._model.cache_clear()
    try:
        parts = water_md._parts(n_steps=30)
        assert not water_md._model()[1]
    finally:
        water_md._model.cache_clear()
    assert 0.0 < parts["detectors"] < 1.0
