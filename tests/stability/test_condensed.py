"""Detectors of condensed systems: what they see, and what they learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.geometry import PairSelection, frame_cells
from stablemd.md import initial_state, make_integrator, simulate
from stablemd.md.settings import DynamicsSettings
from stablemd.stability import (
    Coordination,
    DetectorSet,
    DistanceWindow,
    EnergyDrift,
    IntermolecularDistance,
    MaximumForce,
    RdfDrift,
    ReferenceStructures,
    Threshold,
)
from stablemd.system import System
from tests.md.conftest import Cliff
from tests.stability.conftest import box, molecule


def test_molecules_that_meet_across_the_boundary_fail_and_are_named() -> None:
    example = box()
    x = example.positions.clone()
    # Atom H4 of the second molecule is put 1 Å from O0 of the first, one cell away.
    cells = example.cells
    assert cells is not None
    x[5, 4] = x[5, 0] + torch.tensor([0.0, 0.0, -1.0]) + 2.0 * cells[5, 1]
    detector = IntermolecularDistance(example.system, min_distance=1.2)
    seen = example.detect(detector, x)
    assert seen.failed.tolist() == [f == 5 for f in range(12)]
    assert seen.value[5] == pytest.approx(1.0)
    sentence = detector.describe(int(seen.where[5]), float(seen.value[5]))
    assert sentence == "atoms O0-H4 of different molecules are 1.00 Å apart (limit 1.20 Å)"


@pytest.mark.parametrize("pbc", [True, [True, False, True], False])
def test_the_compiled_search_finds_what_tensors_find(pbc) -> None:
    """Two routes to the same pair, for cells that are skewed and partly periodic."""
    example = box()
    assert example.cells is not None
    system = System.create(
        example.system.numbers,
        cell=example.system.cell.numpy() if pbc else None,
        pbc=pbc,
        molecule_ids=example.system.molecule_ids,
    )
    detector = IntermolecularDistance(system, min_distance=1e-3)
    x = example.positions + 0.4 * torch.randn(
        example.positions.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )
    cells = frame_cells(system, x, example.cells if pbc else None)
    distances, places = detector._shortest_on_cpu(x, cells)
    expected, expected_places = detector._shortest_in_pieces(x, cells)
    torch.testing.assert_close(distances, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(places, expected_places) and len(places.unique()) > 3
    x[2, 1, 0] = torch.nan
    assert detector._shortest_on_cpu(x, cells)[0].isnan().nonzero().flatten().tolist() == [2]


def test_pairs_within_a_molecule_never_count() -> None:
    example = box()
    x = example.positions.clone()
    x[:, 2] = x[:, 1] + 0.3  # both hydrogens of the first molecule nearly on each other
    detector = IntermolecularDistance(example.system, min_distance=1.2)
    assert not example.detect(detector, x).failed.any()
    with pytest.raises(SystemDefinitionError, match=r"1 molecules.*between different molecules"):
        IntermolecularDistance(molecule().system, min_distance=1.2)


def test_a_cell_that_shrinks_below_the_limit_fails() -> None:
    example = box()
    assert example.cells is not None
    cells = example.cells.clone()
    cells[3, 0] *= 0.2
    detector = IntermolecularDistance(example.system, min_distance=1.2)
    (seen,) = (
        DetectorSet([detector])
        .detect(example.positions, example.positions, example.positions[:, 0, 0], cells)
        .parts
    )
    assert bool(seen.failed[3]) and int(seen.where[3]) == -1
    assert "cell has shrunk" in detector.describe(-1, 0.0)
    with pytest.raises(ConfigError, match="half the distance"):
        IntermolecularDistance(example.system, min_distance=4.5)


def test_learnt_limits_stand_a_margin_beyond_the_reference() -> None:
    example = box()
    boxes = frame_cells(example.system, example.positions, example.cells)
    pairs = PairSelection.of(example.system, intramolecular=False)
    shortest = pairs.distances(example.positions, boxes, example.system.pbc).amin(dim=1)
    learnt = IntermolecularDistance.from_reference(example.system, example.reference, margin=0.4)
    (limit,) = learnt.thresholds
    assert limit.value == pytest.approx(float(shortest.min()) - 0.4)
    assert "12 structures of the reference" in str(limit) and "margin of 0.4 Å" in str(limit)
    quarter = IntermolecularDistance.from_reference(
        example.system, example.reference, quantile=0.25, margin=0.0
    )
    failed = example.detect(quarter).failed
    assert int(failed.sum()) == 3  # a quarter of the twelve
    assert "quantile 0.25" in str(quarter.thresholds[0])


@pytest.mark.parametrize("make", [molecule, box])
def test_the_distance_window_sees_broken_bonds_and_collisions_without_chemistry(make) -> None:
    example = make()
    bare = System.create(
        example.system.numbers, cell=example.system.cell, pbc=example.system.pbc
    )  # neither bonds nor molecules
    assert not len(bare.bonds)
    detector = DistanceWindow.from_reference(bare, example.reference, margin=0.2)
    assert not example.detect(detector).failed.any()
    bond = example.positions[4, 1] - example.positions[4, 0]
    torn, pushed = example.positions.clone(), example.positions.clone()
    torn[4, 1] += 0.5 * bond / bond.norm()
    pushed[4, 1] -= 0.4 * bond / bond.norm()
    for x, word in ((torn, 1.47), (pushed, 0.57)):
        seen = example.detect(detector, x)
        assert seen.failed.tolist() == [f == 4 for f in range(12)]
        assert float(seen.value[4]) == pytest.approx(word, abs=0.2)
        sentence = detector.describe(int(seen.where[4]), float(seen.value[4]))
        assert ("nearest" in sentence and "H1" in sentence) or "O0" in sentence
    # limits are the reference's own extremes, moved by the margin
    texts = [str(t) for t in detector.thresholds]
    assert any("longest distance from H to its nearest O" in t for t in texts)


def test_a_window_is_needed_for_every_pair_of_elements() -> None:
    limits = (Threshold("low", 0.5, "Å"), None)
    with pytest.raises(ConfigError, match="nearest O of H"):
        DistanceWindow(molecule().system, windows={("H", "H"): limits})


def test_coordination_counts_neighbours() -> None:
    example = box()
    detector = Coordination(example.system, cutoff=1.3, lowest=2, highest=2, pair=("O", "H"))
    assert not example.detect(detector).failed.any()
    x = example.positions.clone()
    x[2, 4] += 1.5 * (x[2, 4] - x[2, 3])
    x[7, 4] = x[7, 0] + torch.tensor([-0.7, -0.7, 0.0])
    seen = example.detect(detector, x)
    assert seen.failed.tolist() == [f in (2, 7) for f in range(12)]
    assert seen.value[2] == 1.0
    assert detector.describe(int(seen.where[2]), 1.0) == (
        "atom O3 has 1 H within 1.30 Å (limits 2 to 2)"
    )
    learnt = Coordination.from_reference(
        example.system, example.reference, cutoff=1.3, pair=("O", "H"), margin=0.0
    )
    assert [t.value for t in learnt.thresholds] == [2.0, 2.0]


def test_the_largest_force_is_found() -> None:
    example = molecule()
    detector = MaximumForce(example.system, max_force=20.0)
    forces = torch.zeros_like(example.positions)
    forces[6, 2] = torch.tensor([12.0, 16.0, 0.0])
    forces[7, 1, 1] = 19.99
    seen = example.detect(detector, forces=forces)
    assert seen.failed.tolist() == [f == 6 for f in range(12)]
    assert detector.describe(int(seen.where[6]), float(seen.value[6])) == (
        "the force on atom H2 is 20.0 eV/Å (limit 20.0 eV/Å)"
    )
    largest = float(example.reference.forces.norm(dim=2).max())
    (limit,) = MaximumForce.from_reference(example.system, example.reference, margin=3.0).thresholds
    assert limit.value == pytest.approx(largest + 3.0)
    with pytest.raises(ConfigError, match="has none"):
        MaximumForce.from_reference(example.system, ReferenceStructures(example.positions))


def test_the_structure_drifts_over_a_window() -> None:
    """Molecules scattered at random are told from the grid once the window is full."""
    example = box()
    detector = RdfDrift.from_reference(
        example.system, example.reference, window=4, margin=0.5, n_bins=30
    )
    generator = torch.Generator().manual_seed(5)
    centres = torch.rand(2, 8, 1, 3, generator=generator, dtype=torch.float64) @ example.system.cell

    def now(check: int) -> Tensor:
        """Two thermal replicas and the same molecules at random places."""
        thermal = example.positions[[check, check + 3]]
        molecules = thermal.reshape(2, 8, 3, 3)
        gas = (molecules - molecules[:, :, :1] + centres).reshape(2, 24, 3)
        return torch.cat([thermal, gas])

    own, fewer = detector.for_run(), detector.for_run()
    keep = torch.tensor([True, False, False, True])
    for check in range(8):
        x = now(check)
        seen = own.detect(x, x, x[:, 0, 0])
        assert seen.failed.tolist() == [False, False, check >= 3, check >= 3]
        x = x if check < 3 else x[keep]
        rest = fewer.detect(x, x, x[:, 0, 0])
        if check == 2:
            fewer.keep(keep)
        if check >= 3:
            assert rest.failed.tolist() == [False, True]
            torch.testing.assert_close(rest.value, seen.value[keep])


def test_energy_drift_ends_a_run_whose_step_is_too_long() -> None:
    """Falling over the cliff, the step becomes too long for one replica; a second run is new."""
    atoms = System.create(["Ar"] * 3)
    generator = torch.Generator().manual_seed(3)
    start = 0.1 * torch.randn(4, 3, 3, generator=generator, dtype=torch.float64)
    start[1, 0, 0] = 2.6  # beyond the edge of the cliff: falls, at constant energy
    form = Cliff()
    state = initial_state(atoms, start, form, temperature_k=50.0, seed=4)
    drift = EnergyDrift(atoms, max_drift=0.01)
    result = simulate(
        form, state, make_integrator("nve", dt_fs=8.0, temperature_k=50.0), [drift], atoms,
        n_steps=400, seed=4, check_every=1,
    )  # fmt: skip
    assert result.reasons == [None, "energy_drift", None, None]
    assert "conserved energy has changed" in (result.details[1] or "")
    again = simulate(
        form, state, make_integrator("nve", dt_fs=8.0, temperature_k=50.0), [drift], atoms,
        n_steps=400, seed=4, check_every=1,
    )  # fmt: skip
    assert torch.equal(again.failed_step, result.failed_step)


def test_settings_make_the_detectors_that_they_name() -> None:
    example = box()
    how = DynamicsSettings.model_validate(
        {
            "integrator": "nve",
            "detectors": [
                {"name": "intermolecular_distance", "min_distance": 1.2},
                {"name": "distance_window"},
                {"name": "max_force", "max_force": 50.0},
                {"name": "energy_drift"},
            ],
        }
    )
    made = how.make_detectors(example.system, example.reference)
    assert [d.reason for d in made.detectors] == [
        "nonfinite", "intermolecular_distance", "distance_window", "max_force", "energy_drift",
    ]  # fmt: skip
    assert made.needs == {"forces", "conserved"}
    assert "intermolecular_distance: min_distance = 1.2 Å (given)" in made.thresholds
    with pytest.raises(ConfigError, match="learns its threshold from reference structures"):
        how.make_detectors(example.system)


@pytest.mark.parametrize(("quantile", "margin"), [(0.6, 0.0), (-0.1, 0.0), (0.0, -1.0)])
def test_impossible_quantiles_are_refused(quantile: float, margin: float) -> None:
    example = box()
    with pytest.raises(ConfigError, match="quantile must be"):
        IntermolecularDistance.from_reference(
            example.system, example.reference, quantile=quantile, margin=margin
        )


def test_limits_that_do_not_fit_the_cell_are_refused() -> None:
    system = box().system
    with pytest.raises(ConfigError, match="lattice planes"):
        Coordination(system, cutoff=5.0, lowest=0, highest=9)
    with pytest.raises(ConfigError, match="lattice planes"):
        RdfDrift(system, reference=torch.zeros(10), max_error=1.0, r_max=5.0)
    with pytest.raises(ConfigError, match="lowest <= highest"):
        Coordination(system, cutoff=2.0, lowest=3, highest=2)
    with pytest.raises(SystemDefinitionError, match="distance_window"):
        RdfDrift(molecule().system, reference=torch.zeros(10), max_error=1.0)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize("spacing", [2.4, 5.5])
def test_the_search_in_large_systems_finds_the_pair_that_a_look_at_all_finds(
    pbc: tuple[bool, bool, bool], spacing: float
) -> None:
    n_side = 10
    generator = torch.Generator().manual_seed(6)
    grid = torch.cartesian_prod(*[torch.arange(n_side).double()] * 3) * spacing
    x = grid + 0.3 * torch.randn(3, n_side**3, 3, generator=generator, dtype=torch.float64)
    x[2, 400] = torch.nan
    cell = n_side * spacing * (torch.eye(3) + 0.1 * torch.tril(torch.ones(3, 3), -1)).double()
    periodic = any(pbc)
    system = System.create(
        ["Ar"] * n_side**3,
        cell=cell.numpy() if periodic else None,
        pbc=pbc if periodic else False,
        molecule_ids=np.arange(n_side**3) // 2,
    )
    x += torch.randint(-3, 4, (1, n_side**3, 1), generator=generator) * cell[0] * float(pbc[0])
    detector = IntermolecularDistance(system, min_distance=1.0)
    boxes = cell.expand(3, 3, 3) if periodic else None
    distance, place = detector._shortest(x, boxes)
    pairs = detector._pairs
    expected, where = detector._shortest_of(x, boxes, pairs.first, pairs.second)
    assert torch.equal(distance[:2], expected[:2])
    assert torch.equal(place[:2], where[:2])
    assert bool(distance[2].isnan()) and bool(expected[2].isnan())
    assert detector.detect(x, x, x[:, 0, 0], boxes).failed.tolist()[2]
