"""Outside packages: imported when they are needed, in versions that are known to work."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from stablemd.errors import MissingDependencyError


@dataclass(frozen=True)
class Package:
    """An outside package that an adapter needs.

    Attributes:
        distribution: its name on the package index.
        module: the module that is imported.
        extra: the extra of this package that installs it.
        minimum: oldest version that works.
        reason: why older ones do not.
        refused: versions from ``minimum`` on that do not work, with the reason.
    """

    distribution: str
    module: str
    extra: str
    minimum: tuple[int, ...]
    reason: str
    refused: tuple[tuple[tuple[int, ...], str], ...] = ()

    def require(self) -> None:
        """Check that the package is there in a version that works.

        Raises:
            MissingDependencyError: it is not installed, or its version is refused.
        """
        try:
            found = version(self.distribution)
        except PackageNotFoundError as error:
            raise MissingDependencyError(
                f"this model needs the package {self.distribution}, which is not installed; "
                f"install it with: pip install 'stablemd[{self.extra}]'"
            ) from error
        numbers = release(found)
        if numbers < self.minimum:
            raise MissingDependencyError(
                f"{self.distribution} {found} is too old: {self.reason}; version "
                f"{'.'.join(map(str, self.minimum))} or newer is needed: "
                f"pip install 'stablemd[{self.extra}]'"
            )
        for bad, why in self.refused:
            if numbers[: len(bad)] == bad:
                raise MissingDependencyError(
                    f"{self.distribution} {found} is known not to work: {why}; install another "
                    f"version: pip install 'stablemd[{self.extra}]'"
                )

    def load(self, submodule: str = "") -> Any:
        """The package's module, or one of its submodules, after ``require``."""
        self.require()
        name = f"{self.module}.{submodule}" if submodule else self.module
        try:
            return import_module(name)
        except ImportError as error:
            raise MissingDependencyError(
                f"{self.distribution} {version(self.distribution)} is installed, but {name} can't "
                f"be imported ({error}); install it anew: pip install 'stablemd[{self.extra}]'"
            ) from error

    @property
    def is_installed(self) -> bool:
        """Whether any version is there."""
        try:
            version(self.distribution)
        except PackageNotFoundError:
            return False
        return True


def release(text: str) -> tuple[int, ...]:
    """The leading numbers of a version, e.g. ``0.3.16rc1`` -> (0, 3, 16)."""
    numbers = []
    for part in text.split("+")[0].split("."):
        digits = ""
        for character in part:
            if not character.isdigit():
                break
            digits += character
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)


NEWER = "the adapter was written for newer ones"

NEQUIP = Package("nequip", "nequip", "nequip", (0, 17), NEWER)
MACE = Package("mace-torch", "mace", "mace", (0, 3, 16), NEWER)
GRAPH_PES = Package("graph-pes", "graph_pes", "graph-pes", (1, 0), NEWER)
TORCH_SIM = Package("torch-sim-atomistic", "torch_sim", "torch-sim", (0, 3), NEWER)
