"""The configuration of a run: one typed tree that every command reads its part of."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from stablemd.config_checks import check_combinations, check_hyperparameters
from stablemd.config_data import DataSettings, FieldName
from stablemd.config_errors import config_error, refuse_misplaced_booleans
from stablemd.config_state_points import StatePointSettings, merged_section
from stablemd.errors import ConfigError
from stablemd.evaluation.settings import EvaluationSettings
from stablemd.md.settings import DynamicsSettings
from stablemd.potentials import POTENTIALS
from stablemd.potentials.adapters import FORMATS, PATHLESS
from stablemd.settings import Settings
from stablemd.training.pretrain import PretrainSettings
from stablemd.training.stable_settings import StableSettings

SEED_OFFSETS = {"pretrain": 0, "stable": 0, "evaluation": 1000, "simulation": 2000}
"""Sections that draw random numbers, and what is added to ``seed`` where they have none."""

DYNAMICS_SECTIONS = ("stable", "evaluation", "simulation")
"""Sections whose ``dynamics`` starts from the common one."""

STATE_POINT_SEED = 10_000
"""What is added to the seed of ``stable`` from one state point to the next."""

STATE_POINT_FOLDER = "at"
"""Folder of a run directory with the evaluations at further state points."""


class TermSettings(Settings):
    """A potential that is added to the model, such as a repulsion at short distance."""

    name: str = Field(description="zbl, lennard_jones, harmonic_bonds or an architecture")
    hyperparameters: dict[str, Any] = Field(
        default_factory=dict, description="its arguments; trainable: false freezes a classical term"
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return _known_potential(name)


class PotentialSettings(Settings):
    """Which architecture, or which trained model to start from."""

    name: str = Field("schnet", description="architecture of a fresh model")
    path: Path | None = Field(
        None,
        description="trained model that training starts from; null: the run's own pretrained.pt",
    )
    format: str | None = Field(
        None,
        description="package whose model it is: ase, graph-pes, mace, nequip or torch-sim; null: "
        "from the file's suffix (.model, .nequip.zip, .ckpt, .graph-pes.pt), else stablemd's own. "
        "Reading other packages' files runs code in them. ase and torch-sim need no path",
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="of that package's reader, e.g. {head: name} for a MACE with several heads",
    )
    preset: str | None = Field(
        None, description="named hyper-parameters of a fresh model, e.g. paper for nequip"
    )
    hyperparameters: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the architecture, for a fresh model"
    )
    terms: tuple[TermSettings, ...] = Field(
        (), description="potentials added to a fresh model; not with other packages' formats"
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return _known_potential(name)

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str | None) -> str | None:
        if value is not None and value not in FORMATS:
            raise ValueError(f"choose one of {', '.join(sorted(FORMATS))}, or null")
        return value

    @property
    def arguments(self) -> dict[str, Any]:
        """Hyper-parameters with the preset among them."""
        preset = {} if self.preset is None else {"preset": self.preset}
        return preset | self.hyperparameters

    @property
    def has_model(self) -> bool:
        """Whether a trained model is named, so that there is nothing to pretrain."""
        return self.path is not None or self.format in PATHLESS


class SimulationSettings(Settings):
    """Plain replica MD of ``stablemd simulate``."""

    dynamics: DynamicsSettings = Field(default_factory=DynamicsSettings)
    n_replicas: PositiveInt = Field(8, description="replicas, from the first test structures")
    length_ps: PositiveFloat = Field(10.0, description="time at most per replica in ps")
    record_every_fs: PositiveFloat = Field(50.0, description="time between recorded frames in fs")
    format: Literal["extxyz", "hdf5"] = Field("extxyz", description="of the trajectory file")
    seed: NonNegativeInt = Field(2_000, description="of velocities and noise")


class RunConfig(Settings):
    """Everything that a run needs; see ``docs/configuration.md``.

    Build it with ``load_config`` or ``RunConfig.from_values``, which fill in what
    sections share and explain every mistake by its key.
    """

    data: DataSettings
    potential: PotentialSettings = Field(default_factory=PotentialSettings)
    dynamics: DynamicsSettings = Field(
        default_factory=DynamicsSettings,
        description="common to training, evaluation and simulation, which may override keys",
    )
    pretrain: PretrainSettings = Field(default_factory=PretrainSettings)
    stable: StableSettings = Field(default_factory=StableSettings)
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    simulation: SimulationSettings = Field(default_factory=SimulationSettings)
    state_points: tuple[StatePointSettings, ...] = Field(
        (), description="further state points and systems that are trained with the main one"
    )
    control: bool = Field(
        True, description="also train a control: as many steps on energies and forces alone"
    )
    device: str = Field("cpu", description="cpu, cuda or cuda:N")
    cuda_graphs: bool = Field(
        True, description="on cuda: start a recorded step as a whole instead of kernel by kernel"
    )
    threads: PositiveInt | None = Field(
        None,
        description="threads of each process that share the replicas on the CPU; null: 1 where "
        "processes is given, else all cores",
    )
    processes: PositiveInt | None = Field(
        None,
        description="processes that share the replicas on the CPU; null: 1 where threads is "
        "given, else all cores for potentials that threads would not make faster",
    )
    seed: NonNegativeInt = Field(0, description="of every section that has no seed of its own")
    out: Path = Field(
        Path("runs/run"),
        description="folder of the results; for a file, runs/<its name> by default",
    )

    @classmethod
    def from_values(cls, values: Mapping[str, Any], source: str = "configuration") -> RunConfig:
        """A checked configuration from nested plain values, e.g. of a YAML file.

        Args:
            values: sections and keys; what is absent gets its default.
            source: where the values come from, for messages.

        Raises:
            ConfigError: unknown keys, wrong types or impossible values, all of them
                named with their dotted key, the value and what is allowed.
        """
        filled = _share(deepcopy(dict(values)))
        refuse_misplaced_booleans(cls, filled, source)
        try:
            config = cls.model_validate(filled)
        except ValidationError as error:
            raise config_error(cls, error, filled, source) from error
        if not config.potential.has_model:
            check_hyperparameters(config.potential.name, config.potential.arguments, source)
        for index, term in enumerate(config.potential.terms):
            place = f"potential.terms.{index}.hyperparameters"
            check_hyperparameters(term.name, term.hyperparameters, source, place)
        check_combinations(config, source)
        for index, name in enumerate(config.state_point_names):
            check_combinations(config.at(name, source), source, f"state_points.{index}: ")
        return config

    @property
    def state_point_names(self) -> list[str]:
        """Names of the further state points."""
        return [point.name for point in self.state_points]

    def at(self, name: str, source: str = "configuration") -> RunConfig:
        """The configuration of a further state point alone, in a folder of its own.

        Args:
            name: of the state point.
            source: where the values come from, for messages.

        Raises:
            ConfigError: there is no such state point, or what it changes does not go with
                the main section.
        """
        if name not in self.state_point_names:
            raise ConfigError(
                f"{source}: there is no further state point {name!r}; state_points has "
                f"{', '.join(self.state_point_names) or 'none'}"
            )
        index = self.state_point_names.index(name)
        point, place = self.state_points[index], f"state_points.{index}"
        data = merged_section(self.data, point.data, source, f"{place}.data.")

        def moved(dynamics: DynamicsSettings) -> DynamicsSettings:
            return merged_section(dynamics, point.dynamics, source, f"{place}.dynamics.")

        stable = {
            "dynamics": moved(self.stable.dynamics),
            "seed": self.stable.seed + STATE_POINT_SEED * (index + 1),
        }
        evaluation: dict[str, Any] = {"dynamics": moved(self.evaluation.dynamics)}
        if point.observables is not None:
            stable["observables"] = evaluation["observables"] = point.observables
        simulation = {"dynamics": moved(self.simulation.dynamics)}
        return self.model_copy(
            update={
                "data": data,
                "dynamics": moved(self.dynamics),
                "stable": self.stable.model_copy(update=stable),
                "evaluation": self.evaluation.model_copy(update=evaluation),
                "simulation": self.simulation.model_copy(update=simulation),
                "state_points": (),
                "out": self.out / STATE_POINT_FOLDER / name,
            }
        )

    def to_values(self) -> dict[str, Any]:
        """Nested plain values with every default spelt out, as config.yaml holds them."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return values


def _known_potential(name: str) -> str:
    if name not in POTENTIALS:
        raise ValueError(f"choose one of {', '.join(sorted(POTENTIALS))}")
    return name


def _share(values: dict[str, Any]) -> dict[str, Any]:
    """Give sections the common seed and dynamics where they do not set their own."""
    result = dict(values)
    seed = result.get("seed", 0)
    if isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0:
        for section, offset in SEED_OFFSETS.items():
            part = result.get(section, {})
            if isinstance(part, Mapping) and "seed" not in part:
                result[section] = {**part, "seed": seed + offset}
    common = result.get("dynamics")
    if isinstance(common, Mapping):
        for section in DYNAMICS_SECTIONS:
            part = result.get(section, {})
            if isinstance(part, Mapping) and isinstance(part.get("dynamics", {}), Mapping):
                result[section] = {**part, "dynamics": {**common, **part.get("dynamics", {})}}
    return result


__all__ = [
    "DataSettings",
    "FieldName",
    "PotentialSettings",
    "RunConfig",
    "SimulationSettings",
    "StatePointSettings",
]
