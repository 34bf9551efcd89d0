"""Further state points of a configuration: what they share with the main one, and mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stablemd.config import RunConfig
from stablemd.config_file import load_config
from stablemd.errors import ConfigError

BASE: dict[str, Any] = {
    "data": {"path": "frames.npz", "n_train": 20, "n_validation": 5, "split_seed": 3},
    "dynamics": {"temperature_k": 500.0, "check_every": 5},
    "stable": {"n_replicas": 8, "dynamics": {"friction_per_ps": 7.0}},
    "evaluation": {"dynamics": {"bond_threshold": 0.25}},
    "state_points": [
        {"name": "cold", "dynamics": {"temperature_k": 300}},
        {
            "name": "toluene",
            "data": {"path": "toluene.npz", "n_train": 50},
            "observables": [{"name": "bond_excess"}],
        },
    ],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in ("frames.npz", "toluene.npz"):
        (tmp_path / name).write_bytes(b"")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(BASE))
    return path


def with_points(*points: Any, **changes: Any) -> dict[str, Any]:
    return {**BASE, **changes, "state_points": list(points)}


def problem(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        RunConfig.from_values(values)
    return str(error.value)


def test_a_state_point_has_its_own_keys_and_all_others_of_the_main_sections(file: Path) -> None:
    config = load_config(file, out="here")
    cold, toluene = config.at("cold"), config.at("toluene")
    assert cold.stable.dynamics == config.stable.dynamics.model_copy(update={"temperature_k": 300})
    assert cold.evaluation.dynamics.temperature_k == 300.0
    assert cold.evaluation.dynamics.bond_threshold == 0.25  # the main evaluation's own
    assert cold.data == config.data and cold.stable.observables == config.stable.observables
    assert toluene.data.path == file.parent / "toluene.npz"
    assert (toluene.data.n_train, toluene.data.n_validation, toluene.data.split_seed) == (50, 5, 3)
    assert toluene.stable.dynamics == config.stable.dynamics
    for section in (toluene.stable, toluene.evaluation):
        assert [choice.name for choice in section.observables] == ["bond_excess"]
    for point in (cold, toluene):
        shared = ("dynamics", "seed", "observables")
        mine, main = (c.stable.model_dump(exclude=set(shared)) for c in (point, config))
        assert mine == main and point.potential == config.potential
        assert not point.state_points
    assert (cold.out, toluene.out) == (Path("here/at/cold"), Path("here/at/toluene"))
    seeds = {c.stable.seed for c in (config, cold, toluene)}
    assert len(seeds) == 3  # no two points have the same noise


def test_what_was_resolved_is_a_configuration_again(file: Path) -> None:
    config = load_config(file)
    again = RunConfig.from_values(yaml.safe_load(yaml.safe_dump(config.to_values())))
    assert again == config and again.at("cold") == config.at("cold")
    assert config.to_values()["state_points"][0]["dynamics"] == {"temperature_k": 300.0}


def test_files_of_state_points_are_relative_to_the_configuration(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    (elsewhere / "mine.npz").write_bytes(b"")
    key = "state_points.1.data.path"
    config = load_config(file, overrides=[f"{key}=mine.npz", "state_points.0.name=frozen"])
    assert config.at("toluene").data.path == elsewhere / "mine.npz"
    assert config.at("frozen").stable.dynamics.temperature_k == 300.0
    with pytest.raises(ConfigError, match=rf"{key} is .*no.npz, and there is no such file"):
        load_config(file, overrides=[f"{key}=no.npz"])
    values = {**BASE, "state_points": [{"name": "a", "data": {"reference": "no.xyz"}}]}
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"state_points.0.data.reference is .*elsewhere|no.xyz"):
        load_config(file)


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ({"dynamics": {"temperature_k": 300}}, "state_points.0.name is missing"),
        ({"name": "main"}, "state_points.0.name is 'main': main is the state point of the main"),
        ({"name": "a/b"}, "state_points.0.name is 'a/b': use letters"),
        ({"name": ".."}, "state_points.0.name is '..': use letters"),
        ({"name": "a", "temperature_k": 3}, "state_points.0.temperature_k is unknown"),
        (
            {"name": "a", "dynamics": {"temperature": 300}},
            "state_points.0.dynamics.temperature is unknown; did you mean temperature_k?",
        ),
        (
            {"name": "a", "dynamics": {"temperature_k": -1}},
            "state_points.0.dynamics.temperature_k is -1; expected a number > 0",
        ),
        (
            {"name": "a", "dynamics": {"temperature_k": True}},
            "state_points.0.dynamics.temperature_k is true; expected a number",
        ),
        (
            {"name": "a", "data": {"n_train": 0}},
            "state_points.0.data.n_train is 0; expected an integer ≥ 1",
        ),
        (
            {"name": "a", "observables": [{"name": "bond_exess"}]},
            "state_points.0.observables.0.name is 'bond_exess'; expected",
        ),
        (
            {"name": "a", "observables": []},
            "state_points.0.observables is []; expected a list of 1",
        ),
        (
            {"name": "a", "data": {"gap": 3}},
            "state_points.0: data.gap is 3; expected 0, since data.contiguous is false",
        ),
        (
            {"name": "a", "dynamics": {"detectors": [{"name": "energy_drift", "max_drift": 1.0}]}},
            "energy_drift needs a conserved energy, which integrator: langevin does not have",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_name_the_key_and_what_is_allowed(point: dict[str, Any], words: str) -> None:
    message = problem(with_points(point))
    assert words in message and "state_points.0" in message


def test_names_are_given_once() -> None:
    message = problem(with_points({"name": "cold"}, {"name": "hot"}, {"name": "Cold"}))
    assert "state_points.2.name is 'Cold', and so is state_points.0.name" in message


def test_a_detector_goes_with_the_integrator_of_the_main_section() -> None:
    """The pair is looked at once the sections are merged, not key by key."""
    drift = {"name": "a", "dynamics": {"detectors": [{"name": "energy_drift", "max_drift": 1.0}]}}
    nve = {**BASE["dynamics"], "integrator": "nve"}
    config = RunConfig.from_values(with_points(drift, dynamics=nve))
    (detector,) = config.at("a").stable.dynamics.detectors or ()
    assert detector.name == "energy_drift"


def test_an_unknown_state_point_is_named_with_those_that_there_are() -> None:
    config = RunConfig.from_values(BASE)
    with pytest.raises(ConfigError, match="no further state point 'hot'.* has cold, toluene"):
        config.at("hot")
    with pytest.raises(ConfigError, match="state_points has none"):
        RunConfig.from_values(with_points()).at("hot")
