"""A made-up training result: exponential lifetimes, Gaussian peaks, a vibrating water molecule."""

from __future__ import annotations

import numpy as np
import pytest

from stablemd.evaluation.figures import ObservableCurves
from stablemd.evaluation.metrics import EvaluationMetrics, ObservableError
from stablemd.evaluation.movie import Movie
from stablemd.evaluation.report import ReportInput
from stablemd.evaluation.survival import StableTime, stable_time
from stablemd.system import System

WATER = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]])


def runs(n_failed: int, length: float = 3.0, n_replicas: int = 64) -> StableTime:
    times = np.full(n_replicas, length)
    times[:n_failed] = np.linspace(0.1, 0.97, n_failed) * length
    return stable_time(times, np.arange(n_replicas) < n_failed, length)


def evaluation(n_failed: int, force_mae: float, mae: float = 0.01) -> EvaluationMetrics:
    return EvaluationMetrics(
        stable_time=runs(n_failed),
        observables={"distance_distribution": ObservableError(mae, 0.1 * mae)},
        force_mae_ev_per_angstrom=force_mae,
        energy_mae_ev=0.037,
    )


def distances() -> ObservableCurves:
    r = np.linspace(0.5, 5.0, 90)
    reference = np.exp(-(((r - 1.5) / 0.1) ** 2)) + 0.5 * np.exp(-(((r - 2.6) / 0.3) ** 2))
    noise = np.sin(7 * r) * 0.02
    return ObservableCurves(
        "distance_distribution", r, "r (Å)", "h(r) (1/Å)", reference,
        {
            "before": (reference + 3 * noise, 0.02 * np.ones_like(r)),
            "after": (reference + noise, 0.01 * np.ones_like(r)),
        },
    )  # fmt: skip


def movie(role: str, n_frames: int, failed: bool) -> Movie:
    system = System.create(["O", "H", "H"], bonds=[[0, 1], [0, 2]], bond_lengths=[0.9685, 0.9685])
    rng = np.random.default_rng(n_frames)
    frames = WATER + 0.03 * rng.standard_normal((n_frames, 3, 3))
    if failed:
        frames[-1, 1] *= 1.8
    return Movie.of_replica(
        system, frames, 0.01 * np.arange(n_frames), 0.5, role=role, title="replica 7",
        caption="bond O0–H1 is 1.63 Å" if failed else "stable to the end",
        failed=failed, failed_bond=0 if failed else -1,
    )  # fmt: skip


def training_log(n_epochs: int = 5) -> list[dict[str, object]]:
    """A simulation phase, learning epochs of two steps, a last epoch without, a simulation."""

    def step(epoch: int) -> dict[str, object]:
        looked_into = epoch == 1
        return {
            "observable_gradient_norm": 2.0 / epoch,
            "label_gradient_norm": 0.7,
            "gradient_cosine": 0.8 - 0.2 * epoch,
            "n_eff": 300.0 - 9 * epoch,
            "trust": {"signal_to_noise": 2.5, "autocorrelation_time": None}
            if looked_into
            else None,
            "warnings": [f"gradient is weak: its norm is {epoch}"] if looked_into else [],
        }

    def record(phase: str, epoch: int, **more: object) -> dict[str, object]:
        return {
            "phase": phase,
            "failed_fraction": 0.5 / (1 + epoch),
            "force_mae_ev_per_angstrom": 0.117 + 0.0005 * epoch,
            **more,
        }

    learning = [
        record("learn", epoch, steps=[] if epoch == n_epochs else [step(epoch)] * 2)
        for epoch in range(1, n_epochs + 1)
    ]
    return [record("simulate", 0), *learning, record("simulate", n_epochs)]


@pytest.fixture
def report_input() -> ReportInput:
    metrics = {
        "before": evaluation(15, 0.117, 0.03),
        "control": evaluation(13, 0.112, 0.02),
        "after": evaluation(1, 0.118),
    }
    return ReportInput(
        title="Ethanol at 500 K",
        formula="C2H6O",
        metrics={role: m.to_json() for role, m in metrics.items()},
        stable_times={role: m.stable_time for role, m in metrics.items()},
        observables=[distances()],
        history=training_log(),
        force_mae_budget=0.1287,
        movies=[[movie("before", 40, True), movie("after", 60, False)]],
        config_text="temperature_k: 500  # <kelvin> & so on\n",
        versions={"stablemd": "0.1.0", "gpus": [], "cuda": None, "cores": 2},
        wall_s={"pretraining": 20.5, "training": 130.0, "evaluation": 61.0},
        description="64 fresh replicas of 3 ps each.",
    )
