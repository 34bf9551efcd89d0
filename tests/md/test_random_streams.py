from __future__ import annotations

import itertools

import pytest
import torch

from stablemd.errors import SimulationError
from stablemd.md.philox_kernel import fill_philox_words
from stablemd.md.random_streams import (
    NormalBlocks,
    Stream,
    normals,
    philox4x32,
    uniform_words,
)

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (ONES, ONES, ONES, ONES),
            (ONES, ONES),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_its_authors(counter, key, expected):
    words = philox4x32(tuple(torch.tensor([c]) for c in counter), key)
    assert tuple(int(w) for w in words) == expected


@pytest.mark.parametrize("first_step", [0, (1 << 32) - 2, (1 << 48) - 4])
def test_the_compiled_and_the_tensor_form_give_the_same_words(first_step):
    ids = torch.tensor([0, 17, ONES])
    tensors = uniform_words((ONES, 12345), ids, first_step, 4, 5, Stream.THERMOSTAT)
    compiled = torch.empty_like(tensors)
    fill_philox_words(
        compiled.numpy(), ids.numpy(), first_step, int(Stream.THERMOSTAT) << 16, ONES, 12345
    )
    assert torch.equal(compiled, tensors)


def test_normals_have_the_moments_of_a_normal_distribution():
    z = normals(7, torch.arange(10), 0, 1000, 30).flatten()
    n = len(z)
    # Standard errors of the moments of n standard normals: 1, 2, 15 and 96 over n.
    for power, mean, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs(float((z**power).mean()) - mean) < 4.0 * (variance / n) ** 0.5
    below = (z[:, None] < torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])).double().mean(0)
    expected = torch.special.ndtr(torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64))
    assert bool(((below - expected).abs() < 4.0 * (expected * (1 - expected) / n).sqrt()).all())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_neighbouring_counters_are_uncorrelated(axis):
    z = normals(3, torch.arange(40), 0, 40, 40)
    a, b = z.narrow(axis, 0, 39), z.narrow(axis, 1, 39)
    for power in (1, 2):
        x, y = a**power - (a**power).mean(), b**power - (b**power).mean()
        correlation = float((x * y).mean() / (x.std() * y.std()))
        assert abs(correlation) < 4.0 / a.numel() ** 0.5


def test_a_number_depends_on_its_counter_only():
    ids = torch.tensor([5, 0, 9, 2])
    whole = normals(11, ids, 100, 50, 27)
    for first, count in ((100, 50), (113, 1), (120, 30)):
        for rows in ([0, 1, 2, 3], [2], [3, 1]):
            part = normals(11, ids[rows], first, count, 27)
            assert torch.equal(part, whole[first - 100 : first - 100 + count][:, rows])
    assert torch.equal(normals(11, ids, 100, 50, 7), whole[..., :7])


def test_seed_replica_step_and_stream_all_matter_beyond_32_bits():
    ids = torch.tensor([1])
    draws = [
        normals(seed, replica, step, 1, 8, stream).flatten()
        for seed, replica, step, stream in [
            (0, ids, 0, Stream.NOISE),
            (1, ids, 0, Stream.NOISE),
            (1 << 32, ids, 0, Stream.NOISE),
            (0, ids + 1, 0, Stream.NOISE),
            (0, ids, 1, Stream.NOISE),
            (0, ids, 1 << 32, Stream.NOISE),
            (0, ids, 0, Stream.VELOCITIES),
            (0, ids, 0, Stream.THERMOSTAT),
        ]
    ]
    for a, b in itertools.combinations(draws, 2):
        assert not bool((a == b).any())


@pytest.mark.parametrize("block_numbers", [1, 50, 1 << 18])
def test_blocks_give_the_same_numbers_whatever_their_size(block_numbers):
    ids = torch.tensor([4, 8, 6])
    whole = normals(2, ids, 10, 30, 6).reshape(30, 3, 2, 3)
    blocks = NormalBlocks(2, ids, (2, 3), 10, 40, block_numbers=block_numbers)
    for step in range(10, 25):
        assert torch.equal(blocks.at(step), whole[step - 10])
    blocks.select(torch.tensor([True, False, True]))
    for step in range(25, 40):
        assert torch.equal(blocks.at(step), whole[step - 10][[0, 2]])


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (1 << 64, 0), (0, -1), (0, 1 << 48)])
def test_counters_that_would_wrap_are_refused(seed, step):
    with pytest.raises(SimulationError, match="seed|steps"):
        normals(seed, torch.arange(2), step, 1, 3)
