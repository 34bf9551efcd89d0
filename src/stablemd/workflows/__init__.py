"""What each command does, callable from Python; no command line in here."""

from __future__ import annotations

from stablemd.workflows.demo import run_demo
from stablemd.workflows.evaluate import run_evaluate
from stablemd.workflows.experiment import Experiment, prepare
from stablemd.workflows.pretrain import run_pretrain
from stablemd.workflows.report import run_report
from stablemd.workflows.reporter import Reporter
from stablemd.workflows.simulate import run_simulate
from stablemd.workflows.train import run_train

__all__ = [
    "Experiment",
    "Reporter",
    "prepare",
    "run_demo",
    "run_evaluate",
    "run_pretrain",
    "run_report",
    "run_simulate",
    "run_train",
]
