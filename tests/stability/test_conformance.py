"""Laws that every detector in the registry obeys."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch.utils._python_dispatch import TorchDispatchMode

from stablemd.errors import SystemDefinitionError
from stablemd.stability import DETECTORS, Detector
from stablemd.stability.settings import DetectorSettings
from tests.stability.conftest import Example, box, molecule

ANY: TypeAdapter[Any] = TypeAdapter(DetectorSettings)
Case = tuple[Detector, Example]


def cases(name: str) -> Iterator[Case]:
    choice = ANY.validate_python({"name": name})
    for example in (molecule(), box()):
        try:
            yield choice.build(example.system, example.reference), example
        except SystemDefinitionError:
            continue


@pytest.fixture(params=sorted(DETECTORS))
def applicable(request: pytest.FixtureRequest) -> list[Case]:
    found = list(cases(request.param))
    assert found, f"{request.param} applies to none of the example systems"
    for detector, _ in found:
        assert type(detector) is DETECTORS[request.param]
        assert detector.reason == request.param
    return found


def test_thermal_structures_pass(applicable: list[Case]) -> None:
    for detector, example in applicable:
        before = example.positions.clone()
        seen = example.detect(detector.for_run())
        assert seen.failed.dtype == torch.bool
        assert seen.value.dtype == torch.float64
        assert seen.where.dtype == torch.int64
        n = len(example.positions)
        assert seen.failed.shape == seen.value.shape == seen.where.shape == (n,)
        assert not seen.failed.any()
        assert torch.equal(before, example.positions)
        sentence = detector.describe(int(seen.where[0]), float(seen.value[0]))
        assert isinstance(sentence, str) and len(sentence) > 10


def test_replicas_do_not_see_each_other(applicable: list[Case]) -> None:
    for detector, example in applicable:
        together = example.detect(detector.for_run())
        cells = None if example.cells is None else example.cells[3:4]
        alone = Example(example.system, example.positions[3:4], cells).detect(detector.for_run())
        torch.testing.assert_close(alone.value[0], together.value[3], rtol=1e-12, atol=1e-12)
        assert alone.where[0] == together.where[3]


def test_nan_everywhere_is_a_failure(applicable: list[Case]) -> None:
    for detector, example in applicable:
        nan = torch.full_like(example.positions, torch.nan)
        rest = {"momenta": nan, "energies": nan[:, 0, 0], "forces": nan, "conserved": nan[:, 0, 0]}
        seen = example.detect(detector.for_run(), nan, **rest)
        assert seen.failed.all()
        assert isinstance(detector.describe(int(seen.where[0]), float(seen.value[0])), str)


def test_wrapping_each_atom_on_its_own_changes_nothing(applicable: list[Case]) -> None:
    generator = torch.Generator().manual_seed(4)
    for detector, example in applicable:
        if example.cells is None:
            continue
        turns = torch.randint(-3, 4, example.positions.shape, generator=generator).double()
        # Not the reference itself, whose extremes lie equally close to their limits.
        x = example.positions + 1e-3 * torch.cos(7.0 * example.positions)
        seen = example.detect(detector.for_run(), x)
        moved = example.detect(detector.for_run(), x + turns @ example.cells)
        torch.testing.assert_close(moved.value, seen.value, rtol=1e-9, atol=1e-9)


def test_every_limit_is_printed_with_its_origin(applicable: list[Case]) -> None:
    for detector, _ in applicable:
        for threshold in detector.thresholds:
            text = str(threshold)
            assert threshold.name in text
            assert text.endswith("(given)") or "structures of the reference" in text


class _NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for a device."""

    waits = ("_local_scalar_dense", "nonzero", "masked_select", "_linalg_det", "linalg_inv_ex")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in self.waits, f"{name} waits for the device"
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device(applicable: list[Case]) -> None:
    for detector, example in applicable:
        own = detector.for_run()
        with _NoWaiting():
            example.detect(own)
            example.detect(own)


def test_what_has_a_memory_says_so(applicable: list[Case]) -> None:
    """A long run may be divided where no detector has one."""
    for detector, example in applicable:
        assert (detector.for_run() is not detector) == detector.has_memory
        if not detector.has_memory:
            ones = example.positions.new_ones(len(example.positions))
            example.detect(detector, example.positions + 0.3, conserved=1e3 * ones)
            after = example.detect(detector)
            assert torch.equal(after.value, example.detect(copy.deepcopy(detector)).value)


def test_a_run_has_a_memory_of_its_own(applicable: list[Case]) -> None:
    """What one run has seen changes nothing for another, and replicas may leave."""
    for detector, example in applicable:
        first, second = detector.for_run(), detector.for_run()
        ones = example.positions.new_ones(len(example.positions))
        example.detect(first, conserved=1e3 * ones)
        seen = example.detect(second)
        assert not seen.failed.any()
        keep = torch.arange(12) % 3 != 0
        second.keep(keep)
        cells = None if example.cells is None else example.cells[keep]
        rest = Example(example.system, example.positions[keep], cells).detect(second)
        torch.testing.assert_close(rest.value, seen.value[keep], rtol=1e-9, atol=1e-9)
