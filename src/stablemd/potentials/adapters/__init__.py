"""Models of outside packages: one file each, imported when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from stablemd.errors import PotentialError
from stablemd.potentials.base import Potential


@dataclass(frozen=True)
class Format:
    """Where models of a package are read.

    Attributes:
        module: of this folder.
        name: its class, with a class method ``load(path, **options)``.
        suffixes: ends of file names that mean this format.
    """

    module: str
    name: str
    suffixes: tuple[str, ...] = ()

    def load(self, path: Path | None, options: Mapping[str, Any]) -> Potential:
        """Read a model.

        Raises:
            PotentialError: it can't be read, or an option is not one of the format.
            MissingDependencyError: the package is absent or too old.
        """
        kind = getattr(import_module(f"{__name__}.{self.module}"), self.name)
        try:
            potential: Potential = kind.load(path, **options)
        except TypeError as error:
            raise PotentialError(
                f"options {dict(options)} of {path or self.module}: {error}"
            ) from error
        return potential


FORMATS: dict[str, Format] = {
    "ase": Format("ase", "ASEPotential"),
    "graph-pes": Format("graph_pes", "GraphPESPotential", (".graph-pes.pt",)),
    "mace": Format("mace", "MACEModel", (".model",)),
    "nequip": Format("nequip", "NequIPModel", (".nequip.zip", ".ckpt")),
    "torch-sim": Format("torch_sim", "TorchSimPotential"),
}
"""Formats of outside packages by the name used in configurations."""


PATHLESS = ("ase", "torch-sim")
"""Formats that name their model among the options instead of by a file."""


def format_of(path: Path) -> str | None:
    """The format that a file's name means, None for this package's own."""
    for name, file_format in FORMATS.items():
        if path.name.endswith(file_format.suffixes or ("\0",)):
            return name
    return None


__all__ = ["FORMATS", "PATHLESS", "Format", "format_of"]
