"""Compiled dense layers against double precision, and the key of compiled code."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from stablemd.potentials.dense_kernels import (
    add_matrix_product,
    matrix_product,
    shifted_softplus,
)
from stablemd.potentials.float_vector import LANES, store, totals
from stablemd.potentials.kernel_cache import source_digest
from stablemd.potentials.schnet_kernels import advance_replicas, evaluate_replicas

RNG = np.random.default_rng(5)


def random(*shape: int) -> NDArray[np.float32]:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 21])
@pytest.mark.parametrize("vectors", [1, 3, 4, 7])
@pytest.mark.parametrize("adds", [False, True])
def test_matrix_product_is_exact_to_the_rounding_of_its_terms(
    rows: int, vectors: int, adds: bool
) -> None:
    width = vectors * LANES
    a, b, first, out = random(rows, 40), random(40, width), random(width), random(rows, width)
    product = add_matrix_product if adds else matrix_product
    begin = first + out.astype(np.float64) if adds else first
    exact = begin + a.astype(np.float64) @ b.astype(np.float64)
    # 42 terms, each rounded once: sum of the absolute terms times half a unit in the last place.
    bound = 42 * 2.0**-24 * (np.abs(out) + np.abs(first) + np.abs(a) @ np.abs(b))
    product(a, b, first, out)
    assert np.all(np.abs(out - exact) <= bound)


def test_a_row_of_a_product_does_not_depend_on_the_rows_beside_it() -> None:
    a, b, first = random(22, 64), random(64, 4 * LANES), random(4 * LANES)
    whole = np.empty((22, 4 * LANES), dtype=np.float32)
    matrix_product(a, b, first, whole)
    for row in (0, 7, 19, 21):
        alone = np.empty((1, 4 * LANES), dtype=np.float32)
        matrix_product(a[row : row + 1], b, first, alone)
        assert np.array_equal(alone[0], whole[row])


def test_softplus_and_its_slope_at_every_magnitude() -> None:
    magnitudes = np.concatenate([np.geomspace(1e-6, 300.0, 16 * LANES - 1), [0.0]])
    x = np.concatenate([-magnitudes, magnitudes]).astype(np.float32)
    value, slope = np.empty_like(x), np.empty_like(x)
    shifted_softplus(x, value, slope)
    exact = np.logaddexp(0.0, x.astype(np.float64)) - np.log(2.0)
    np.testing.assert_allclose(value, exact, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(slope, 0.5 * (1.0 + np.tanh(0.5 * x.astype(np.float64))), atol=2e-7)


def test_softplus_passes_on_what_is_not_a_number() -> None:
    x = np.zeros(LANES, dtype=np.float32)
    x[1], x[2] = np.nan, np.inf
    value, slope = np.empty_like(x), np.empty_like(x)
    shifted_softplus(x, value, slope)
    assert np.isnan(value[1]) and np.isnan(slope[1])
    assert value[2] == np.inf and slope[2] == 1.0
    assert np.isfinite(value[3:]).all()


def test_compiled_code_is_found_by_the_source_of_all_it_calls(tmp_path) -> None:
    paths = [tmp_path / "a.py", tmp_path / "b.py"]
    for path in paths:
        path.write_text("x = 1\n")
    before = source_digest(*map(str, paths))
    assert source_digest(*map(str, paths)) == before
    paths[1].write_text("x = 2\n")
    assert source_digest(*map(str, paths)) != before
    # numba's key on disk holds what a function closes over.
    for entry in (evaluate_replicas, advance_replicas):
        assert "digest" in entry.py_func.__code__.co_freevars


@pytest.mark.parametrize("module", ["schnet_kernels"])
def test_the_digest_covers_every_kernel_file_that_is_imported(module: str) -> None:
    """An imported file of kernels that the digest left out would serve stale code."""
    import importlib
    import inspect

    from numba.core.dispatcher import Dispatcher
    from numba.core.extending import _Intrinsic

    compiled = importlib.import_module(f"stablemd.potentials.{module}")
    source = inspect.getsource(compiled)
    listed = source[source.rindex("source_digest(") :]
    pending, seen = [compiled], set()
    while pending:
        current = pending.pop()
        for value in vars(current).values():
            if isinstance(value, Dispatcher):
                home = value.py_func.__module__
            elif isinstance(value, _Intrinsic):
                home = value._defn.__module__
            else:
                continue
            if home not in seen and home.startswith("stablemd."):
                seen.add(home)
                pending.append(importlib.import_module(home))
    assert len(seen) > 3
    for home in seen - {compiled.__name__}:
        assert home.rsplit(".", 1)[1] in listed, home


@numba.njit
def sum_rows(rows: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    for q in range(0, len(rows), LANES):
        store(out, q, totals(rows, q * LANES))


def test_totals_are_the_sums_of_consecutive_vectors_in_their_order() -> None:
    """Small whole numbers, whose sums have no rounding."""
    rows = RNG.integers(-99, 99, (3 * LANES, LANES)).astype(np.float32)
    out = np.zeros(3 * LANES, dtype=np.float32)
    sum_rows(rows, out)
    assert np.array_equal(out, rows.sum(axis=1))
