"""Local, local with the total energy, and global gradients as a chain grows."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from matplotlib.figure import Figure
from torch import Tensor

from scripts.estimators.chain import Chain, bonds_of
from stablemd.estimators import (
    NeighbourhoodRule,
    SampledFrames,
    boltzmann_gradient,
    localized_gradient,
    make_neighbourhoods,
    potential_energies,
)
from stablemd.evaluation.figure_style import WIDTH, new_figure, style
from stablemd.system import System

BETA = 20.0
N_FRAMES = 256
REPEATS = 40
SIZES = (10, 30, 100, 300, 1000)
FORMS = ("local", "local, total energy", "global")
COLORS = dict(zip(FORMS, ("#0b66ab", "#c64f0b", "#74717d"), strict=True))


def measure() -> list[dict[str, float | str]]:
    """Bias, noise and cosine of every form at every size, relative to the exact gradient."""
    rows: list[dict[str, float | str]] = []
    for n_atoms in SIZES:
        chain = Chain(n_atoms)
        system = chain.system()
        bonds = make_neighbourhoods("bond", system)
        found: dict[str, list[Tensor]] = {form: [] for form in FORMS}
        for seed in range(REPEATS):
            positions = chain.sample(N_FRAMES, BETA, seed=seed)
            energies = potential_energies(chain, system, positions, chunk_size=N_FRAMES)
            values = bonds_of(positions).square()
            frames = SampledFrames(positions, energies, values, torch.arange(N_FRAMES) % 16)
            for form in FORMS:
                found[form].append(_gradient(chain, system, frames, bonds, form))
        for form in FORMS:
            exact = _exact(chain, form)
            rows.append({"n_atoms": n_atoms, "form": form} | _summary(found[form], exact))
    return rows


def _summary(gradients: list[Tensor], exact: Tensor) -> dict[str, float]:
    stacked = torch.stack(gradients)
    size = float(exact.norm())
    bias = stacked.mean(dim=0) - exact
    noise = float(stacked.var(dim=0).sum().sqrt())
    cosines = torch.nn.functional.cosine_similarity(stacked, exact[None])
    return {
        "bias": float(bias.norm()) / size,
        "bias_stderr": noise / size / len(stacked) ** 0.5,
        "noise": noise / size,
        "cosine": float(cosines.mean()),
    }


def _loss(chain: Chain, means: Tensor, form: str) -> Tensor:
    """The weak bond, or the average bond, shall have the spread of a stiff one."""
    stiff = _stiff(chain.n_atoms)
    if form == "global":
        return 1e6 * (means.mean() - stiff.mean()).square()
    return 1e6 * (means[chain.weak] - stiff[chain.weak]).square()


@lru_cache
def _stiff(n_atoms: int) -> Tensor:
    """Spread of every bond of a chain without a weak one in Å², (B,)."""
    return Chain(n_atoms, delta=0.0).covariance(BETA).diagonal().detach()


def _exact(chain: Chain, form: str) -> Tensor:
    loss = _loss(chain, chain.covariance(BETA).diagonal(), form)
    return torch.stack(torch.autograd.grad(loss, list(chain.parameters())))


def _gradient(
    chain: Chain, system: System, frames: SampledFrames, bonds: NeighbourhoodRule, form: str
) -> Tensor:
    def loss(mean: Tensor) -> Tensor:
        return _loss(chain, mean, form)

    common = dict(beta=BETA, energies=frames.reference_energies, noise_groups=0)
    chain.zero_grad()
    if form == "global":
        average = replace(frames, values=frames.values.mean(dim=1, keepdim=True))
        boltzmann_gradient(chain, system, average, loss, **common)
    else:
        exact = form != "local"
        localized_gradient(
            chain, system, frames, loss, neighbourhoods=bonds, cov_exact=exact, **common
        )
    return torch.stack([p.grad for p in chain.parameters()])  # type: ignore[misc]


def draw(rows: list[dict[str, float | str]]) -> Figure:
    """Bias and noise against the size of the system."""
    with style():
        figure = new_figure(1.7 * WIDTH, 3.4)
        axes = figure.subplots(1, 2, sharex=True)
        for form in FORMS:
            own = [r for r in rows if r["form"] == form]
            size = [r["n_atoms"] for r in own]
            color = COLORS[form]
            axes[0].errorbar(
                size,
                [r["bias"] for r in own],
                yerr=[r["bias_stderr"] for r in own],
                color=color,
                marker="o",
                label=form,
            )
            axes[1].plot(size, [r["noise"] for r in own], color=color, marker="o", label=form)
        axes[0].set_ylabel("bias / exact gradient")
        axes[1].set_ylabel("noise / exact gradient")
        axes[1].set_yscale("log")
        for axis in axes:
            axis.set_xscale("log")
            axis.set_xlabel("atoms in the chain")
        axes[1].legend()
        figure.tight_layout()
    return figure


def table(rows: list[dict[str, float | str]]) -> str:
    """The numbers as a Markdown table."""
    lines = [
        "| atoms | form | bias | noise | cosine with the exact gradient |",
        "|---|---|---|---|---|",
        *(
            f"| {r['n_atoms']} | {r['form']} | {r['bias']:.2f} ± {r['bias_stderr']:.2f} "
            f"| {r['noise']:.2f} | {r['cosine']:.2f} |"
            for r in rows
        ),
    ]
    return "\n".join(lines)
