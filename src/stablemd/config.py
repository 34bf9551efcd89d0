"""The configuration of a run: one typed tree that every command reads its part of."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
)

from stablemd.config_checks import check_combinations, check_hyperparameters
from stablemd.config_errors import config_error, refuse_misplaced_booleans
from stablemd.data.array_fields import FIELD_NAMES
from stablemd.data.energy_units import canonical_energy_unit, canonical_length_unit
from stablemd.data.topology import BOND_TOLERANCE
from stablemd.evaluation.settings import EvaluationSettings
from stablemd.md.settings import DynamicsSettings
from stablemd.potentials import POTENTIALS
from stablemd.potentials.adapters import FORMATS, PATHLESS
from stablemd.settings import Settings
from stablemd.training.pretrain import PretrainSettings
from stablemd.training.stable_settings import StableSettings

EnergyUnit = Annotated[str, AfterValidator(canonical_energy_unit)]
LengthUnit = Annotated[str, AfterValidator(canonical_length_unit)]
FieldName = Literal["numbers", "positions", "energies", "forces", "cell", "pbc"]
Bond = tuple[NonNegativeInt, NonNegativeInt]

assert set(FIELD_NAMES) == set(FieldName.__args__)  # type: ignore[attr-defined]

SEED_OFFSETS = {"pretrain": 0, "stable": 0, "evaluation": 1000, "simulation": 2000}
"""Sections that draw random numbers, and what is added to ``seed`` where they have none."""

DYNAMICS_SECTIONS = ("stable", "evaluation", "simulation")
"""Sections whose ``dynamics`` starts from the common one."""


class DataSettings(Settings):
    """Reference structures, how they are split, and which atoms are bonded."""

    path: Path = Field(description="file of reference structures: npz, HDF5, or what ASE reads")
    energy_unit: EnergyUnit | None = Field(
        None, description="unit of the file's energies; null: as the file itself says"
    )
    length_unit: LengthUnit | None = Field(
        None, description="unit of the file's lengths; null: as the file says, else angstrom"
    )
    keys: dict[FieldName, str] | None = Field(
        None, description="own names of the file's fields, e.g. {energies: U}"
    )
    n_train: PositiveInt = Field(description="structures to train on")
    n_validation: PositiveInt = Field(description="structures that steer schedule and budget")
    n_test: PositiveInt | None = Field(
        None, description="structures to evaluate on; null: all that are left"
    )
    n_reference: PositiveInt | None = Field(
        None,
        description="further structures of the same file, apart from all others, whose averages "
        "are the reference of the observables",
    )
    split_seed: NonNegativeInt = Field(
        0, description="of the random split; not changed by seed, since models have seen a split"
    )
    contiguous: bool = Field(False, description="split in the order of time, not at random")
    gap: NonNegativeInt = Field(0, description="structures left out between contiguous parts")
    bonds: tuple[Bond, ...] | None = Field(
        None, description="pairs of bonded atoms, counted from 0; null: from covalent radii"
    )
    bond_tolerance: float = Field(
        BOND_TOLERANCE, ge=1.0, le=2.0, description="longest bond over the sum of covalent radii"
    )
    reference: Path | None = Field(
        None,
        description="another file whose averages are the reference of the observables. Without it "
        "training takes the n_reference structures, or else the training and validation ones, "
        "and an evaluation takes the test structures",
    )
    reference_energy_unit: EnergyUnit | None = Field(None, description="of that file")
    reference_length_unit: LengthUnit | None = Field(None, description="of that file")
    reference_keys: dict[FieldName, str] | None = Field(None, description="of that file")


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
        return config

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
    "PotentialSettings",
    "RunConfig",
    "SimulationSettings",
]
