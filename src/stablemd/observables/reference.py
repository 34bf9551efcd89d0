"""Reference averages from files: measured or computed curves with their errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stablemd.errors import ConfigError, DataError

Array = NDArray[np.float64]

LENGTH_UNITS = {"angstrom": 1.0, "nm": 10.0}
"""What one unit of a file's lengths is in Å."""


@dataclass(frozen=True)
class ReferenceAverage:
    """An average that an observable should have.

    Attributes:
        mean: (D,) float64.
        stderr: standard error, (D,) float64, or None where the source states none.
        source: where it comes from, for messages and reports.
    """

    mean: Tensor
    stderr: Tensor | None
    source: str


@dataclass(frozen=True)
class ReferenceCurve:
    """A curve y(x) with errors, as a file gives it.

    Attributes:
        x: increasing, (n,) float64.
        y: (n,) float64.
        error: standard error of ``y``, (n,) float64, or None.
        source: where it comes from.
    """

    x: Tensor
    y: Tensor
    error: Tensor | None
    source: str

    def __post_init__(self) -> None:
        sizes = {len(self.x), len(self.y)} | (set() if self.error is None else {len(self.error)})
        if len(sizes) != 1 or len(self.x) < 2 or not bool((self.x.diff() > 0).all()):
            raise DataError(
                f"{self.source}: a curve needs two points or more with increasing x and one value "
                f"(and error) each; got {len(self.x)} x and {len(self.y)} y"
            )

    def over_bins(self, centres: Tensor) -> ReferenceAverage:
        """The curve's mean over each of the equal bins around ``centres`` (D,).

        The curve is taken as linear between its points.  Errors of
        neighbouring points count as fully correlated, as a measurement's
        systematic errors are, so a bin is no more certain than its points.

        Raises:
            DataError: the bins reach beyond the curve.
        """
        width = float(centres[1] - centres[0])
        edges = np.append(centres.numpy() - 0.5 * width, float(centres[-1]) + 0.5 * width)
        x = self.x.numpy()
        if edges[0] < x[0] - 0.5 * width or edges[-1] > x[-1] + 1e-9:
            raise DataError(
                f"{self.source} covers {x[0]:g} to {x[-1]:g}, and the observable's bins go from "
                f"{edges[0]:g} to {edges[-1]:g}; make the observable's range smaller"
            )
        error = None if self.error is None else _bin_means(x, self.error.numpy(), edges)
        return ReferenceAverage(_bin_means(x, self.y.numpy(), edges), error, self.source)

    def at(self, points: Sequence[float]) -> ReferenceAverage:
        """The curve's values at ``points``, linear between its own.

        Raises:
            DataError: a point lies beyond the curve.
        """
        x, where = self.x.numpy(), np.asarray(points, dtype=np.float64)
        tolerance = 1e-9 * max(abs(float(x[0])), abs(float(x[-1])))
        if where.min() < x[0] - tolerance or where.max() > x[-1] + tolerance:
            raise DataError(
                f"{self.source} covers {x[0]:g} to {x[-1]:g}, and the observable goes from "
                f"{where.min():g} to {where.max():g}; make the observable's range smaller"
            )
        error = None if self.error is None else np.interp(where, x, self.error.numpy())
        return ReferenceAverage(
            torch.from_numpy(np.interp(where, x, self.y.numpy())),
            None if error is None else torch.from_numpy(error),
            self.source,
        )


def _bin_means(x: Array, y: Array, edges: Array) -> Tensor:
    """Means between neighbouring edges of the function that joins the points by lines."""
    grid = np.union1d(x, edges)
    values = np.interp(grid, x, y)
    pieces = 0.5 * np.diff(grid) * (values[1:] + values[:-1])
    integral = np.concatenate([[0.0], np.cumsum(pieces)])
    return torch.from_numpy(np.diff(np.interp(edges, grid, integral)) / np.diff(edges))


def read_curve(
    path: str | Path,
    *,
    x: str | int = 0,
    y: str | int = 1,
    error: str | int | None = None,
    length_unit: str = "angstrom",
) -> ReferenceCurve:
    """Read a curve over a length, e.g. g(r), from a text table or an npz file.

    Args:
        path: a table of columns divided by white space or commas, or ``.npz``.
        x: column of the abscissa: its number from 0, or its name in the header (the
            last line before the numbers) or in the npz file.
        y: column of the ordinate.
        error: column of its standard error; none by default.
        length_unit: of the abscissa, ``"angstrom"`` or ``"nm"``.

    Raises:
        ConfigError: an unknown unit.
        DataError: the file is missing, or has no such column, or no numbers.
    """
    path = Path(path)
    if length_unit not in LENGTH_UNITS:
        raise ConfigError(
            f"length unit {length_unit!r} is unknown; use one of {sorted(LENGTH_UNITS)}"
        )
    if not path.is_file():
        raise DataError(f"there is no reference file {path}; check the path")
    columns = _npz_columns(path) if path.suffix == ".npz" else _table_columns(path)

    def column(key: str | int) -> Tensor:
        if key not in columns:
            names = [str(name) for name in columns]
            raise DataError(f"{path} has no column {key!r}; it has {names}")
        return torch.from_numpy(np.asarray(columns[key], dtype=np.float64))

    return ReferenceCurve(
        column(x) * LENGTH_UNITS[length_unit],
        column(y),
        None if error is None else column(error),
        str(path),
    )


def read_soper2013(path: str | Path, pair: str) -> ReferenceCurve:
    """A measured pair correlation function of water with its error.

    Args:
        path: the table with the columns r_A, O_O, OOError, O_H, OHError, H_H, HHError.
        pair: ``"O-O"``, ``"O-H"`` or ``"H-H"``.

    Reference: Soper, ISRN Phys. Chem. 2013, 279463, doi 10.1155/2013/279463.
    """
    first, _, second = pair.partition("-")
    return read_curve(path, x="r_A", y=f"{first}_{second}", error=f"{first}{second}Error")


def read_soper_benmore2008(path: str | Path) -> ReferenceCurve:
    """The measured g_OO(r) of water; the file's lengths are in nm.

    Reference: Soper and Benmore, Phys. Rev. Lett. 101, 065502 (2008).
    """
    return read_curve(path, length_unit="nm")


def _npz_columns(path: Path) -> dict[str | int, Array]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files if file[name].ndim == 1}


def _table_columns(path: Path) -> dict[str | int, Array]:
    header: list[str] = []
    rows: list[list[float]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.replace(",", " ").lstrip("# \t").split()
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            header = header if rows else words
            continue
        if numbers and not line.lstrip().startswith("#"):
            rows.append(numbers)
    if not rows or len({len(row) for row in rows}) != 1:
        raise DataError(f"{path} holds no table of numbers with equally long rows")
    table = np.array(rows)
    columns: dict[str | int, Array] = {k: table[:, k] for k in range(table.shape[1])}
    if len(header) == table.shape[1]:
        columns |= {name: table[:, k] for k, name in enumerate(header)}
    return columns
