"""The data of a run: disjoint parts, and a molecule that no test structure defines."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stablemd.config import RunConfig
from stablemd.data import Frames, read_frames, write_frames
from stablemd.errors import ConfigError, DataError
from stablemd.md import sharding
from stablemd.workflows.demo import demo_config
from stablemd.workflows.experiment import Experiment, prepare
from stablemd.workflows.threads import set_threads

Build = Callable[..., RunConfig]


def keys(frames: Frames | None) -> set[bytes]:
    assert frames is not None
    return {x.numpy().tobytes() for x in frames.positions}


def parts(experiment: Experiment) -> list[set[bytes]]:
    names = ("train", "validation", "reference", "test")
    return [keys(getattr(experiment, name)) for name in names]


@pytest.mark.parametrize("override", ["data.contiguous=false", "data.contiguous=true"])
def test_parts_are_disjoint_and_use_every_structure(
    tiny: Build, tmp_path: Path, override: str
) -> None:
    found = parts(prepare(tiny(tmp_path, override)))
    assert [len(part) for part in found] == [20, 10, 30, 40]
    assert len(set.union(*found)) == 100


def test_a_gap_separates_contiguous_parts(tiny: Build, tmp_path: Path) -> None:
    experiment = prepare(tiny(tmp_path, "data.contiguous=true", "data.gap=3"))
    assert [len(part) for part in parts(experiment)] == [20, 10, 30, 31]


def test_the_demo_splits_as_its_model_was_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stablemd.config_file._require_files", lambda *_: None)
    experiments = [prepare(demo_config(seed=seed)) for seed in (0, 7)]
    sizes = [len(part) for part in parts(experiments[0])]
    assert sizes == [25, 50, 1000, 2925] and sum(sizes) == 4000
    first, second = (parts(e) for e in experiments)
    assert first == second, "the split may not depend on the seed"
    assert len(set.union(*first)) == 4000


def test_references_follow_the_configuration(tiny: Build, tmp_path: Path) -> None:
    set_aside = prepare(tiny(tmp_path))
    assert set_aside.training_reference is set_aside.reference
    # What training was shown is no test of it.
    assert set_aside.evaluation_reference is set_aside.test
    default = prepare(tiny(tmp_path, "data.n_reference=null"))
    assert keys(default.training_reference) == keys(default.train) | keys(default.validation)
    assert default.evaluation_reference is default.test
    path = tiny(tmp_path).data.path
    other = prepare(tiny(tmp_path, "data.n_reference=null", f"data.reference={path}"))
    assert len(other.training_reference) == len(other.evaluation_reference) == 100


def test_test_structures_do_not_define_the_molecule(tiny: Build, tmp_path: Path) -> None:
    config = tiny(tmp_path, "data.contiguous=true")
    frames = read_frames(config.data.path)
    stretched = frames.positions.clone()
    stretched[60:] *= 1.05
    changed = Frames(frames.numbers, stretched, frames.energies, frames.forces)
    write_frames(tmp_path / "changed.npz", changed)
    other = tiny(tmp_path, "data.contiguous=true", f"data.path={tmp_path / 'changed.npz'}")
    a, b = prepare(config).system, prepare(other).system
    assert torch.equal(a.bonds, b.bonds) and torch.equal(a.bond_lengths, b.bond_lengths)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.n_train=95"], r"n_train=95"),
        (["data.n_reference=90"], r"n_reference = 90 .* 70 are left"),
        (["data.bonds=[[0, 99]]"], r"\(0, 99\)"),
    ],
)
def test_impossible_splits_and_bonds_are_explained(
    tiny: Build, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(tiny(tmp_path, *overrides))


def test_a_reference_of_other_atoms_is_refused(tiny: Build, tmp_path: Path) -> None:
    frames = read_frames(tiny(tmp_path).data.path)
    swapped = Frames(frames.numbers.flip(0), frames.positions.flip(1))
    write_frames(tmp_path / "other.npz", swapped)
    config = tiny(tmp_path, "data.n_reference=null", f"data.reference={tmp_path / 'other.npz'}")
    with pytest.raises(DataError, match="holds other atoms"):
        prepare(config)


def test_no_test_structures_is_an_error_of_who_needs_them(tiny: Build, tmp_path: Path) -> None:
    experiment = prepare(tiny(tmp_path, "data.n_reference=70"))
    assert experiment.test is None
    with pytest.raises(DataError, match=r"data\.n_reference = 70"):
        experiment.require_test()


def test_threads_within_what_the_machine_has() -> None:
    limit = os.cpu_count() or 1
    before = sharding.get_threads()
    try:
        assert set_threads(1) == 1 == sharding.get_threads()
        assert 1 <= set_threads(None) <= limit
        assert torch.get_num_threads() == 1
        with pytest.raises(ConfigError, match=f"threads is {limit + 1}; expected 1 to {limit}"):
            set_threads(limit + 1)
    finally:
        sharding.set_threads(before)
