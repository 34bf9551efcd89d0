"""The commands that write into a run directory, and what belongs to each."""

from __future__ import annotations

from dataclasses import dataclass

MODEL_SUFFIXES = (".pt", ".model", ".nequip.zip", ".ckpt", ".graph-pes.pt")
"""Ends of the names of model files: this package's, and those of outside packages."""


def model_files(*names: str) -> tuple[str, ...]:
    """The names under which models may stand in a run directory."""
    return tuple(name + suffix for name in names for suffix in MODEL_SUFFIXES)


@dataclass(frozen=True)
class Stage:
    """One command's part of a run directory.

    Attributes:
        name: as in status.json and in the log's records.
        files: what it leaves, relative to the folder.
        depends_on: dotted configuration keys that its results depend on, a key
            covering everything under it; None: all.
        may_change: keys of these that a resumed command may change.
        followers: stages that are computed from its results.
        exclusive: whether no other stage may use the folder.
        resumable: whether its command can continue what was interrupted.
    """

    name: str
    files: tuple[str, ...]
    depends_on: tuple[str, ...] | None = None
    may_change: tuple[str, ...] = ()
    followers: tuple[str, ...] = ()
    exclusive: bool = False
    resumable: bool = True


PRETRAIN = Stage(
    "pretrain",
    (*model_files("pretrained"), "checkpoints/pretrain.pt", "tensorboard/pretrain"),
    (
        "data",
        "potential.name",
        "potential.preset",
        "potential.hyperparameters",
        "potential.terms",
        "pretrain",
    ),
    ("pretrain.max_epochs", "pretrain.max_minutes", "pretrain.early_stopping"),
    ("train", "evaluate"),
)
TRAIN = Stage(
    "train",
    (
        *model_files("start", "stable", "control"),
        "checkpoints/stable.pt",
        "tensorboard/train",
        "at",
    ),
    ("data", "potential", "stable", "state_points", "control"),
    ("stable.max_cycles", "stable.max_minutes"),
    ("evaluate",),
)
EVALUATE = Stage(
    "evaluate", ("report.json", "report.html", "checkpoints/evaluate"), ("data", "evaluation")
)
SIMULATE = Stage("simulate", ("trajectories",), ("data", "simulation"), resumable=False)
DEMO = Stage("demo", (), exclusive=True, resumable=False)
"""The whole story in one folder; its files are those of the other stages."""

STAGES: dict[str, Stage] = {s.name: s for s in (PRETRAIN, TRAIN, EVALUATE, SIMULATE, DEMO)}
"""Every stage by its name."""

SHARED_FILES = ("status.json", "log.jsonl", "metrics.json", "versions.json", "config.yaml")
"""Files of the folder itself; the configuration, which makes it a run, is removed last."""


def files_of(stage: Stage) -> tuple[str, ...]:
    """What a stage may leave; for an exclusive one, everything."""
    if not stage.exclusive:
        return stage.files
    return tuple(name for other in STAGES.values() for name in other.files) + SHARED_FILES
