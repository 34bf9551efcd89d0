"""The data of a run: structures, their parts, and the molecule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from stablemd.config import DataSettings, FieldName, RunConfig
from stablemd.data import Frames, contiguous_split, read_frames, split, system_from_frames
from stablemd.errors import DataError
from stablemd.potentials.device_graph import set_cuda_graphs
from stablemd.system import System
from stablemd.training.training_point import TrainingPoint
from stablemd.workflows.threads import set_threads


@dataclass(frozen=True)
class Experiment:
    """What every command of a run works on.

    Attributes:
        config: the configuration.
        system: the molecule; its bonds and their mean lengths come from all
            structures but the test structures.
        train: structures to train on.
        validation: structures that steer schedule and error budget.
        test: structures that no training sees, or None where none are left.
        reference: structures set aside as the observables' reference, or None.
    """

    config: RunConfig
    system: System
    train: Frames
    validation: Frames
    test: Frames | None
    reference: Frames | None

    @property
    def training_reference(self) -> Frames:
        """Structures whose averages the observables are trained towards."""
        if self.reference is not None:
            return self.reference
        return concatenate([self.train, self.validation])

    def as_training_point(self, name: str) -> TrainingPoint:
        """What a training needs to know of it, as the state point of that name."""
        return TrainingPoint(
            name,
            self.system,
            self.train,
            self.validation,
            self.training_reference,
            self.config.stable,
        )

    @property
    def evaluation_reference(self) -> Frames:
        """Structures whose averages the observables are evaluated against."""
        if self.config.data.reference is not None and self.reference is not None:
            return self.reference
        return self.require_test()

    def require_test(self) -> Frames:
        """The test structures.

        Raises:
            DataError: none are left.
        """
        if self.test is None:
            data = self.config.data
            raise DataError(
                f"{data.path}: no test structures are left beside data.n_train = {data.n_train}, "
                f"data.n_validation = {data.n_validation} and data.n_reference = "
                f"{data.n_reference or 0}; make one of them smaller"
            )
        return self.test


def prepare(config: RunConfig) -> Experiment:
    """Read the data of a run, split it, find the bonds, and set the number of threads.

    Raises:
        DataError: a file can't be read, is too small for the split, or has no labels;
            or the reference holds other atoms.
        ConfigError: there are more threads than this machine has.
    """
    set_threads(config.threads, config.processes)
    set_cuda_graphs(config.cuda_graphs)
    data = config.data
    frames = read_frames(
        data.path,
        energy_unit=data.energy_unit,
        length_unit=data.length_unit,
        keys=_names(data.keys),
    )
    frames.require_labels()
    train, validation, rest = _parts(frames, data)
    reference, test = _set_aside(rest, data)
    if data.reference is not None:
        reference = _read_reference(frames, data)
    seen = [train, validation] + ([] if reference is None else [reference])
    system = system_from_frames(
        concatenate(seen), bonds=data.bonds, bond_tolerance=data.bond_tolerance
    )
    return Experiment(config, system, train, validation, test, reference)


def further_points(config: RunConfig) -> list[TrainingPoint]:
    """The further state points of a run, each with its own data; errors as of ``prepare``."""
    return [prepare(config.at(name)).as_training_point(name) for name in config.state_point_names]


def concatenate(parts: list[Frames]) -> Frames:
    """Frames of the same atoms as one; labels stay where all parts have them."""
    first = parts[0]

    def join(name: str) -> torch.Tensor | None:
        values = [getattr(part, name) for part in parts]
        return None if any(v is None for v in values) else torch.cat(values)

    positions = torch.cat([part.positions for part in parts])
    return Frames(
        numbers=first.numbers,
        positions=positions,
        energies=join("energies"),
        forces=join("forces"),
        cell=join("cell"),
        pbc=first.pbc,
        source=" + ".join(dict.fromkeys(part.source for part in parts)),
    )


def _names(keys: Mapping[FieldName, str] | None) -> dict[str, str] | None:
    return None if keys is None else {str(field): name for field, name in keys.items()}


def _parts(frames: Frames, data: DataSettings) -> tuple[Frames, Frames, Frames | None]:
    sizes = {"n_train": data.n_train, "n_validation": data.n_validation}
    if data.n_test is not None:
        sizes["n_test"] = data.n_test + (data.n_reference or 0)
    if data.contiguous:
        parts = contiguous_split(frames, gap=data.gap, **sizes)
    else:
        parts = split(frames, seed=data.split_seed, **sizes)
    return parts.train, parts.validation, parts.test


def _set_aside(rest: Frames | None, data: DataSettings) -> tuple[Frames | None, Frames | None]:
    """Reference and test structures from what training and validation left."""
    n = data.n_reference
    if n is None:
        return None, rest
    available = 0 if rest is None else len(rest)
    if rest is None or available < n:
        raise DataError(
            f"{data.path}: data.n_reference = {n} structures are to be set aside, and "
            f"{available} are left beside those for training and validation; use a smaller number"
        )
    first_test = n + (data.gap if data.contiguous else 0)
    test = rest.select(slice(first_test, None)) if available > first_test else None
    return rest.select(slice(0, n)), test


def _read_reference(frames: Frames, data: DataSettings) -> Frames:
    assert data.reference is not None
    reference = read_frames(
        data.reference,
        energy_unit=data.reference_energy_unit or data.energy_unit,
        length_unit=data.reference_length_unit or data.length_unit,
        keys=_names(data.reference_keys),
    )
    if not torch.equal(reference.numbers, frames.numbers):
        raise DataError(
            f"{data.reference} holds other atoms than {data.path} "
            f"({reference.numbers.tolist()} and {frames.numbers.tolist()}); give structures of "
            "the same atoms in the same order"
        )
    return reference
