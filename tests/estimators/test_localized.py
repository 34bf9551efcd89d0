"""The localized estimator against exact averages of a chain of coupled bonds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scripts.estimators.chain import Chain, bonds_of
from stablemd.errors import DataError, PotentialError
from stablemd.estimators import (
    SampledFrames,
    StratifiedSampling,
    boltzmann_gradient,
    localized_gradient,
    make_neighbourhoods,
    potential_energies,
)
from stablemd.potentials.base import Potential

BETA = 20.0
CHAIN = dict(k=30.0, kappa=20.0, delta=-12.0)


def gradient_of(chain: Chain) -> Tensor:
    return torch.stack([p.grad for p in (chain.k, chain.kappa, chain.delta)])  # type: ignore[misc]


def frames_of(chain: Chain, n: int, *, seed: int, n_replicas: int = 16) -> SampledFrames:
    """Independent frames; the local observable of a bond is its squared deviation."""
    positions = chain.sample(n, BETA, seed=seed)
    return SampledFrames(
        positions,
        potential_energies(chain, chain.system(), positions, chunk_size=n),
        bonds_of(positions).square(),
        torch.arange(n) % n_replicas,
    )


def weak_loss(chain: Chain) -> object:
    """The weak bond's average alone, as it is linear: its slope has no noise."""
    return lambda mean: mean[chain.weak]


def exact_gradient(chain: Chain) -> Tensor:
    spread = chain.covariance(BETA)[chain.weak, chain.weak]
    return torch.stack(torch.autograd.grad(spread, (chain.k, chain.kappa, chain.delta)))


def expected_local_gradient(chain: Chain) -> Tensor:
    """-β Cov(x_w², ∂u) with u the weak bond's two atoms, by Isserlis' theorem."""
    c = chain.covariance(BETA).detach()
    w = chain.weak

    def moment(a: int, b: int) -> Tensor:
        return 2.0 * c[w, a] * c[w, b]  # Cov(x_w², x_a x_b)

    k = 0.5 * moment(w, w) + 0.25 * (moment(w - 1, w - 1) + moment(w + 1, w + 1))
    kappa = 0.5 * (moment(w - 1, w) + moment(w, w + 1))
    return -BETA * torch.stack([k, kappa, 0.5 * moment(w, w)])


def repeated(chain: Chain, *, n: int, repeats: int, cov_exact: bool) -> Tensor:
    rule = make_neighbourhoods("bond", chain.system())
    found = []
    for seed in range(repeats):
        frames = frames_of(chain, n, seed=seed)
        chain.zero_grad()
        localized_gradient(
            chain,
            chain.system(),
            frames,
            weak_loss(chain),
            beta=BETA,
            neighbourhoods=rule,
            cov_exact=cov_exact,
            chunk_size=n,
            energies=frames.reference_energies,
            noise_groups=0,
        )
        found.append(gradient_of(chain))
    return torch.stack(found)


def test_exact_form_is_unbiased_and_local_form_is_what_theory_says() -> None:
    chain = Chain(8, **CHAIN)
    truth, local_truth = exact_gradient(chain), expected_local_gradient(chain)
    for cov_exact, expected in ((True, truth), (False, local_truth)):
        found = repeated(chain, n=200, repeats=100, cov_exact=cov_exact)
        stderr = found.std(dim=0) / math.sqrt(len(found))
        assert bool((stderr < 0.05 * expected.abs()).all())
        assert bool(((found.mean(dim=0) - expected).abs() < 3 * stderr).all())
    # The bias of the local form would not hide in these error bars.
    assert bool(((truth - local_truth).abs()[:2] > 0.02 * truth.abs()[:2]).all())
    assert float(truth[2]) == pytest.approx(float(local_truth[2]), rel=1e-12)


def test_error_of_the_exact_form_shrinks_with_the_square_root_of_the_frames() -> None:
    chain = Chain(6, **CHAIN)
    truth = exact_gradient(chain)
    rms = [
        float(((repeated(chain, n=n, repeats=100, cov_exact=True) - truth) / truth).square().mean())
        for n in (60, 540)
    ]
    # Mean squares of 100 values are known to 14 %, their ratio to 20 %: three of these.
    assert rms[0] / rms[1] == pytest.approx(9.0, rel=0.6)


def test_exact_form_is_the_global_estimator_of_all_local_observables() -> None:
    """With the total energy, locality of the observables alone changes nothing."""
    chain = Chain(9, **CHAIN)
    frames = frames_of(chain, 64, seed=0)
    target = torch.linspace(0.001, 0.003, 8, dtype=torch.float64)

    def loss(mean: Tensor) -> Tensor:
        return (mean - target).square().sum()

    boltzmann_gradient(chain, chain.system(), frames, loss, beta=BETA)
    expected = gradient_of(chain)
    chain.zero_grad()
    localized_gradient(
        chain,
        chain.system(),
        frames,
        loss,
        beta=BETA,
        neighbourhoods=make_neighbourhoods("bond", chain.system()),
        cov_exact=True,
        chunk_size=10,
    )
    torch.testing.assert_close(gradient_of(chain), expected, rtol=1e-10, atol=1e-14)


def test_one_neighbourhood_of_everything_is_the_global_estimator(
    pair_network: Potential, cluster: object, cluster_positions: Tensor
) -> None:
    energies = potential_energies(pair_network, cluster, cluster_positions)  # type: ignore[arg-type]
    frames = SampledFrames(
        cluster_positions, energies, cluster_positions[:, 0].square(), torch.arange(60) % 6
    )
    rule = make_neighbourhoods("given", cluster, groups=[[0, 1, 2, 3]])  # type: ignore[arg-type]
    loss = lambda mean: mean.square().sum()  # noqa: E731
    with torch.no_grad():
        for p in pair_network.parameters():
            p += 0.01
    boltzmann_gradient(pair_network, cluster, frames, loss, beta=1.7)  # type: ignore[arg-type]
    expected = [p.grad.clone() for p in pair_network.parameters() if p.grad is not None]
    pair_network.zero_grad()
    localized_gradient(
        pair_network,
        cluster,  # type: ignore[arg-type]
        frames,
        loss,
        beta=1.7,
        neighbourhoods=rule,
        chunk_size=7,
    )
    for p, e in zip(pair_network.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, e, rtol=1e-10, atol=1e-13)


def textbook_local_gradient(chain: Chain, frames: SampledFrames, slope: Tensor) -> Tensor:
    """One forward pass and one gradient per frame and bond, as the formula reads."""
    system, parameters = chain.system(), [chain.k, chain.kappa, chain.delta]
    values = frames.values
    total = torch.zeros(3, dtype=torch.float64)
    for b in range(values.shape[1]):
        gradients = []
        for x in frames.positions:
            local = chain.local_energies(chain.batch(system, x[None]))
            part = torch.autograd.grad(local[b] + local[b + 1], parameters)
            gradients.append(torch.stack(part))
        u = torch.stack(gradients)
        centred = values[:, b] - values[:, b].mean()
        total += slope[b] * (centred @ (u - u.mean(dim=0))) / (len(u) - 1)
    return -BETA * total


def test_equals_the_textbook_formula_with_one_pass_per_frame() -> None:
    chain = Chain(6, **CHAIN)
    frames = frames_of(chain, 12, seed=3)
    slope = torch.linspace(-1.0, 2.0, 5, dtype=torch.float64)
    calls = []
    original = chain.local_energies
    chain.local_energies = lambda batch: (calls.append(batch.n_structures), original(batch))[1]  # type: ignore[method-assign]
    localized_gradient(
        chain,
        chain.system(),
        frames,
        lambda mean: mean @ slope,
        beta=BETA,
        neighbourhoods=make_neighbourhoods("bond", chain.system()),
        chunk_size=5,
        energies=frames.reference_energies,
        noise_groups=0,
    )
    assert sum(calls) == 12
    found = gradient_of(chain)
    torch.testing.assert_close(
        found, textbook_local_gradient(chain, frames, slope), rtol=1e-10, atol=0
    )


def test_stratified_samples_keep_the_gradient_on_average_and_save_frames() -> None:
    chain = Chain(6, **CHAIN)
    frames = frames_of(chain, 200, seed=4)
    rule = make_neighbourhoods("bond", chain.system())

    def run(sampling: StratifiedSampling | None) -> tuple[Tensor, int]:
        chain.zero_grad()
        result = localized_gradient(
            chain,
            chain.system(),
            frames,
            weak_loss(chain),
            beta=BETA,
            neighbourhoods=rule,
            chunk_size=200,
            energies=frames.reference_energies,
            sampling=sampling,
            noise_groups=0,
        )
        return gradient_of(chain), result.n_backward_frames

    full, n_full = run(None)
    runs = [run(StratifiedSampling(40, seed=seed)) for seed in range(80)]
    found = torch.stack([g for g, _ in runs])
    stderr = found.std(dim=0) / math.sqrt(len(found))
    assert n_full == 200 and max(n for _, n in runs) <= 40
    assert bool(((found.mean(dim=0) - full).abs() < 3.5 * stderr).all())
    flat = torch.stack(
        [run(StratifiedSampling(40, seed=s, importance=False))[0] for s in range(50)]
    )
    off = (flat.mean(dim=0) - full).abs() / (flat.std(dim=0) / math.sqrt(50))
    assert bool((off > 5).all())  # the flattened distribution is another gradient


def test_frames_that_are_not_finite_are_counted_and_as_if_absent() -> None:
    chain = Chain(6, **CHAIN)
    frames = frames_of(chain, 40, seed=5)
    broken = replace(frames, values=frames.values.clone())
    broken.values[7, 2] = float("nan")
    keep = torch.arange(40) != 7
    rule = make_neighbourhoods("nearest", chain.system(), k=1)

    def widened(f: SampledFrames) -> SampledFrames:
        return replace(f, values=torch.cat([f.values, f.values[:, :1]], dim=1))

    results, gradients = [], []
    for given in (broken, frames.select(keep)):
        chain.zero_grad()
        results.append(
            localized_gradient(
                chain,
                chain.system(),
                widened(given),
                lambda mean: mean.square().sum(),
                beta=BETA,
                neighbourhoods=rule,
            )
        )
        gradients.append(gradient_of(chain))
    assert torch.equal(*gradients)
    assert [r.trust.n_dropped for r in results] == [1, 0]


def test_refuses_what_has_no_local_answer(cluster_positions: Tensor) -> None:
    chain = Chain(6, **CHAIN)
    frames = frames_of(chain, 10, seed=6)
    rule = make_neighbourhoods("bond", chain.system())
    with pytest.raises(DataError, match=r"5 neighbourhoods need values \(n, 5·D\)"):
        localized_gradient(
            chain,
            chain.system(),
            replace(frames, values=frames.values[:, :4]),
            lambda mean: mean.sum(),
            beta=BETA,
            neighbourhoods=rule,
        )
    chain.has_local_energies = False  # type: ignore[misc]
    with pytest.raises(PotentialError, match="total energies only"):
        localized_gradient(
            chain,
            chain.system(),
            frames,
            lambda mean: mean.sum(),
            beta=BETA,
            neighbourhoods=rule,
        )
