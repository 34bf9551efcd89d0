from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stablemd.errors import DataError
from stablemd.evaluation.movie import Movie
from stablemd.evaluation.report import ReportInput
from stablemd.system import System

WATER = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])
SYSTEM = System.create(["O", "H", "H"], bonds=[[0, 1], [0, 2]], bond_lengths=[0.97, 0.97])


def movie(frames: np.ndarray, **options: object) -> Movie:
    return Movie.of_replica(
        SYSTEM, frames, np.arange(len(frames)) * 0.01, 0.5, role="before", title="replica 0",
        **options,  # type: ignore[arg-type]
    )  # fmt: skip


def test_translation_and_rotation_are_removed_and_shape_is_kept() -> None:
    rng = np.random.default_rng(0)
    moved = np.stack(
        [WATER @ Rotation.random(rng=rng).as_matrix().T + 10 * rng.normal(size=3) for _ in range(9)]
    )
    frames = np.asarray(movie(moved).frames)
    np.testing.assert_allclose(frames, np.broadcast_to(frames[0], frames.shape), atol=1e-9)
    np.testing.assert_allclose(frames.mean(axis=1), 0.0, atol=1e-12)

    deformed = moved + 0.1 * rng.normal(size=moved.shape)
    frames = np.asarray(movie(deformed).frames)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        np.testing.assert_allclose(
            np.linalg.norm(frames[:, i] - frames[:, j], axis=1),
            np.linalg.norm(deformed[:, i] - deformed[:, j], axis=1),
        )


def test_a_mirror_image_is_not_turned_into_the_original() -> None:
    chiral = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1.2, 0], [0, 0, 1.5]])
    system = System.create(["C", "H", "F", "O"])
    frames = np.stack([chiral, chiral * [1, 1, -1]])
    result = Movie.of_replica(system, frames, [0.0, 0.1], 0.5, role="after", title="t").frames

    def handedness(x: np.ndarray) -> float:
        return float(np.linalg.det(x[1:] - x[0]))

    first, second = np.asarray(result)
    assert handedness(first) * handedness(second) < 0


def test_thinning_keeps_first_and_last_frame_and_stops_before_non_finite_ones() -> None:
    frames = np.repeat(WATER[None], 1000, axis=0)
    thinned = movie(frames, max_frames=50)
    times = np.asarray(thinned.times_ps)
    assert len(times) == 50
    assert (times[0], times[-1]) == (0.0, pytest.approx(9.99))
    frames[700:, 0, 0] = np.nan
    assert np.asarray(movie(frames).times_ps)[-1] == pytest.approx(6.99)
    frames[:] = np.nan
    with pytest.raises(DataError, match="at least one frame"):
        movie(frames)


def test_json_holds_positions_to_a_hundredth_and_reads_back(report_input: ReportInput) -> None:
    original = report_input.movies[0][0]
    data = original.to_json()
    np.testing.assert_allclose(data["frames"], original.frames, atol=0.005 + 1e-12)
    assert data["symbols"] == ["O", "H", "H"]
    assert len(data["colors"]) == len(data["radii"]) == 3
    assert Movie.from_json(data).to_json() == data


def test_inconsistent_movies_are_refused(report_input: ReportInput) -> None:
    good = report_input.movies[0][0]
    for change, message in (
        ({"times_ps": [0.0]}, "as many times"),
        ({"bond_lengths": [1.0]}, "as many lengths"),
        ({"failed_bond": 5}, "failed_bond"),
        ({"role": "other"}, "'other'"),
        ({"numbers": [8, 1]}, "2 atoms"),
    ):
        with pytest.raises(DataError, match=message):
            replace(good, **change)  # type: ignore[arg-type]
