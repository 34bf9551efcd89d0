"""A configuration is complete, and every mistake in it is named before work starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stablemd.config import RunConfig
from stablemd.config_file import _absolute, load_config, parse_override, read_yaml
from stablemd.config_schema import ConfigSchema
from stablemd.demo import CONFIG_PATH
from stablemd.errors import ConfigError
from stablemd.potentials import POTENTIALS
from stablemd.potentials.adapters.packages import NEQUIP

MINIMAL: dict[str, Any] = {"data": {"path": "frames.npz", "n_train": 20, "n_validation": 5}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "frames.npz").write_bytes(b"")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    return path


def problem(file: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(file, overrides=overrides)
    return str(error.value)


def test_what_is_not_set_has_a_default_and_survives_a_round_trip(file: Path) -> None:
    config = load_config(file)
    assert config.out == Path("runs/run") and config.device == "cpu" and config.control
    again = RunConfig.from_values(yaml.safe_load(yaml.safe_dump(config.to_values())))
    assert again == config


def test_files_are_relative_to_the_configuration_and_results_are_not(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load_config(file).data.path == file.parent / "frames.npz"
    assert load_config(file, out="results").out == Path("results")
    # On the command line, paths are those of the shell.
    (elsewhere / "mine.npz").write_bytes(b"")
    config = load_config(file, overrides=["data.path=mine.npz"])
    assert config.data.path == elsewhere / "mine.npz"


def test_references_of_observables_are_relative_to_the_configuration(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "g.txt").write_text("0 0\n1 1\n")
    values = {**MINIMAL, "evaluation": {"observables": [
        {"name": "distance_distribution"}, {"name": "rdf", "reference": {"path": "g.txt"}}
    ], "dynamical": [
        {"name": "mean_squared_displacement", "max_lag_ps": 0.5, "path_ps": 1.0,
         "reference": {"path": "g.txt", "x_unit": "ps"}}
    ]}}  # fmt: skip
    file.write_text(yaml.safe_dump(values))
    monkeypatch.chdir("/")
    loaded = load_config(file).evaluation
    (path,) = loaded.dynamical
    assert path.reference.path == tmp_path / "g.txt"
    choice = loaded.observables[1]
    assert choice.reference.path == tmp_path / "g.txt"
    override = "evaluation.observables.1.reference.path=/nowhere.txt"
    assert "nowhere.txt" in problem(file, override)


# Overrides


def test_overrides_are_typed_by_yaml(file: Path) -> None:
    config = load_config(
        file,
        overrides=[
            "stable.n_replicas=8",
            "stable.learning_rate=1e-4",
            "stable.force_mae_budget=null",
            "control=false",
            "data.bonds=[[0, 1], [1, 2]]",
            "stable.observables.1.weight=2.5",
        ],
    )
    assert config.stable.n_replicas == 8 and config.stable.learning_rate == 1e-4
    assert config.stable.force_mae_budget is None and config.control is False
    assert config.data.bonds == ((0, 1), (1, 2))
    default = RunConfig.from_values(MINIMAL).stable.observables
    assert config.stable.observables[0] == default[0]
    assert config.stable.observables[1].weight == 2.5


def test_the_last_override_wins_and_flags_win_over_all(file: Path) -> None:
    given = ["seed=1", "seed=2", "device=cpu"]
    assert load_config(file, overrides=given).seed == 2
    assert load_config(file, overrides=given, seed=3).seed == 3


@pytest.mark.parametrize("text", ["stable.n_replicas", "=3", "stable..x=1", "a=[1,"])
def test_an_override_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--set "):
        parse_override(text)


# What sections share


def test_a_seed_reaches_every_section_that_has_none(file: Path) -> None:
    config = load_config(file, seed=5, overrides=["stable.seed=77"])
    assert (config.pretrain.seed, config.stable.seed) == (5, 77)
    zero = load_config(file)
    for section in ("evaluation", "simulation"):
        assert getattr(config, section).seed == getattr(zero, section).seed + 5
    assert config.data.split_seed == zero.data.split_seed


def test_dynamics_are_shared_and_can_be_overridden_by_key(file: Path) -> None:
    config = load_config(
        file,
        overrides=["dynamics.temperature_k=700", "dynamics.dt_fs=0.25",
                   "evaluation.dynamics.temperature_k=350"],
    )  # fmt: skip
    assert config.stable.dynamics.temperature_k == 700
    assert config.simulation.dynamics.temperature_k == 700
    assert config.evaluation.dynamics.temperature_k == 350
    assert config.evaluation.dynamics.dt_fs == 0.25


# Mistakes


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stable.n_replcas=3", ["stable.n_replcas is unknown", "did you mean n_replicas?"]),
        ("stabel.n_replicas=3", ["stabel is unknown", "did you mean stable?", "evaluation"]),
        ("stable.n_replicas=1", ["stable.n_replicas is 1", "an integer ≥ 2", "replicas that"]),
        ("stable.n_replicas=2.5", ["stable.n_replicas is 2.5", "an integer ≥ 2"]),
        ("stable.n_replicas=yes", ["stable.n_replicas is true", "an integer ≥ 2"]),
        ("stable.n_replicas=null", ["stable.n_replicas is null", "an integer ≥ 2"]),
        ("stable.learning_rate=fast", ["stable.learning_rate is 'fast'", "a number > 0"]),
        ("stable.learning_rate=.inf", ["stable.learning_rate is inf", "a number > 0"]),
        ("stable.force_mae_budget=0.9", ["is 0.9", "a number ≥ 1, or null"]),
        ("dynamics.dt_fs=11", ["dynamics.dt_fs is 11", "a number > 0 and ≤ 10"]),
        ("stable.optimizer=adamw", ["'adamw'", "adam or sgd", "did you mean adam?"]),
        ("stable.dynamics=3", ["stable.dynamics is 3", "temperature_k"]),
        ("stable.observables=[]", ["stable.observables is []", "1 or more"]),
        ("stable.observables=[{name: rdff}]", ["observables.0.name is 'rdff'", "mean rdf?"]),
        ("stable.observables=[{name: rdf, r_mx: 3}]", ["stable.observables.0.r_mx is unknown",
                                                       "did you mean r_max?", "intramolecular"]),
        ("evaluation.observables=[{name: rdf, reference: {path: no.txt}}]",
         ["evaluation.observables.0.reference.path is", "no.txt", "no such file"]),
        ("evaluation.observables=[{name: rdf, reference: {paht: no.txt}}]",
         ["evaluation.observables.0.reference.paht is unknown", "did you mean path?"]),
        ("stable.observables=[{margin: 2}]", ["stable.observables.0.name is missing"]),
        ("stable.observables.1.margin=0", ["stable.observables.1.margin is 0", "> 0"]),
        ("dynamics.detectors=[{name: max_forces}]", ["dynamics.detectors.0.name is 'max_forces'",
                                                     "did you mean max_force?"]),
        ("dynamics.detectors=[{name: bond_length, limit: 1}]",
         ["dynamics.detectors.0.limit is unknown", "threshold", "quantile"]),
        ("dynamics.detectors=[{name: coordination, quantile: 0.7}]",
         ["dynamics.detectors.0.quantile is 0.7", "< 0.5"]),
        ("dynamics.detectors=[{name: energy_drift}]", ["dynamics.detectors", "langevin"]),
        ("data=null", ["data is null", "n_train"]),
        ("data.keys={energy: U}", ["data.keys.energy is unknown", "did you mean energies?"]),
        ("data.energy_unit=kcal", ["data.energy_unit is 'kcal'", "kcal/mol"]),
        ("data.bonds=[[0, 1, 2]]", ["data.bonds.0 is [0, 1, 2]"]),
        ("potential.name=schnt", ["potential.name is 'schnt'", "schnet"]),
        ("potential.hyperparameters.features=9", ["hyperparameters.features is unknown",
                                                  "n_features"]),
        ("potential.hyperparameters.n_features=many", ["n_features is 'many'", "an integer"]),
        ("potential.hyperparameters.cutoff=-1", ["potential.hyperparameters", "cutoff = -1"]),
        ("seed=-1", ["seed is -1", "an integer ≥ 0"]),
        ("device=gpu", ["device is 'gpu'", "cpu, cuda or cuda:N"]),
        ("data.gap=3", ["data.gap is 3", "data.contiguous"]),
        ("evaluation.dynamical=[{name: velocity_autocorrelation, path_ps: 50, max_lag_fs: 1}]",
         ["dynamical.0.path_ps is 50", "at most 4.75", "up to 1 fs", "record_every_fs = 25"]),
        ("evaluation={thermodynamic: [{name: heat_capacity}], dynamics: {integrator: nve}}",
         ["evaluation.thermodynamic.0 is heat_capacity", "integrator is nve", "csvr"]),
        ("evaluation.discard_fs=1e6", ["evaluation.discard_fs is 1000000", "length_ps"]),
        ("stable.target_failed=0.9", ["stable.target_failed is 0.9", "stable.max_failed"]),
        ("stable={remembered_failures: 3, failing_share: 0}",
         ["stable.remembered_failures is 3", "failing_share = 0", "no failure is copied"]),
        ("stable={enough_failures: 9, n_replicas: 16, max_failed: 0.25, remembered_failures: 5}",
         ["stable.enough_failures is 9", "less than 9", "max_failed ends"]),
        ("stable.record_every=9999", ["stable.record_every is 9999", "learning_steps"]),
        ("data.path=nowhere.npz", ["data.path is", "nowhere.npz", "no such file"]),
        ("potential.path=nowhere.pt", ["potential.path is", "nowhere.pt", "no such file"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_key_value_and_what_is_allowed(
    file: Path, override: str, words: list[str]
) -> None:
    message = problem(file, override)
    assert [word for word in words if word not in message] == [], message


def test_all_mistakes_are_named_at_once(file: Path) -> None:
    message = problem(file, "stable.n_replicas=0", "evaluation.n_replicas=0", "foo=1")
    assert "3 problems" in message
    for key in ("stable.n_replicas", "evaluation.n_replicas", "foo"):
        assert f"- {key} is" in message


def test_missing_keys_are_named(file: Path) -> None:
    file.write_text("data: {path: frames.npz, n_train: 5}")
    assert "data.n_validation is missing; expected an integer ≥ 1" in problem(file)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("data: {n_train: 1}\ndata: {n_train: 2}", "'data' stands here a second time"),
        ("data: [", "not valid YAML"),
        ("- 1", "holds list"),
        ("", "holds NoneType"),
    ],
)
def test_a_file_that_is_no_configuration_is_explained(file: Path, text: str, word: str) -> None:
    file.write_text(text)
    assert word in problem(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "is missing" in problem(tmp_path / "absent.yaml")
    assert "is a folder" in problem(tmp_path)


def test_checking_hyperparameters_draws_no_random_number() -> None:
    import torch

    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    RunConfig.from_values(MINIMAL)
    assert torch.equal(torch.rand(4), expected)


# The description of the keys


def test_every_key_says_what_it_means() -> None:
    schema = ConfigSchema(RunConfig)
    silent = [key for key, node in schema.leaves() if not node.get("description")]
    assert silent == []


def test_the_documentation_is_that_of_the_keys() -> None:
    from scripts.make_configuration_docs import PAGE, page

    if PAGE.read_text(encoding="utf-8") != page():
        pytest.fail("the keys have changed; run: python scripts/make_configuration_docs.py")


EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))
assert EXAMPLES


@pytest.mark.parametrize("path", [*EXAMPLES, CONFIG_PATH], ids=lambda path: path.stem)
def test_examples_are_valid(path: Path) -> None:
    values = _absolute(read_yaml(path), path.parent)
    if values["potential"].get("name") == "nequip" and not NEQUIP.is_installed:
        pytest.skip("nequip is not installed here; tests/adapters has this example too")
    config = RunConfig.from_values(values, str(path))
    assert config.potential.name in POTENTIALS
