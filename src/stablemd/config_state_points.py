"""Further state points of a configuration: what is different there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import (
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from stablemd.config_data import DataSettings
from stablemd.config_errors import config_error
from stablemd.md.settings import DynamicsSettings
from stablemd.observables.settings import ObservableSettings
from stablemd.settings import Settings
from stablemd.stability.settings import DetectorSettings
from stablemd.training.training_point import MAIN_POINT

Section = TypeVar("Section", bound=Settings)


class DataChanges(DataSettings):
    """Keys of ``data`` that are different; the others are those of the main section."""

    path: Path = Field(Path(), description="file of reference structures")
    n_train: PositiveInt = Field(1, description="structures to train on")
    n_validation: PositiveInt = Field(1, description="structures that steer the budget")

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: v for key, v in handler(self).items() if key in self.model_fields_set}


class DynamicsChanges(DynamicsSettings):
    """Keys of ``dynamics`` that are different; the others are those of the main section."""

    @field_validator("detectors")
    @classmethod
    def _has_conserved_energy(
        cls, detectors: tuple[DetectorSettings, ...] | None, info: ValidationInfo
    ) -> tuple[DetectorSettings, ...] | None:
        return detectors  # the integrator may be the main section's; checked once merged

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: v for key, v in handler(self).items() if key in self.model_fields_set}


class StatePointSettings(Settings):
    """A further temperature, box or system, trained by the same model as the main one."""

    name: str = Field(description="of the state point, and of its folder; not main")
    data: DataChanges = Field(
        default_factory=DataChanges, description="keys of data that are different here"
    )
    dynamics: DynamicsChanges = Field(
        default_factory=DynamicsChanges,
        description="keys of dynamics that are different here, in training and in evaluation",
    )
    observables: tuple[ObservableSettings, ...] | None = Field(
        None,
        min_length=1,
        description="what is compared with the reference here; null: as in stable.observables "
        "and evaluation.observables",
    )

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, name: str) -> str:
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is None:
            raise ValueError(
                "use letters, digits, and after the first . _ - too: it names a folder"
            )
        if name.casefold() == MAIN_POINT:
            raise ValueError(f"{MAIN_POINT} is the state point of the main sections")
        return name


def merged_section(main: Section, changes: Settings, source: str, prefix: str) -> Section:
    """A main section with the keys that a state point changes.

    Args:
        main: the section.
        changes: of a subclass, with those keys set.
        source: where they come from, for messages.
        prefix: dotted key of the changes, with a final dot.

    Raises:
        ConfigError: the keys do not go together.
    """
    kind = type(main)
    given = {key: getattr(changes, key) for key in changes.model_fields_set}
    values = {**{key: getattr(main, key) for key in kind.model_fields}, **given}
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise config_error(kind, error, values, source, prefix) from error
