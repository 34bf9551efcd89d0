"""The study of repaired files runs the package's calculator, and its page follows its numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes

from stablemd.potentials import HarmonicBonds
from stablemd.system import System

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import repair.own_dynamics as own_dynamics
from write_repair_study import BEGIN, END, PAGE, results, section

WATER = molecule("H2O")
BONDS = [[0, 1], [0, 2]]
LENGTHS = [0.97, 0.97]


class NoForces(Calculator):
    implemented_properties = ("energy", "forces")

    def calculate(
        self, atoms: Any = None, properties: Any = None, system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def run(calculator: Any, monkeypatch: pytest.MonkeyPatch) -> own_dynamics.OwnDynamics:
    monkeypatch.setattr(own_dynamics, "own_calculator", lambda package, path: calculator)
    return own_dynamics.run_in_ase(
        "nequip",
        Path("model.ckpt"),
        System.create(WATER.numbers, bonds=BONDS, bond_lengths=LENGTHS),
        WATER.positions,
        length_ps=0.2,
        temperature_k=300.0,
        dt_fs=0.5,
        friction_per_ps=1.0,
        bond_threshold=0.5,
        seed=0,
    )


def test_atoms_without_forces_fly_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(NoForces(), monkeypatch)
    assert found.failure is not None and found.failure.startswith("bond O0-H")
    assert 0.0 < found.reached_ps < 0.2 and found.n_steps == round(found.reached_ps * 2000)


def test_springs_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    springs = HarmonicBonds(bonds=BONDS, lengths=LENGTHS, stiffness=40.0, n_atoms=3)
    found = run(springs.double().calculator(), monkeypatch)
    assert found.failure is None and found.reached_ps == pytest.approx(0.2)


def test_the_page_has_what_was_measured() -> None:
    """Nothing by hand between the marks."""
    written = PAGE.read_text("utf-8").split(BEGIN)[1].split(END)[0]
    assert written.strip() == section(results()).strip()


def test_a_row_says_how_far_each_simulation_came() -> None:
    dynamics = {
        "calculator": "mace.calculators.mace.MACECalculator",
        "length_ps": 10.0,
        "reached_ps": 0.42,
        "failure": "bond C0-H3 at 1.70 Å",
        "n_steps": 420,
        "cpu_s": 4.2,
    }
    held = dynamics | {"reached_ps": 10.0, "failure": None, "n_steps": 10_000, "cpu_s": 50.0}
    measured = {
        "package": "mace-torch 0.3.16",
        "epochs": 7,
        "command": "stablemd train examples/mace.yaml",
        "files": {"before": "ethanol.model", "after": "stable.model"},
        "chosen_cycle": 1,
        "optimizer_steps": 12,
        "stop_reason": "stable",
        "candidates": [
            {"cycle": 0, "n_failed": 5, "time_ps": 8.0},
            {"cycle": 1, "n_failed": 0, "time_ps": 32.0},
        ],
        "n_replicas": 16,
        "seconds": {"repair": 90.0},
        "own_dynamics": {"before": [dynamics], "after": [held]},
        "hardware": "a processor, one core",
        "torch": "2.13.0",
        "date": "2026-01-01",
    }
    text = section({"mace": measured})
    assert "| stock file | 0.42 of 10 ps | bond C0-H3 at 1.70 Å | 10 |" in text
    assert "| repaired file | 10 of 10 ps | none | 5 |" in text
    assert "5 of 16 replicas failed within 8 ps" in text and "0 of 16 within 32 ps" in text
