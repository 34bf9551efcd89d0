"""Trajectories, and the contract of observables that need the order of time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.observables.averages import Average, ensemble_average


@dataclass(frozen=True)
class Trajectory:
    """Consecutive frames of R independent paths, equally spaced in time.

    Attributes:
        positions: unwrapped, (n_frames, R, N, 3) in Å; ``geometry.unwrap`` undoes wrapping.
        interval_fs: time between frames in fs.
        velocities: (n_frames, R, N, 3) in Å/fs, or None.
        path: what replica each path is a part of, (R,) int64; its own by default.
    """

    positions: Tensor
    interval_fs: float
    velocities: Tensor | None = None
    path: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.positions.shape)
        if len(shape) != 4 or shape[3] != 3 or shape[0] < 2 or shape[1] < 1:
            raise DataError(
                "a trajectory needs positions (frames, paths, atoms, 3) of two frames or more, "
                f"got {shape}"
            )
        if self.velocities is not None and self.velocities.shape != self.positions.shape:
            raise DataError(
                f"velocities must have the shape of the positions, {shape}, got "
                f"{tuple(self.velocities.shape)}"
            )
        if not 0.0 < self.interval_fs < float("inf"):
            raise DataError(f"interval_fs must be a positive time in fs, got {self.interval_fs}")

    @property
    def n_frames(self) -> int:
        return int(self.positions.shape[0])

    @classmethod
    def from_frames(
        cls,
        positions: Tensor,
        replica: Tensor,
        step: Tensor,
        dt_fs: float,
        *,
        n_frames: int | None = None,
        velocities: Tensor | None = None,
    ) -> Trajectory:
        """Recorded frames as paths of equal length.

        Every replica is cut into as many consecutive pieces of ``n_frames`` frames
        as it has; what is left at its end, and replicas that failed before, are left out.

        Args:
            positions: (n, N, 3) in Å, unwrapped.
            replica: (n,) int64.
            step: step of each frame, (n,) int64.
            dt_fs: time of one step in fs.
            n_frames: frames per path; those of the longest replica by default.
            velocities: (n, N, 3) in Å/fs, or None.

        Raises:
            DataError: the frames are not equally spaced, or no replica is long enough.
        """
        if not len(positions):
            raise DataError("a trajectory needs frames, and none are left; record more of them")
        rows = [torch.nonzero(replica == r).flatten() for r in replica.unique()]
        rows = [index[torch.argsort(step[index])] for index in rows]
        gaps = torch.cat([step[index].diff() for index in rows])
        if len(gaps) and bool((gaps != gaps[0]).any()):
            raise DataError(
                f"frames are {int(gaps.min())} to {int(gaps.max())} steps apart; a trajectory "
                "needs equally spaced ones"
            )
        size = max(len(index) for index in rows) if n_frames is None else n_frames
        pieces = [
            (int(replica[index[0]]), index[start : start + size])
            for index in rows
            for start in range(0, len(index) - size + 1, size)
        ]
        if size < 2 or not pieces:
            raise DataError(
                f"no replica has {size} frames (two or more); the longest has "
                f"{max(len(index) for index in rows)}"
            )
        index = torch.stack([piece for _, piece in pieces], dim=1)
        return cls(
            positions[index],
            float(gaps[0]) * dt_fs,
            None if velocities is None else velocities[index],
            path=torch.tensor([owner for owner, _ in pieces]),
        )

    def segments(self, n_segments: int) -> Trajectory:
        """Every path cut into ``n_segments`` consecutive pieces, which count as paths.

        Raises:
            DataError: the pieces would have fewer than two frames.
        """
        size = self.n_frames // n_segments
        if n_segments < 1 or size < 2:
            raise DataError(
                f"{self.n_frames} frames can't be cut into {n_segments} segments of two or more"
            )

        def cut(values: Tensor) -> Tensor:
            tail = values.shape[1:]
            pieces = values[: size * n_segments].reshape(n_segments, size, *tail)
            # The pieces of one path stand next to each other, in the order of time.
            return pieces.permute(1, 2, 0, 3, 4).reshape(size, -1, *tail[1:])

        n_paths = self.positions.shape[1]
        path = torch.arange(n_paths) if self.path is None else self.path
        return Trajectory(
            cut(self.positions),
            self.interval_fs,
            None if self.velocities is None else cut(self.velocities),
            path.repeat_interleave(n_segments),
        )


class TrajectoryObservable(ABC):
    """D numbers per path of a trajectory: time correlations and what follows from them."""

    name: str
    """Key in the registry, e.g. ``"mean_squared_displacement"``."""

    axis: Tensor
    """What the components stand for (lags in fs, wave numbers), (D,) float64."""

    axis_label: str
    value_label: str

    @abstractmethod
    def values(self, trajectory: Trajectory) -> Tensor:
        """Values (R, D) float64 of every path, from all time origins; differentiable.

        Raises:
            DataError: the paths are too short, or velocities are missing.
        """

    def average(self, trajectory: Trajectory, *, n_segments: int = 1) -> Average:
        """Mean over the paths with its error from segments.

        Args:
            trajectory: R paths.
            n_segments: every path is cut into so many consecutive segments, whose
                scatter gives the error; segments must be longer than the longest
                lag and than the correlation time.  With many paths 1 will do.

        Returns:
            The mean over all segments, block-averaged standard errors and N_eff.
        """
        cut = trajectory if n_segments == 1 else trajectory.segments(n_segments)
        path = torch.arange(cut.positions.shape[1]) if cut.path is None else cut.path
        return ensemble_average(self.values(cut), path)


def n_lags(longest_fs: float, trajectory: Trajectory, name: str) -> int:
    """Number of lags from 0 to ``longest_fs``.

    Raises:
        DataError: the paths are shorter than that.
    """
    lags = round(longest_fs / trajectory.interval_fs) + 1
    if lags > trajectory.n_frames or lags < 2:
        length = (trajectory.n_frames - 1) * trajectory.interval_fs
        raise DataError(
            f"{name} goes up to {longest_fs:g} fs, and the paths have frames every "
            f"{trajectory.interval_fs:g} fs over {length:g} fs; give longer paths (fewer segments) "
            "or another longest lag"
        )
    return lags


def autocorrelation(series: Tensor, lags: int) -> Tensor:
    """Mean over time origins of x(t) x(t + τ) along the first dimension, by FFT.

    Args:
        series: (n, ...).
        lags: number of lags from 0 on.

    Returns:
        (lags, ...).
    """
    n = series.shape[0]
    size = 1 << (2 * n - 1).bit_length()
    power = torch.fft.rfft(series, n=size, dim=0).abs().square()
    sums = torch.fft.irfft(power, n=size, dim=0)[:lags]
    origins = torch.arange(n, n - lags, -1, dtype=series.dtype, device=series.device)
    return sums / origins.reshape(-1, *(1,) * (series.ndim - 1))
