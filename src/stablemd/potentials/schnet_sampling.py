"""SchNet's sampling form on a CPU, and which form a model gets."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from stablemd.potentials.base import SamplingForm
from stablemd.potentials.schnet_arrays import copy_workspace, make_workspace, pack_model
from stablemd.potentials.schnet_kernels import advance_replicas, evaluate_replicas
from stablemd.potentials.schnet_periodic import PeriodicSchNetSampling
from stablemd.potentials.split_step import SplitStep
from stablemd.system import System

if TYPE_CHECKING:
    from stablemd.potentials.schnet import SchNet

_NO_NOISE = np.zeros((0, 0, 0, 0))

logger = logging.getLogger(__name__)

KNOT_COUNTS = (512, 1024, 2048, 4096)
"""Table sizes that are tried until the error bound holds."""

FORCE_TOLERANCE = 1e-4
"""Largest accepted difference of a force component from the exact model, eV/Å."""

ENERGY_TOLERANCE = 1e-5
"""Largest accepted difference of an energy from the exact model, eV per atom."""


class SchNetSampling(SamplingForm):
    """Energies and forces of replicas of one system with a frozen SchNet.

    Filters are functions of one distance while the parameters are frozen, so
    each interaction's filter is a table, interpolated by a cubic spline:
    energies are twice continuously differentiable and forces are their exact
    gradient.  Call again after an optimizer step to rebuild the tables.

    Args:
        potential: a SchNet in float32 on the CPU.
        system: the molecule.
        n_knots: intervals of the table on [0, cutoff].
    """

    replica_independent = True
    advances = True

    def __init__(self, potential: SchNet, system: System, n_knots: int = 1024) -> None:
        self.n_knots = n_knots
        self._scale = float(potential.energy_scale)
        self._shifts = potential.atomic_shift[system.numbers]
        with torch.no_grad():
            self._model = pack_model(potential, system, n_knots)
        self._work = make_workspace(potential, system)

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        energies, forces, _ = self._evaluate(positions)
        return energies, forces

    def energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        energies, _, _ = self._evaluate(positions, with_forces=False)
        return energies

    def atomic_energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        _, _, local = self._evaluate(positions, with_forces=False)
        return local * self._scale + self._shifts

    def advance(
        self,
        positions: Tensor,
        momenta: Tensor,
        forces: Tensor,
        step: SplitStep,
        n_steps: int,
        noise: Tensor | None,
    ) -> Tensor:
        energies = torch.empty(positions.shape[0], dtype=torch.float64)
        local = torch.empty(positions.shape[:2], dtype=torch.float64)
        advance_replicas(
            positions.numpy(),
            momenta.numpy(),
            energies.numpy(),
            forces.numpy(),
            local.numpy(),
            self._model,
            self._work,
            n_steps,
            step.half_kick,
            step.drift,
            1.0 if step.decay is None else step.decay,
            step.drift if step.noise_scale is None else step.noise_scale,
            _NO_NOISE if noise is None else noise.numpy(),
        )
        return energies

    def for_thread(self) -> SchNetSampling:
        """The same model and tables with a workspace of its own."""
        other = copy.copy(self)
        other._work = copy_workspace(self._work)
        return other

    def _evaluate(
        self, positions: Tensor, *, with_forces: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = positions.to(torch.float64).contiguous()
        forces = torch.empty_like(x if with_forces else x[:0])
        local = torch.empty(x.shape[:2], dtype=torch.float64)
        energies = torch.empty(x.shape[0], dtype=torch.float64)
        evaluate_replicas(
            x.numpy(), self._model, self._work, energies.numpy(), forces.numpy(), local.numpy()
        )
        return energies, forces, local


def build_sampling_form(
    potential: SchNet, system: System, reference: Tensor | None = None
) -> SamplingForm | None:
    """The compiled form with the smallest table that meets the error bounds.

    Args:
        potential: the model.
        system: the atoms.
        reference: structures (n, N, 3) in Å on which the table's error is
            measured; without them the size is the one that suffices for common models.

    Returns:
        None, with the reason logged, where the compiled form does not apply.
    """
    found = _form_of(potential, system)
    if isinstance(found, str):
        logger.info(
            "SchNet sampling: eager form (%s on %s): %s",
            potential.dtype,
            potential.device,
            found,
        )
        return None
    compiled = found
    if reference is None:
        return compiled(potential, system)
    reference = reference.to(potential.device)
    exact_energies, exact_forces = potential.energy_and_forces(system, reference)
    force_error = energy_error = float("nan")
    for n_knots in KNOT_COUNTS:
        form = compiled(potential, system, n_knots)
        energies, forces = form(reference)
        force_error = float((forces - exact_forces).abs().max())
        energy_error = float((energies - exact_energies).abs().max()) / system.n_atoms
        if force_error < FORCE_TOLERANCE and energy_error < ENERGY_TOLERANCE:
            return form
    logger.warning(
        "SchNet sampling: eager form, since a table of %d knots is %.1e eV/Å and %.1e eV/atom "
        "off the exact model (bounds %.0e and %.0e)",
        KNOT_COUNTS[-1],
        force_error,
        energy_error,
        FORCE_TOLERANCE,
        ENERGY_TOLERANCE,
    )
    return None


def _form_of(potential: SchNet, system: System) -> Callable[..., SamplingForm] | str:
    """The class of the compiled form, or why there is none."""
    if potential.dtype != torch.float32:
        return "the compiled forms need float32"
    if potential.device.type == "cpu":
        return PeriodicSchNetSampling if system.is_periodic else SchNetSampling
    if potential.device.type != "cuda":
        return "the compiled forms run on cpu and cuda"
    if system.is_periodic:
        return "the compiled form for cuda knows isolated molecules only"
    try:
        from stablemd.potentials.schnet_device import why_unusable
        from stablemd.potentials.schnet_triton import TritonSchNetSampling
    except ImportError as error:
        return f"the compiled form for cuda needs triton ({error}); pip install 'stablemd[triton]'"
    return why_unusable(potential.device) or TritonSchNetSampling
