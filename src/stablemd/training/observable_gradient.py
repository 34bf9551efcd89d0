"""The observables of a training with the estimator of their gradient."""

from __future__ import annotations

from stablemd.data import Frames
from stablemd.estimators import (
    EstimatorResult,
    LocalizedResult,
    StratifiedSampling,
    boltzmann_gradient,
    localized_gradient,
)
from stablemd.potentials.base import Potential
from stablemd.system import System
from stablemd.training.epoch_frames import EpochFrames
from stablemd.training.local_target import LocalTarget
from stablemd.training.observable_target import ObservableTarget
from stablemd.training.stable_settings import StableSettings

Target = ObservableTarget | LocalTarget


def make_target(
    potential: Potential, system: System, reference: Frames, settings: StableSettings
) -> Target:
    """What the settings compare with the reference structures, for their estimator.

    Raises:
        ConfigError: an observable does not go with the estimator.
        PotentialError: the estimator needs atomic energies and the potential has none.
    """
    if settings.estimator == "localized":
        potential.require_local_energies()
        return LocalTarget(
            system,
            reference.positions,
            settings.observables,
            settings.neighbourhoods,
            reference.cell,
            settings.neighbourhood_options,
        )
    return ObservableTarget(system, reference.positions, settings.observables, reference.cell)


def observable_gradient(
    potential: Potential,
    system: System,
    epoch: EpochFrames,
    target: Target,
    *,
    beta: float,
    chunk_size: int,
    max_backward: int | None,
    seed: int,
    noise_groups: int,
    error_bars: bool = True,
) -> EstimatorResult | LocalizedResult:
    """Add the gradient of the target's loss to ``.grad``, by the target's estimator.

    Args:
        potential: at the present parameters.
        system: the atoms.
        epoch: frames with the target's values, and their present energies.
        target: observables and loss.
        beta: inverse temperature in 1/eV.
        chunk_size: frames per pass.
        max_backward: frames in the backward pass at most, or pairs of frame and
            neighbourhood; None: all.
        seed: of the choice of those.
        noise_groups: groups of replicas that are compared for the noise; 0 for none.
        error_bars: whether to form the error bar of the loss.
    """
    if isinstance(target, LocalTarget):
        return localized_gradient(
            potential,
            system,
            epoch.frames,
            target.loss,
            beta=beta,
            neighbourhoods=target.neighbourhoods,
            chunk_size=chunk_size,
            energies=epoch.energies,
            sampling=None if max_backward is None else StratifiedSampling(max_backward, seed=seed),
            noise_groups=noise_groups,
            error_bars=error_bars,
        )
    return boltzmann_gradient(
        potential,
        system,
        epoch.frames,
        target.loss,
        beta=beta,
        chunk_size=chunk_size,
        energies=epoch.energies,
        max_backward_frames=max_backward,
        seed=seed,
        noise_groups=noise_groups,
        error_bars=error_bars,
    )
