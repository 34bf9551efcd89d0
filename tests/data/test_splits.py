"""Parts are disjoint, complete, reproducible, and in order where order matters."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch

from stablemd.data import Frames, contiguous_split, split
from stablemd.errors import DataError


def test_random_parts_are_disjoint_and_complete(labelled: Frames) -> None:
    parts = split(labelled, n_train=6, n_validation=3, seed=1)
    index = torch.cat([parts.train_index, parts.validation_index, parts.test_index])
    assert sorted(index.tolist()) == list(range(12))
    assert torch.equal(parts.train.energies, labelled.energies[parts.train_index])
    assert torch.equal(parts.validation.forces, labelled.forces[parts.validation_index])
    assert torch.equal(parts.require_test().positions, labelled.positions[parts.test_index])


def test_the_seed_decides_the_parts(labelled: Frames) -> None:
    def order(seed: int) -> list[int]:
        return split(labelled, n_train=10, n_validation=1, seed=seed).train_index.tolist()

    assert order(3) == order(3)
    assert len({tuple(order(seed)) for seed in range(20)}) == 20


def test_every_frame_is_equally_likely_to_be_trained_on(labelled: Frames) -> None:
    counts = torch.zeros(12)
    n = 400
    for seed in range(n):
        counts[split(labelled, n_train=6, n_validation=1, seed=seed).train_index] += 1
    # Binomial(400, 1/2): standard deviation 10; five of them.
    assert float((counts - n / 2).abs().max()) < 50


def test_no_test_part_is_left(labelled: Frames) -> None:
    parts = split(labelled, n_train=10, n_validation=2, seed=0)
    assert parts.test is None and len(parts.test_index) == 0
    with pytest.raises(DataError, match="no test frames are left"):
        parts.require_test()


def test_contiguous_parts_keep_the_order_with_a_gap(labelled: Frames) -> None:
    parts = contiguous_split(labelled, n_train=4, n_validation=2, gap=1)
    assert parts.train_index.tolist() == [0, 1, 2, 3]
    assert parts.validation_index.tolist() == [5, 6]
    assert parts.test_index.tolist() == [8, 9, 10, 11]
    assert contiguous_split(labelled, n_train=8, n_validation=3, gap=1).test is None


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_train": 10, "n_validation": 3}, "13 frames are needed .* there are 12"),
        ({"n_train": 5, "n_validation": 3, "n_test": 5}, "13 frames are needed"),
        ({"n_train": 0, "n_validation": 3}, "n_train is 0; give at least 1"),
        ({"n_train": 3, "n_validation": 0}, "n_validation is 0"),
        ({"n_train": 3, "n_validation": 1, "n_test": -1}, "n_test is -1"),
    ],
)
def test_impossible_sizes(labelled: Frames, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split(labelled, seed=0, **sizes)
    with pytest.raises(DataError, match=message):
        contiguous_split(labelled, **sizes)


def test_gaps_count(labelled: Frames) -> None:
    assert contiguous_split(labelled, n_train=5, n_validation=3, n_test=2, gap=1).test is not None
    with pytest.raises(DataError, match="gap=2"):
        contiguous_split(labelled, n_train=5, n_validation=3, n_test=2, gap=2)


def test_duplicates_between_parts_are_reported(
    labelled: Frames, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        contiguous_split(labelled, n_train=8, n_validation=2)
        assert not caplog.records
        positions = labelled.positions.clone()
        positions[9] = positions[2]
        positions[1] = positions[0]  # within one part: no harm to measured errors
        contiguous_split(replace(labelled, positions=positions), n_train=8, n_validation=2)
    assert len(caplog.records) == 1
    assert "1 geometries of the validation part are also in the train part" in caplog.text
