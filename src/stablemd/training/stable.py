"""StABlE Training: the simulate-learn cycle.

Raja, Amin, Pedregosa, Krishnapriyan, "Stability-Aware Training of Machine
Learning Force Fields with Differentiable Boltzmann Estimators", TMLR 2025
(arXiv 2402.13984), algorithm 1.  Differences, each for a reason: a failure is
seen within the window, and the replica is rewound to shortly before it rather
than to the start of the window; frames are reused for several steps by
reweighting; every simulation phase starts afresh, so that it measures the
stability of the model it runs; and the error on reference data has a budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stablemd.data import Frames
from stablemd.potentials.base import Potential
from stablemd.system import System
from stablemd.training.checkpoint import load_checkpoint, save_checkpoint
from stablemd.training.stable_run import OnProgress, StableResult, StableRun
from stablemd.training.stable_settings import StableSettings
from stablemd.training.training_point import MAIN_POINT, TrainingPoint

__all__ = ["OnProgress", "OnRecord", "StableResult", "StableRun", "TrainingPoint", "train_stable"]

CHECKPOINT_KIND = "StABlE Training"

OnRecord = Callable[[dict[str, Any]], None]
"""Called with the log record of a phase or epoch."""


def train_stable(
    potential: Potential,
    system: System,
    train: Frames,
    validation: Frames,
    reference: Frames,
    settings: StableSettings,
    *,
    further: Sequence[TrainingPoint] = (),
    checkpoint: Path | None = None,
    resume: bool = False,
    on_record: OnRecord | None = None,
    on_progress: OnProgress | None = None,
) -> StableResult:
    """Train a potential in place until its dynamics is stable, within the error budget.

    Args:
        potential: a model trained on energies and forces.
        system: the molecule, with bonds for the bond-length criterion.
        train: labelled frames it was trained on; start structures and regularizer.
        validation: labelled frames that the error budget refers to.
        reference: structures that define the target of the observable.
        settings: see ``StableSettings``.
        further: state points (other temperatures, boxes or systems) that are trained
            together with this one.  Each is simulated, and stays within its own error
            budget; the model is stable once it is at all of them.
        checkpoint: file that is rewritten after every phase and learning epoch.
        resume: continue from ``checkpoint`` if it is there.
        on_record: called with the log record of every phase and epoch.
        on_progress: called with a description and the share done.

    Raises:
        ConfigError: two state points have the same name.
        DataError: frames hold other atoms than the system, or labels are missing.
        PotentialError: the potential was made for one system and there are several.
    """
    main = TrainingPoint(MAIN_POINT, system, train, validation, reference, settings)
    run = StableRun(potential, [main, *further], on_progress)
    if resume and checkpoint is not None and checkpoint.is_file():
        run.restore(load_checkpoint(checkpoint, kind=CHECKPOINT_KIND))
    while not run.is_done:
        record = run.advance()
        if checkpoint is not None:
            save_checkpoint(checkpoint, run.payload(), kind=CHECKPOINT_KIND)
        if on_record is not None:
            on_record(record)
    return run.finish()
