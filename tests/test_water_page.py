"""The page on water says what its runs measured, and its conditions fit any configuration."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import get_args

import pytest

from stablemd.config import RunConfig
from stablemd.config_file import _absolute, load_config, read_yaml
from stablemd.data import read_frames, system_from_frames
from stablemd.errors import CheckpointError, MissingDependencyError
from stablemd.md.settings import DynamicsSettings
from stablemd.training.label_errors import energy_and_force_mae
from stablemd.workflows.models import load_model, start_model_path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from case_study.conditions import conditions
from water_page.numbers import median_step, read_long
from water_page.page import models_table, render
from water_page.reference import check_reference

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "case_studies" / "water.md"
PRETRAINING = {"n_parameters": 1, "n_epochs": 2, "stop_reason": "a reason"}


def example(name: str) -> RunConfig:
    path = ROOT / "examples" / name
    return RunConfig.from_values(_absolute(read_yaml(path), path.parent), str(path))


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "examples").glob("*.yaml")))
def test_conditions_of_every_example_can_be_put_into_words(name: str) -> None:
    try:
        config = example(name)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    rows = dict(conditions(config.to_values(), None if config.potential.has_model else PRETRAINING))
    assert all(rows.values())
    for choice in config.dynamics.detectors or ():
        limits = [v for k, v in choice.model_dump().items() if k != "name" and v is not None]
        assert any(f"{limit:,g}" in rows["failed in training"] for limit in limits)


@pytest.mark.parametrize("name", get_args(DynamicsSettings.model_fields["integrator"].annotation))
def test_every_integrator_has_a_name(name: str) -> None:
    values = example("water_schnet.yaml").to_values()
    values["evaluation"]["dynamics"]["integrator"] = name
    rows = dict(conditions(values, PRETRAINING))
    assert rows["thermostat in evaluation"] != "" and "_" not in rows["thermostat in evaluation"]


def test_the_localized_estimator_is_a_condition() -> None:
    def estimators(name: str) -> list[str]:
        return [
            v for k, v in conditions(example(name).to_values(), PRETRAINING) if k == "estimator"
        ]

    assert estimators("water_schnet.yaml") == ["localized, by molecule"]
    assert estimators("aspirin.yaml") == []


def test_models_without_failures_or_diffusion_get_a_limit_and_a_dash() -> None:
    stable = {"n_failed": 0, "n_replicas": 8, "mean_time_to_failure": None}
    row = {
        "model": "after",
        "stable_time_ps": {**stable, "mean_time_to_failure_ci95": [12.5, None]},
        "rdf": [{"mae": 0.25, "stderr": 0.03}] * 3,
        "diffusion": [{"value": 0.21, "stderr": 0.02}, {"value": None, "stderr": None}],
        "force_mae_ev_per_angstrom": 0.1,
    }
    fits: list[dict[str, object]] = [{"fit_ps": [0.5, 1.5]}, {"fit_ps": [2.0, 10.0]}]
    head, _, line = models_table([row], fits).splitlines()
    assert "D 0.5–1.5 ps" in head and "D 2–10 ps" in head
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == "0 of 8" and cells[2].startswith(">") and "12.5" in cells[2]
    assert cells[3] == "0.25 ± 0.03" and cells[6:8] == ["0.21 ± 0.02", "–"]
    short = [cell.strip() for cell in models_table([row]).splitlines()[-1].split("|")]
    assert short[1:-1] == [*cells[:3], cells[-1]]


def test_a_step_is_its_share_of_the_scale_before_it_which_every_phase_renews() -> None:
    def epoch(*steps: tuple[float, float]) -> dict[str, object]:
        made = [{"step_share": share, "rate_scale": scale} for share, scale in steps]
        return {"phase": "learn", "steps": made}

    simulation: dict[str, object] = {"phase": "simulate"}
    records = [simulation, epoch((0.5, 0.6), (1.0, 0.8)), epoch((0.25, 0.1)), simulation]
    # 0.5 of 1, then 1 of 0.6, then 0.25 of 0.8, and in the next phase 0.3 of 1
    assert median_step([*records, epoch((0.3, 0.2))]) == pytest.approx((0.3 + 0.5) / 2)
    assert median_step([simulation]) is None


def test_the_reference_frames_have_the_references_averages(shared_data: Path) -> None:
    folder = shared_data / "water"
    if not (folder / "water_2k_shuffled.npz").is_file():
        pytest.skip("the water data (../shared/data/water) are not at hand")
    check = check_reference(folder)
    for found in check["rdf"].values():
        assert found["within_two_errors"] > 0.85
        assert found["median_deviation_in_errors"] < 1.3
    d = check["diffusion"]
    assert 0.0 < d["stderr"] < 0.01
    assert abs(d["value"] - d["reference"]) < 2.5 * d["stderr"]


def test_the_checkpoint_of_others_is_taken_by_configuration(shared_data: Path) -> None:
    """Its force error is near the 13 meV/Å that it has on its own data, far below the forces."""
    folder = shared_data / "water"
    if not (folder / "mdsim_schnet_water_1k.pt").is_file():
        pytest.skip("the water data (../shared/data/water) are not at hand")
    config = load_config(
        ROOT / "examples" / "water_outside.yaml",
        overrides=[
            f"data.path={folder / 'water_2k_shuffled.npz'}",
            f"potential.path={folder / 'mdsim_schnet_water_1k.pt'}",
        ],
    )
    frames = read_frames(config.data.path, energy_unit="eV", index=":2")
    system = system_from_frames(frames)
    potential = load_model(start_model_path(config), config, system.n_atoms)
    potential.require_trainable()
    errors = energy_and_force_mae(potential, system, frames)
    assert errors.force_mae_ev_per_angstrom < 0.03 < 0.5 * float(frames.forces.abs().mean())


def test_the_page_follows_from_its_json_alone() -> None:
    assert render(json.loads(PAGE.with_suffix(".json").read_text("utf-8"))) == PAGE.read_text(
        "utf-8"
    )


def test_a_longer_evaluation_is_that_of_a_single_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="single model"):
        read_long(tmp_path)
