"""Missing packages, versions that do not work, and files of the wrong kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stablemd.errors import ConfigError, MissingDependencyError, PotentialError
from stablemd.potentials.adapters import FORMATS, format_of, packages
from stablemd.potentials.adapters.packages import GRAPH_PES, MACE, NEQUIP, TORCH_SIM, release
from stablemd.potentials.files import load_potential
from stablemd.stages import MODEL_SUFFIXES

ALL = [NEQUIP, MACE, GRAPH_PES, TORCH_SIM]


@pytest.mark.parametrize("package", ALL, ids=lambda p: p.extra)
def test_a_missing_package_is_named_with_its_extra(
    package: packages.Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise packages.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "version", absent)
    with pytest.raises(MissingDependencyError, match=rf"stablemd\[{package.extra}\]"):
        package.load()


@pytest.mark.parametrize("package", ALL, ids=lambda p: p.extra)
def test_an_old_version_is_refused_with_the_reason(
    package: packages.Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "version", lambda _: "0.0.9")
    with pytest.raises(MissingDependencyError, match=package.reason):
        package.load()


def test_a_version_that_is_known_not_to_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    package = packages.Package("x", "x", "x", (0, 3), "old", (((0, 4, 1), "it is broken"),))
    monkeypatch.setattr(packages, "version", lambda _: "0.4.1")
    with pytest.raises(MissingDependencyError, match="0.4.1 is known not to work: it is broken"):
        package.require()
    monkeypatch.setattr(packages, "version", lambda _: "0.4.2")
    package.require()


def test_releases_are_numbers() -> None:
    assert release("0.3.16") == (0, 3, 16) and release("2.13.0+cpu") == (2, 13, 0)
    assert release("0.17.0rc1") == (0, 17, 0) and release("1.0.dev3") == (1, 0)


def test_suffixes_mean_one_format_each() -> None:
    suffixes = [s for file_format in FORMATS.values() for s in file_format.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert set(suffixes) <= set(MODEL_SUFFIXES), "a run directory would not find such a model"
    assert format_of(Path("a.nequip.zip")) == "nequip" and format_of(Path("a.pt")) is None


def test_a_file_is_not_loaded_as_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(PotentialError, match="name its format"):
        load_potential(path)
    with pytest.raises(PotentialError, match="unknown model format 'mase'"):
        load_potential(path, format="mase")


def test_options_need_a_format(tmp_path: Path) -> None:
    from stablemd.potentials import ZBL
    from stablemd.potentials.files import save_potential

    save_potential(ZBL(), tmp_path / "zbl.pt")
    with pytest.raises(PotentialError, match="outside packages' formats"):
        load_potential(tmp_path / "zbl.pt", options={"head": "a"})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": "mase"}, "choose one of ase"),
        ({"options": {"head": "a"}}, "potential.options are set"),
        ({"format": "ase", "path": "x.model"}, "expected null with potential.format = ase"),
        ({"path": "x.model", "terms": [{"name": "zbl"}]}, "potential.terms are set"),
        ({"terms": [{"name": "zbl", "hyperparameters": {"cutof": 1}}]}, "terms.0.hyperparameters"),
        ({"terms": [{"name": "zlb"}]}, "potential.terms.0.name is 'zlb'"),
        ({"preset": "paper"}, "potential.hyperparameters.preset is unknown"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(values: dict, words: str) -> None:
    from stablemd.config import RunConfig

    data = {"path": "frames.npz", "n_train": 20, "n_validation": 5}
    with pytest.raises(ConfigError, match=words):
        RunConfig.from_values({"data": data, "potential": values})
