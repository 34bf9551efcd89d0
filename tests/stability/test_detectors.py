from __future__ import annotations

import ase.io
import numpy as np
import pytest
import torch
from ase.neighborlist import natural_cutoffs, neighbor_list

from stablemd import units
from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.stability import (
    BondLength,
    DetectorSet,
    KineticTemperature,
    NonFinite,
    make_detector,
    make_detectors,
)
from stablemd.system import System


@pytest.fixture
def water() -> System:
    return System.create(["O", "H", "H"], bonds=[(0, 1), (0, 2)], bond_lengths=[1.0, 0.9])


def replicas(*lengths: tuple[float, float]) -> torch.Tensor:
    """Water with the given O-H lengths along x and y, away from the origin."""
    positions = torch.full((len(lengths), 3, 3), 7.0, dtype=torch.float64)
    for r, (first, second) in enumerate(lengths):
        positions[r, 1, 0] += first
        positions[r, 2, 1] += second
    return positions


def still(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return positions, torch.zeros_like(positions), positions.new_zeros(len(positions))


def test_a_bond_fails_at_the_threshold_in_both_directions(water):
    detector = BondLength(water, threshold=0.5)
    seen = detector.detect(
        *still(replicas((1.0, 0.9), (1.0, 1.375), (1.0, 1.4375), (0.5, 0.9), (1.25, 0.2)))
    )
    assert seen.failed.tolist() == [False, False, True, True, True]
    assert seen.where.tolist()[1:] == [1, 1, 0, 1]
    assert seen.value.tolist()[2:] == pytest.approx([0.5375, -0.5, -0.7])
    assert (
        detector.describe(1, 0.5375)
        == "bond O0-H2 is 1.44 Å long, 0.54 Å from its reference mean 0.90 Å (limit 0.50 Å)"
    )
    assert "is 0.50 Å long, 0.50 Å from" in detector.describe(0, -0.5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_positions_that_are_not_finite_fail_everywhere(water, bad):
    positions = replicas((1.0, 0.9), (1.0, 0.9))
    positions[1, 2, 0] = bad
    for detector in (BondLength(water), NonFinite(water)):
        seen = detector.detect(*still(positions))
        assert seen.failed.tolist() == [False, True]
        assert "not finite" in detector.describe(
            int(seen.where[1]), float(seen.value[1])
        ) or "no finite length" in detector.describe(int(seen.where[1]), float(seen.value[1]))


def test_momenta_and_energies_that_are_not_finite_fail(water):
    positions, momenta, energies = still(replicas(*[(1.0, 0.9)] * 4))
    momenta[1, 2, 1] = torch.nan
    momenta[2, 0, 0] = -torch.inf
    energies[3] = torch.inf
    detector = NonFinite(water)
    seen = detector.detect(positions, momenta, energies)
    assert seen.failed.tolist() == [False, True, True, True]
    assert seen.where.tolist() == [-1, 2, 0, -1]
    assert detector.describe(2, 0.0) == "position or momentum of atom H2 is not finite"
    assert detector.describe(-1, 0.0) == "the potential energy is not finite"


def test_the_temperature_limit_is_2k_over_3n_kb(water):
    detector = KineticTemperature(water, max_temperature_k=1000.0)
    positions, momenta, energies = still(replicas(*[(1.0, 0.9)] * 3))
    for r, temperature in enumerate((999.0, 1001.0)):
        # All the energy in one component of the oxygen atom.
        momenta[r, 0, 2] = (9 * units.KB * temperature * water.masses[0]) ** 0.5
    momenta[2, 1, 1] = torch.nan
    seen = detector.detect(positions, momenta, energies)
    assert seen.failed.tolist() == [False, True, True]
    assert seen.value.tolist()[:2] == pytest.approx([999.0, 1001.0])
    assert detector.describe(-1, 1234.4) == "kinetic temperature is 1234 K (limit 1000 K)"


def test_a_set_reports_the_first_detector_that_fails(water):
    detectors = make_detectors(
        {
            "nonfinite": {},
            "bond_length": {"threshold": 0.3},
            "temperature": {"max_temperature_k": 10.0},
        },
        water,
    )
    positions, momenta, energies = still(replicas((1.0, 0.9), (1.5, 0.9), (1.0, 0.9), (1.5, 0.9)))
    momenta[1:3, 1] = 1.0
    energies[3] = torch.nan
    seen = detectors.detect(positions, momenta, energies)
    assert seen.failed.tolist() == [False, True, True, True]
    assert seen.detector.tolist() == [-1, 1, 2, 0]
    assert seen.where.tolist() == [-1, 0, -1, -1]
    assert seen.value[1] == pytest.approx(0.5)
    assert bool(seen.value[0].isnan())
    reasons = detectors.explain(seen, [1, 2, 3])
    assert [reason for reason, _ in reasons] == ["bond_length", "temperature", "nonfinite"]
    assert reasons[0][1].startswith("bond O0-H1 is 1.50 Å long")


def test_impossible_detectors_are_refused(water):
    with pytest.raises(ConfigError, match="unknown detector 'bonds'.*bond_length"):
        make_detector("bonds", water)
    with pytest.raises(ConfigError, match="no option.*limit.*threshold"):
        make_detector("bond_length", water, limit=0.5)
    with pytest.raises(ConfigError, match="threshold"):
        make_detector("bond_length", water, threshold=0.0)
    with pytest.raises(ConfigError, match="max_temperature_k"):
        make_detector("temperature", water, max_temperature_k=float("nan"))
    with pytest.raises(SystemDefinitionError, match="needs bonds"):
        make_detector("bond_length", System.create(["H"]))
    with pytest.raises(ConfigError, match="no stability detector"):
        DetectorSet([])


def test_real_thermal_motion_raises_no_alarm(shared_data):
    path = shared_data / "trajectories" / "aspirin_dimenet_500K.traj"
    if not path.exists():
        pytest.skip(f"the trajectory {path.name} is not at hand")
    images = ase.io.read(path, index=":")
    positions = torch.from_numpy(np.stack([image.positions for image in images]))
    momenta = torch.from_numpy(np.stack([image.get_momenta() for image in images]))
    energies = torch.tensor([image.get_potential_energy() for image in images])
    first = images[0]
    i, j = neighbor_list("ij", first, natural_cutoffs(first, mult=1.2))
    bonds = np.stack([i[i < j], j[i < j]], axis=1)
    assert len(bonds) == 21
    lengths = torch.linalg.vector_norm(
        positions[:100, bonds[:, 0]] - positions[:100, bonds[:, 1]], dim=2
    ).mean(0)
    system = System.create(first.numbers, bonds=bonds, bond_lengths=lengths)
    detectors = make_detectors({"nonfinite": {}, "bond_length": {}, "temperature": {}}, system)
    assert not detectors.detect(positions, momenta, energies).failed.any()
    temperature = make_detector("temperature", system).detect(positions, momenta, energies).value
    expected = [image.get_temperature() for image in images]
    assert temperature.tolist() == pytest.approx(expected, rel=1e-6)
    # One hydrogen pulled off by 0.6 Å along its bond, in one frame of 754.
    carbon, hydrogen = next(b for b in bonds.tolist() if first.numbers[b].tolist() == [6, 1])
    stretched = positions[300, hydrogen] - positions[300, carbon]
    positions[300, hydrogen] += 0.6 * stretched / stretched.norm()
    seen = detectors.detect(positions, momenta, energies)
    assert torch.nonzero(seen.failed).flatten().tolist() == [300]
    ((reason, sentence),) = detectors.explain(seen, [300])
    assert reason == "bond_length"
    assert sentence.startswith(f"bond C{carbon}-H{hydrogen} is")
