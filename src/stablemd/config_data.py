"""The data section of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from stablemd.data.array_fields import FIELD_NAMES
from stablemd.data.energy_units import canonical_energy_unit, canonical_length_unit
from stablemd.data.topology import BOND_TOLERANCE
from stablemd.settings import Settings

EnergyUnit = Annotated[str, AfterValidator(canonical_energy_unit)]
LengthUnit = Annotated[str, AfterValidator(canonical_length_unit)]
FieldName = Literal["numbers", "positions", "energies", "forces", "cell", "pbc"]
Bond = tuple[NonNegativeInt, NonNegativeInt]

assert set(FIELD_NAMES) == set(FieldName.__args__)  # type: ignore[attr-defined]


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
