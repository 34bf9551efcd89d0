"""Noise of path-score gradients against the length of the window."""

from __future__ import annotations

import math

import torch
from matplotlib.figure import Figure

from scripts.estimators.oscillator import Oscillator, exact_covariance, langevin_paths
from stablemd import units
from stablemd.estimators.path_score import force_coefficients
from stablemd.evaluation.figure_style import WIDTH, new_figure, style
from stablemd.md.integrators.baoab import BAOAB
from stablemd.system import System

K, MASS = 4.0, 12.011
WINDOWS = (8, 16, 32, 64, 128, 256, 512)
N_REPLICAS = 4000
OBSERVABLES = ("mean squared displacement", "velocity autocorrelation")


def measure() -> list[dict[str, float | str]]:
    """Relative standard error of the gradient from 1000 windows, with and without centring."""
    oscillator, system = Oscillator(K), System.create(["C"])
    dynamics = BAOAB(3.0, 600.0, friction_per_ps=10.0)
    kt = units.KB * dynamics.temperature_k
    paths = langevin_paths(
        oscillator, system, dynamics, n_replicas=N_REPLICAS, n_steps=max(WINDOWS), seed=0
    )
    covariance = exact_covariance(oscillator.k, MASS, dynamics, max(WINDOWS), rows=2)
    ones = torch.ones(1, N_REPLICAS, dtype=torch.float64)
    rows: list[dict[str, float | str]] = []
    for window in WINDOWS:
        x = paths.positions
        a = force_coefficients(paths, ones, [0], window)
        score = (a * -x[:-1]).sum(dim=(0, 2, 3)) - 0.5 * x[0].square().sum(dim=(1, 2)) / kt
        v_first, v_last = x[1] - x[0], x[window] - x[window - 1]
        values = {
            OBSERVABLES[0]: (x[window] - x[0]).square().sum(dim=(1, 2)),
            OBSERVABLES[1]: (v_first * v_last).sum(dim=(1, 2)),
        }
        c, w = covariance, window
        exact = {
            OBSERVABLES[0]: 3 * (c[0, 0] + c[w, w] - 2 * c[0, w]),
            OBSERVABLES[1]: 3 * (c[1, w] - c[1, w - 1] - c[0, w] + c[0, w - 1]),
        }
        for name in OBSERVABLES:
            (slope,) = torch.autograd.grad(exact[name], oscillator.k, retain_graph=True)
            centred = (values[name] - values[name].mean()) * (score - score.mean())
            raw = values[name] * score
            rows.append(
                {
                    "observable": name,
                    "window": window,
                    "time_fs": window * dynamics.dt_fs,
                    "score": float(score.std()),
                    "exact": float(slope),
                    "found": float(centred.mean()),
                    "stderr": float(centred.std()) / math.sqrt(N_REPLICAS),
                    "relative": float(centred.std()) / math.sqrt(1000.0) / abs(float(slope)),
                    "relative_raw": float(raw.std()) / math.sqrt(1000.0) / abs(float(slope)),
                }
            )
    return rows


def draw(rows: list[dict[str, float | str]]) -> Figure:
    """Relative standard error against the window's length."""
    with style():
        figure = new_figure(WIDTH, 3.4)
        axis = figure.subplots()
        for name, color in zip(OBSERVABLES, ("#0b66ab", "#c64f0b"), strict=True):
            own = [r for r in rows if r["observable"] == name]
            time = [r["time_fs"] for r in own]
            axis.plot(time, [r["relative"] for r in own], color=color, marker="o", label=name)
        axis.axhline(1.0, color="#74717d", linewidth=1.0, linestyle="dashed")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("length of the window (fs)")
        axis.set_ylabel("relative standard error, 1000 windows")
        axis.legend()
        figure.tight_layout()
    return figure


def table(rows: list[dict[str, float | str]]) -> str:
    """The numbers as a Markdown table."""
    lines = [
        "| observable | window, fs | exact slope | found, 4000 windows | relative standard error, "
        "1000 windows | not centred |",
        "|---|---|---|---|---|---|",
        *(
            f"| {r['observable']} | {r['time_fs']:.0f} | {r['exact']:.2e} "
            f"| {r['found']:.2e} ± {float(r['stderr']):.1e} | {r['relative']:.2f} "
            f"| {r['relative_raw']:.2f} |"
            for r in rows
        ),
    ]
    return "\n".join(lines)
