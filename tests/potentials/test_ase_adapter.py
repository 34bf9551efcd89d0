"""Any ASE calculator is sampled and evaluated, in this process or several."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from ase.calculators.lj import LennardJones
from torch import Tensor

from stablemd.config import RunConfig
from stablemd.data import read_frames, write_frames
from stablemd.demo import DATA_PATH
from stablemd.errors import ConfigError, PotentialError
from stablemd.potentials.adapters import FORMATS
from stablemd.potentials.adapters.ase import ASEPotential
from stablemd.rundir import RunDirectory
from stablemd.system import System
from stablemd.workflows import run_evaluate, run_pretrain, run_train

ARGUMENTS = {"sigma": 3.4, "epsilon": 0.01, "rc": 20.0}
CALCULATOR = functools.partial(LennardJones, **ARGUMENTS)


def cluster() -> tuple[System, Tensor]:
    base = torch.tensor([[0, 0, 0], [3.7, 0, 0], [0, 3.8, 0], [0, 0, 3.9]], dtype=torch.float64)
    noise = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return System.create(["Ar"] * 4), base + 0.1 * noise


def test_energies_and_forces_are_the_calculators() -> None:
    system, positions = cluster()
    energy, forces = ASEPotential(CALCULATOR, n_processes=1).energy_and_forces(system, positions)
    step = 1e-4
    shift = torch.zeros_like(positions)
    shift[:, 1, 2] = step
    potential = ASEPotential(CALCULATOR, n_processes=1)
    slope = (
        potential.energy(system, positions + shift) - potential.energy(system, positions - shift)
    ) / (2 * step)
    torch.testing.assert_close(forces[:, 1, 2], -slope, rtol=0, atol=1e-8)
    assert energy.shape == (5,) and float(energy.max()) < 0.0


def test_processes_give_the_same_numbers() -> None:
    system, positions = cluster()
    one = ASEPotential(CALCULATOR, n_processes=1).energy_and_forces(system, positions)
    two = ASEPotential(CALCULATOR, n_processes=2).energy_and_forces(system, positions)
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def test_a_broken_replica_stays_alone() -> None:
    system, positions = cluster()
    form = ASEPotential(CALCULATOR, n_processes=1).for_sampling(system)
    expected = form(positions)[0]
    positions[2, 0, 0] = float("nan")
    energy, forces = form(positions)
    assert bool(torch.isnan(energy[2])) and bool(torch.isnan(forces[2]).all())
    assert torch.equal(energy[[0, 1, 3, 4]], expected[[0, 1, 3, 4]])


def test_training_it_is_an_error_that_says_why() -> None:
    system, positions = cluster()
    with pytest.raises(PotentialError, match="not trained: a calculator gives"):
        ASEPotential(CALCULATOR).energy_and_forces(system, positions, create_graph=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"calculator": "LJ"}, "expected module:name"),
        ({"calculator": "ase.calculators.lj:Nothing"}, "can't be imported"),
        ({"calculator": "no_such_module:X"}, "can't be imported"),
        ({"calculator": "math:sqrt", "arguments": {"x": 1}}, "calling it with"),
        ({"calculators": "x"}, "calculators"),
        ({"calculator": "ase.calculators.lj:LennardJones", "n_processes": 0}, "n_processes is 0"),
    ],
)
def test_mistakes_in_the_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PotentialError, match=words):
        FORMATS["ase"].load(None, options)


def test_a_calculator_is_evaluated_by_configuration(tmp_path: Path) -> None:
    """A force field without bonds: the molecule falls apart, and the evaluation says so."""
    write_frames(tmp_path / "slice.npz", read_frames(DATA_PATH, index=":20"))
    config = RunConfig.from_values(
        {
            "data": {"path": str(tmp_path / "slice.npz"), "n_train": 5, "n_validation": 3},
            "potential": {
                "format": "ase",
                "options": {
                    "calculator": "ase.calculators.lj:LennardJones",
                    "arguments": {"sigma": 1.0, "epsilon": 0.01, "rc": 6.0},
                    "n_processes": 1,
                },
            },
            "evaluation": {
                "n_replicas": 2,
                "length_ps": 0.1,
                "record_every_fs": 5.0,
                "discard_fs": 5.0,
            },
            "threads": 1,
            "out": str(tmp_path / "run"),
        }
    )
    metrics = run_evaluate(config)
    assert metrics["model"]["stable_time_ps"]["n_failed"] == 2
    assert RunDirectory(config.out).report_path.is_file()
    with pytest.raises(PotentialError, match="not trained"):
        run_train(config)
    with pytest.raises(ConfigError, match="nothing to pretrain"):
        run_pretrain(config)
