"""What every adapter of an outside package shares."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials.base import EagerSampling, Potential, SamplingForm
from stablemd.system import System

EXTRA_STATE = "_extra_state"
"""End of the names under which modules keep what is not a tensor."""


CACHED_ATOMS = 350
"""Atoms of a batch on a CPU. Larger batches gain nothing: what a network keeps per edge leaves
the cache."""


class AdaptedPotential(Potential):
    """A trainable model of an outside package behind the ``Potential`` contract.

    The package's own module holds the parameters and computes the atomic energies;
    forces, stress and training derive from them as for any potential.  ``save``
    writes the package's own format.

    Attributes:
        fixed_precision: whether the package builds a model for one precision.
    """

    file_suffix: str
    fixed_precision: bool = True

    def for_sampling(self, system: System, reference: Tensor | None = None) -> SamplingForm:
        """As for any potential; isolated molecules on a CPU in batches that stay in its cache."""
        if system.is_periodic or self.device.type != "cpu":
            return EagerSampling(self, system)
        return EagerSampling(self, system, max(1, CACHED_ATOMS // system.n_atoms))

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the model in its package's own format; the file is replaced in one step.

        Raises:
            PotentialError: the suffix is not one of the format.
        """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move to a device; the precision is what the model was built for."""
        if not self.fixed_precision:
            return super()._apply(fn, recurse)
        here = torch.zeros(1, dtype=self.dtype, device=self.device)
        wanted = fn(here).dtype
        if wanted != self.dtype:
            raise PotentialError(
                f"{type(self).__name__} computes in {_name(self.dtype)} and can't be changed to "
                f"{_name(wanted)}, since its package builds a model for one precision; load or "
                "build one in the other"
            )

        def moved(tensor: Tensor) -> Tensor:
            # Constants that the package keeps in float64 stay in it.
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        return super()._apply(moved, recurse)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Tensors only: what else a package keeps there does not change in training."""
        state = super().state_dict(*args, **kwargs)
        for name in [n for n in state if n.endswith(EXTRA_STATE)]:
            del state[name]
        return state

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        own = super().state_dict(prefix=prefix)
        state_dict.update({n: v for n, v in own.items() if n.endswith(EXTRA_STATE)})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _require_suffix(self, path: Path, *suffixes: str) -> None:
        if not path.name.endswith(suffixes):
            raise PotentialError(
                f"{path}: {type(self).__name__} is saved in its package's own format; give a "
                f"name that ends in {' or '.join(suffixes)}"
            )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
