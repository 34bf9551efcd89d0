"""Laws of neighbourhoods, centring, and stratified samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.estimators import (
    CENTRINGS,
    NEIGHBOURHOODS,
    centred,
    make_neighbourhoods,
    neighbourhoods,
    stratified_coefficients,
)
from stablemd.system import System

OPTIONS: dict[str, dict[str, object]] = {
    "molecule": {},
    "bond": {},
    "nearest": {"k": 2},
    "within": {"radius": 1.5},
    "given": {"groups": [[0], [1, 2, 5], [3, 4]]},
}


@pytest.fixture
def waters() -> System:
    """Two waters and a hydrogen molecule."""
    bonds = [(0, 1), (0, 2), (3, 4), (3, 5), (6, 7)]
    return System.create(
        ["O", "H", "H", "O", "H", "H", "H", "H"], bonds=bonds, bond_lengths=[1] * 5
    )


def positions(n: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 2.0 * torch.randn(n, 8, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", sorted(NEIGHBOURHOODS))
def test_spreading_is_the_adjoint_of_summing(waters: System, name: str) -> None:
    """Σ_ik c_ik Σ_{a in k} ε_ia = Σ_ia (Σ_{k with a} c_ik) ε_ia."""
    around = make_neighbourhoods(name, waters, **OPTIONS[name])(positions(), None)
    generator = torch.Generator().manual_seed(1)
    atomic = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    coefficients = torch.randn(6, len(around), generator=generator, dtype=torch.float64)
    left = (coefficients * around.sum_atoms(atomic)).sum()
    right = (around.spread_to_atoms(coefficients, 8) * atomic).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-12)
    one = around.select_frames(torch.tensor([4]))
    assert torch.equal(one.sum_atoms(atomic[4:5]), around.sum_atoms(atomic)[4:5])


def test_molecules_partition_the_energy_and_like_ones_are_pooled(waters: System) -> None:
    around = make_neighbourhoods("molecule", waters)(positions(), None)
    atomic = torch.arange(8, dtype=torch.float64)[None]
    assert around.sum_atoms(atomic).tolist() == [[3.0, 12.0, 13.0]]
    assert around.kind.tolist() == [0, 0, 1] and around.n_kinds == 2


def test_bonds_of_one_kind_are_those_at_the_same_place(waters: System) -> None:
    around = make_neighbourhoods("bond", waters)(positions(), None)
    assert around.kind.tolist() == [0, 1, 0, 1, 2]


def test_nearest_and_within_are_what_distances_say(waters: System) -> None:
    x = positions()
    near = make_neighbourhoods("nearest", waters, k=3)(x, None).atoms
    inside = make_neighbourhoods("within", waters, radius=2.5)(x, None).atoms
    for frame in range(len(x)):
        for atom in range(8):
            distance = (x[frame] - x[frame, atom]).norm(dim=1)
            assert near[frame, atom].tolist() == distance.argsort()[:4].tolist()
            expected = set(torch.nonzero(distance < 2.5).flatten().tolist())
            found = inside[frame, atom]
            assert set(found[found >= 0].tolist()) == expected


@pytest.mark.parametrize(("name", "options"), [("nearest", {"k": 3}), ("within", {"radius": 2.5})])
def test_frames_in_parts_have_the_same_neighbourhoods(
    waters: System, name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = make_neighbourhoods(name, waters, **options)
    whole = rule(positions(), None).atoms
    monkeypatch.setattr(neighbourhoods, "PAIRS_AT_A_TIME", 1)
    assert torch.equal(rule(positions(), None).atoms, whole)


@pytest.mark.parametrize(
    ("name", "options"),
    [("molecule", {}), ("bond", {}), ("nearest", {"k": 3}), ("within", {"radius": 2.5})],
)
def test_no_frames_have_no_neighbourhoods(
    waters: System, name: str, options: dict[str, Any]
) -> None:
    around = make_neighbourhoods(name, waters, **options)(positions()[:0], None)
    assert around.sum_atoms(torch.zeros(0, 8, dtype=torch.float64)).shape == (0, len(around))


def test_nearest_images_count_where_there_is_a_cell() -> None:
    """Two atoms at opposite faces of a sheared cell are neighbours through the boundary."""
    cell = torch.tensor([[10.0, 0, 0], [3.0, 9.0, 0], [0, 0, 11.0]], dtype=torch.float64)
    system = System.create(["H"] * 3, cell=cell, pbc=True)
    x = torch.tensor([[[0.2, 0.1, 0.3], [0.5, 4.5, 5.0], [0.1, -0.2, 0.0]]], dtype=torch.float64)
    x[:, 2] += cell.sum(dim=0)
    near = make_neighbourhoods("nearest", system, k=1)(x, None).atoms[0]
    assert near[0].tolist() == [0, 2] and near[2].tolist() == [2, 0]
    inside = make_neighbourhoods("within", system, radius=1.0)(x, 2.0 * cell[None]).atoms[0]
    assert (inside >= 0).sum(dim=1).tolist() == [1, 1, 1]  # in a larger cell they are not


def test_refuses_bad_rules(waters: System) -> None:
    cases = [
        ("shell", {}, "unknown neighbourhoods 'shell'"),
        ("nearest", {}, r"missing: \['k'\]"),
        ("molecule", {"k": 2}, r"unknown: \['k'\]"),
        ("nearest", {"k": 8}, "between 1 and 7"),
        ("within", {"radius": 0.0}, "must be positive"),
    ]
    for name, options, words in cases:
        with pytest.raises(ConfigError, match=words):
            make_neighbourhoods(name, waters, **options)
    with pytest.raises(SystemDefinitionError, match=r"within 0\.\.7"):
        make_neighbourhoods("given", waters, groups=[[0, 8]])
    with pytest.raises(SystemDefinitionError, match="need bonds"):
        make_neighbourhoods("bond", System.create(["H", "H"]))


@pytest.mark.parametrize("centring", CENTRINGS)
def test_centred_values_sum_to_zero_and_ignore_a_shift(centring: str) -> None:
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(40, generator=generator, dtype=torch.float64)
    weights = torch.rand(40, generator=generator, dtype=torch.float64)
    weights = weights / weights.sum()
    group = torch.arange(40) % 5
    found = centred(values, weights, group, centring)  # type: ignore[arg-type]
    shifted = centred(values + 7.0, weights, group, centring)  # type: ignore[arg-type]
    assert abs(float(weights @ found)) < 1e-15
    torch.testing.assert_close(found, shifted, rtol=0, atol=1e-13)


def test_leaving_the_own_replica_out_is_unbiased_for_frozen_replicas() -> None:
    """Ten equal frames per replica: pooling takes 50 frames for independent, which 5 are."""
    generator = torch.Generator().manual_seed(3)
    group = torch.arange(5).repeat_interleave(10)
    weights = torch.full((50,), 1 / 50, dtype=torch.float64)
    found: dict[str, list[float]] = {"pooled": [], "leave_one_out": []}
    for _ in range(2000):
        x = torch.randn(5, generator=generator, dtype=torch.float64)[group]
        for name, values in found.items():
            y = centred(x, weights, group, name)  # type: ignore[arg-type]
            values.append(float(weights @ (y * x)))  # the variance of x, which is 1
    # A variance from 5 values scatters by sqrt(2/4).
    error = 3 * (2 / 4 / 2000) ** 0.5
    means = {name: sum(values) / 2000 for name, values in found.items()}
    assert means["leave_one_out"] == pytest.approx(1.0, abs=error)
    assert means["pooled"] == pytest.approx(50 / 49 * 4 / 5, abs=error)


def test_own_replica_as_control_variate_removes_differences_between_replicas() -> None:
    generator = torch.Generator().manual_seed(4)
    group = torch.arange(200) % 8
    fast = torch.randn(200, generator=generator, dtype=torch.float64)
    weights = torch.full((200,), 1 / 200, dtype=torch.float64)
    y = centred(fast + 100.0 * group, weights, group, "replica")
    expected = centred(fast, weights, group, "replica")
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-11)


def test_centring_refuses_what_it_can_not_do() -> None:
    values, weights = torch.randn(6).double(), torch.full((6,), 1 / 6).double()
    with pytest.raises(ConfigError, match="unknown centring 'none'"):
        centred(values, weights, torch.zeros(6), "none")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="several frames per replica"):
        centred(values, weights, torch.arange(6), "replica")
    with pytest.raises(ConfigError, match="compares replicas"):
        centred(values, weights, torch.zeros(6), "leave_one_out")


def heavy_tailed() -> torch.Tensor:
    c = torch.randn(150, generator=torch.Generator().manual_seed(5), dtype=torch.float64) ** 3
    return c - c.mean()


def test_stratified_coefficients_are_right_on_average_and_their_sum_always() -> None:
    c = heavy_tailed()
    probes = torch.randn(150, 12, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    found = []
    for seed in range(400):
        kept = stratified_coefficients(c, 30, seed=seed)
        assert int((kept != 0).sum()) <= 30
        assert abs(float(kept.sum())) < 1e-9
        found.append(kept @ probes)
    sums = torch.stack(found)
    stderr = sums.std(dim=0) / 20
    # 12 sums: 3.5 standard errors leave a chance of 0.6 %.
    assert bool(((sums.mean(dim=0) - c @ probes).abs() < 3.5 * stderr).all())


def test_stratified_samples_favour_large_deviations() -> None:
    c = heavy_tailed()
    kept = stratified_coefficients(c, 30, seed=0) != 0
    flat = stratified_coefficients(c, 30, seed=0, importance=False)
    for chosen in (kept, flat != 0):
        assert float(c[chosen].abs().mean()) > 2.0 * float(c.abs().mean())
    assert abs(float(flat.sum())) < 1e-9
    assert torch.equal(stratified_coefficients(c, 150), c)
    with pytest.raises(ConfigError, match="n_max >= 2"):
        stratified_coefficients(c, 1)
