"""Batches that fit into memory give the numbers of one large batch."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials import replica_batches
from stablemd.potentials.base import EagerSampling
from stablemd.potentials.replica_batches import ReplicaBatches, available_bytes, is_out_of_memory
from stablemd.potentials.schnet import SchNet

GIB = 2**30


class Small:
    """Adds up coordinates, for as many replicas as fit."""

    def __init__(self, fits: int, error: type[Exception] = MemoryError) -> None:
        self.fits = fits
        self.error = error
        self.sizes: list[int] = []

    def __call__(self, positions: Tensor, cells: Tensor | None) -> tuple[Tensor, ...]:
        self.sizes.append(len(positions))
        if len(positions) > self.fits:
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        total = positions.sum(dim=(1, 2))
        return total if cells is None else total + cells.sum(dim=(1, 2)), 2.0 * positions


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, torch.cuda.OutOfMemoryError])
@pytest.mark.parametrize("fits", [1, 3, 20, 99, 100])
def test_halved_batches_give_the_numbers_of_one(fits: int, error: type[Exception]) -> None:
    positions, cells = torch.rand(100, 4, 3), torch.rand(100, 3, 3)
    evaluate, batches = Small(fits, error), ReplicaBatches()
    sums, doubled = batches(evaluate, positions, cells)
    torch.testing.assert_close(sums, positions.sum(dim=(1, 2)) + cells.sum(dim=(1, 2)))
    assert torch.equal(doubled, 2.0 * positions)
    assert (batches.limit is None) == (fits >= 100)
    evaluate.sizes.clear()
    batches(evaluate, positions, cells)
    assert max(evaluate.sizes) <= fits, "what has failed once is not tried again"
    if fits < 100:
        assert batches.limit is not None and batches.limit > fits / 2 - 1


def test_a_first_bound_is_kept_and_passed_on() -> None:
    positions, evaluate = torch.rand(100, 4, 3), Small(100)
    batches = ReplicaBatches(7)
    for same in (batches, batches.like()):
        sums, doubled = same(evaluate, positions)
        torch.testing.assert_close(sums, positions.sum(dim=(1, 2)))
        assert torch.equal(doubled, 2.0 * positions)
    assert set(evaluate.sizes) == {7, 2}
    evaluate.sizes.clear()
    ReplicaBatches().like()(evaluate, positions)
    assert max(evaluate.sizes) == 100


def test_one_replica_that_does_not_fit_is_a_clear_error() -> None:
    with pytest.raises(PotentialError, match="one replica"):
        ReplicaBatches()(Small(0), torch.zeros(4, 2, 3))


def test_other_errors_pass() -> None:
    def broken(positions: Tensor, cells: Tensor | None) -> tuple[Tensor, ...]:
        raise RuntimeError("shapes do not fit")

    for n in (4, 40):
        with pytest.raises(RuntimeError, match="shapes"):
            ReplicaBatches()(broken, torch.zeros(n, 2, 3))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


@pytest.mark.parametrize("free_gib", [0.5, 3.0, 1000.0])
def test_growth_of_the_peak_bounds_the_batch(free_gib: float, monkeypatch, caplog) -> None:
    """Each replica takes 10 MiB, so that a bound follows from the free memory alone."""
    per_replica = 10 * 2**20
    evaluate = Small(10**9)

    def peak(device: torch.device) -> int:
        return per_replica * max(evaluate.sizes, default=0)

    monkeypatch.setattr(replica_batches, "peak_bytes", peak)
    monkeypatch.setattr(replica_batches, "available_bytes", lambda device: int(free_gib * GIB))
    positions = torch.rand(1000, 2, 3)
    batches = ReplicaBatches()
    with caplog.at_level(logging.WARNING):
        batches(evaluate, positions)
    assert max(evaluate.sizes) * per_replica <= free_gib * GIB
    if free_gib > 100:
        assert batches.limit is None and not caplog.records
    else:
        assert batches.limit is not None
        assert 4 * batches.limit * per_replica > 0.8 * free_gib * GIB, "no smaller than needed"
        assert "GiB" in caplog.text


def test_the_eager_form_is_evaluated_in_batches(ethanol, ethanol_positions, monkeypatch) -> None:
    model = SchNet(n_interactions=2).double()
    positions = torch.cat([ethanol_positions] * 5)
    whole = EagerSampling(model, ethanol)(positions)
    form = EagerSampling(model, ethanol)
    sizes = []
    original = SchNet.batch_energy_and_forces

    def limited(self, batch):
        sizes.append(batch.n_structures)
        if batch.n_structures > 12:
            raise MemoryError
        return original(self, batch)

    monkeypatch.setattr(SchNet, "batch_energy_and_forces", limited)
    energies, forces = form(positions)
    assert sizes[-1] <= 12
    torch.testing.assert_close(energies, whole[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(forces, whole[1], rtol=0, atol=1e-12)


def test_free_memory_is_known_here() -> None:
    assert 2**20 < available_bytes(torch.device("cpu")) < 2**60


def test_memory_that_pytorch_keeps_is_free_for_the_next_batch(monkeypatch) -> None:
    for name, value in (
        ("mem_get_info", (100, 1000)),
        ("memory_reserved", 50),
        ("memory_allocated", 20),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert available_bytes(torch.device("cuda")) == 130
