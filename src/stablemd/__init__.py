"""Machine-learned force fields, trained until molecular dynamics with them is stable.

Names are imported on first use, so that ``import stablemd`` and the command line's
help do not wait for PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stablemd.config import RunConfig
    from stablemd.config_file import load_config
    from stablemd.data import Frames, read_frames, split, system_from_frames, write_frames
    from stablemd.evaluation.evaluate import Evaluation, evaluate
    from stablemd.evaluation.settings import EvaluationSettings
    from stablemd.md.initial import initial_state
    from stablemd.md.settings import DynamicsSettings
    from stablemd.md.sharding import simulate
    from stablemd.md.state import State
    from stablemd.potentials import Potential, SchNet, make_potential
    from stablemd.potentials.files import load_potential, save_potential
    from stablemd.system import System
    from stablemd.training.pretrain import PretrainSettings, pretrain
    from stablemd.training.stable import train_stable
    from stablemd.training.stable_settings import StableSettings
    from stablemd.training.training_point import TrainingPoint

_HOMES = {
    "DynamicsSettings": "stablemd.md.settings",
    "Evaluation": "stablemd.evaluation.evaluate",
    "EvaluationSettings": "stablemd.evaluation.settings",
    "Frames": "stablemd.data",
    "Potential": "stablemd.potentials",
    "PretrainSettings": "stablemd.training.pretrain",
    "RunConfig": "stablemd.config",
    "SchNet": "stablemd.potentials",
    "StableSettings": "stablemd.training.stable_settings",
    "State": "stablemd.md.state",
    "System": "stablemd.system",
    "TrainingPoint": "stablemd.training.training_point",
    "evaluate": "stablemd.evaluation.evaluate",
    "initial_state": "stablemd.md.initial",
    "load_config": "stablemd.config_file",
    "load_potential": "stablemd.potentials.files",
    "make_potential": "stablemd.potentials",
    "pretrain": "stablemd.training.pretrain",
    "read_frames": "stablemd.data",
    "save_potential": "stablemd.potentials.files",
    "simulate": "stablemd.md.sharding",
    "split": "stablemd.data",
    "system_from_frames": "stablemd.data",
    "train_stable": "stablemd.training.stable",
    "write_frames": "stablemd.data",
}

__all__ = [
    "DynamicsSettings",
    "Evaluation",
    "EvaluationSettings",
    "Frames",
    "Potential",
    "PretrainSettings",
    "RunConfig",
    "SchNet",
    "StableSettings",
    "State",
    "System",
    "TrainingPoint",
    "evaluate",
    "initial_state",
    "load_config",
    "load_potential",
    "make_potential",
    "pretrain",
    "read_frames",
    "save_potential",
    "simulate",
    "split",
    "system_from_frames",
    "train_stable",
    "write_frames",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
