"""What the report's movies show is what happened in the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stablemd.config import RunConfig
from stablemd.evaluation.evaluate import Evaluation, evaluate
from stablemd.potentials import Potential
from stablemd.potentials.files import load_potential
from stablemd.workflows.experiment import Experiment, prepare
from stablemd.workflows.movies import choose_replica, movies, replay


@pytest.fixture(scope="module")
def evaluated(
    tiny: Callable[..., RunConfig], model_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Experiment, Potential, Evaluation]:
    config = tiny(tmp_path_factory.mktemp("movies"), "evaluation.record_every_fs=2.5")
    experiment = prepare(config)
    potential = load_potential(model_file)
    result = evaluate(
        potential,
        experiment.system,
        experiment.require_test(),
        experiment.evaluation_reference,
        config.evaluation,
    )
    return experiment, potential, result


def fake(*failed_step: int) -> Any:
    return SimpleNamespace(failed_step=torch.tensor(failed_step))


@pytest.mark.parametrize(
    ("before", "after", "chosen"),
    [
        ((-1, -1), (-1, -1), 0),
        ((-1, 900, 500, 700), (-1, -1, -1, -1), 2),
        ((-1, 900, 500, 700), (-1, -1, 300, -1), 3),
        ((-1, 900, 20, 700), (-1, -1, -1, -1), 3),
        ((20, -1), (-1, -1), 0),
        ((-1, 400), (-1, 400), 1),
    ],
)
def test_the_replica_shown_fails_before_and_not_after(
    before: tuple[int, ...], after: tuple[int, ...], chosen: int
) -> None:
    assert choose_replica(fake(*before), fake(*after), dt_fs=0.5) == chosen


def test_a_replay_is_the_evaluation_bit_for_bit(
    evaluated: tuple[Experiment, Potential, Evaluation],
) -> None:
    experiment, potential, result = evaluated
    replica = choose_replica(result, None, 0.5)
    last_step = int(result.failed_step[replica])
    assert last_step > 20, "the model must fail, but not at once"
    frames = replay(experiment, potential, replica, last_step)
    assert frames is not None and int(frames.step[-1]) == last_step
    mine = result.frames.select(result.frames.replica == replica)
    shared = [(i, j) for i, s in enumerate(mine.step) for j, t in enumerate(frames.step) if s == t]
    assert shared
    for i, j in shared:
        assert torch.equal(mine.positions[i], frames.positions[j])


def test_movies_end_with_the_failure_and_share_their_time(
    evaluated: tuple[Experiment, Potential, Evaluation], model_file: Path
) -> None:
    experiment, _, result = evaluated
    models = dict.fromkeys(("before", "after"), model_file)
    ((before, after),) = movies(experiment, models, {"before": result, "after": result})
    assert before.role == "before" and after.role == "after"
    assert torch.equal(torch.as_tensor(before.times_ps), torch.as_tensor(after.times_ps))
    assert before.failed and "failed after" in before.caption
    assert before.failed_bond >= 0
    i, j = experiment.system.bonds[before.failed_bond].tolist()
    last = torch.as_tensor(before.frames)[-1]
    length = float((last[i] - last[j]).norm())
    reference = float(experiment.system.bond_lengths[before.failed_bond])
    assert abs(length - reference) >= experiment.config.evaluation.dynamics.bond_threshold
