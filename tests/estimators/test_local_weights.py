"""Neighbourhoods weighed by their own energies: averages of the new ensemble, gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scripts.estimators.chain import Chain, bonds_of
from stablemd.errors import DataError
from stablemd.estimators import (
    LocalizedResult,
    SampledFrames,
    boltzmann_weights,
    localized_gradient,
    make_neighbourhoods,
    n_eff_kish,
    potential_atomic_energies,
    potential_energies,
)
from stablemd.potentials.base import Potential
from stablemd.potentials.classical import HarmonicBonds
from stablemd.system import System
from stablemd.training.epoch_frames import EpochFrames

BETA = 20.0
STIFFNESS = 30.0


def known(potential: Potential, system: System, frames: SampledFrames) -> SampledFrames:
    """The frames with the atomic energies at the parameters that sampled them."""
    atomic = potential_atomic_energies(potential, system, frames.positions)
    return replace(frames, reference_atomic_energies=atomic)


def chain_frames(chain: Chain, n: int) -> SampledFrames:
    positions = chain.sample(n, BETA, seed=1)
    energies = potential_energies(chain, chain.system(), positions)
    values = bonds_of(positions).square()
    return known(
        chain,
        chain.system(),
        SampledFrames(positions, energies, values, torch.arange(n) % 8),
    )


def run(chain: Chain, frames: SampledFrames, target: Tensor, **options: object) -> LocalizedResult:
    chain.zero_grad()
    return localized_gradient(
        chain,
        chain.system(),
        frames,
        lambda mean: (mean - target).square().sum(),
        beta=BETA,
        neighbourhoods=make_neighbourhoods("bond", chain.system()),
        chunk_size=32,
        **options,  # type: ignore[arg-type]
    )


def loss_by_hand(chain: Chain, frames: SampledFrames, target: Tensor) -> float:
    """The loss on averages of every bond, weighed by the energy of its two atoms."""
    reference = frames.reference_atomic_energies
    assert reference is not None
    change = potential_atomic_energies(chain, chain.system(), frames.positions) - reference
    weights = torch.softmax(-BETA * (change[:, 1:] + change[:, :-1]), dim=0)
    return float(((weights * frames.values).sum(dim=0) - target).square().sum())


def test_gradient_is_that_of_the_loss_on_averages_so_weighed() -> None:
    """Finite differences, away from the sampled parameters; every bond is a kind of its own."""
    chain = Chain(7, k=30.0, kappa=15.0, delta=-12.0)
    frames = chain_frames(chain, 60)
    target = torch.linspace(0.001, 0.003, 6, dtype=torch.float64)
    with torch.no_grad():
        chain.k += 2.0
        chain.delta -= 1.5
    result = run(chain, frames, target)
    assert result.loss == pytest.approx(loss_by_hand(chain, frames, target), rel=1e-12)
    for parameter in chain.parameters():
        step = 1e-4
        ends = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                parameter += sign * step
            ends.append(loss_by_hand(chain, frames, target))
            with torch.no_grad():
                parameter -= sign * step
        slope = (ends[0] - ends[1]) / (2.0 * step)
        assert parameter.grad is not None
        # M / (M - 1) takes the bias out of a covariance of M samples.
        assert float(parameter.grad) * 59 / 60 == pytest.approx(slope, rel=1e-6)


def test_gradient_of_neighbourhoods_of_unequal_size() -> None:
    """Finite differences of the average with atoms within a radius, and of a constant none."""
    system = System.create(["H"] * 8)
    generator = torch.Generator().manual_seed(0)
    positions = 1.5 * torch.randn(40, 8, 3, generator=generator, dtype=torch.float64)
    bonds = [(i, i + 1) for i in range(7)]
    old = HarmonicBonds(bonds, [1.0] * 7, 0.02, 8).double()
    new = HarmonicBonds(bonds, [1.0] * 7, 0.03, 8).double()
    values = positions.square().sum(dim=2)
    energies = potential_energies(old, system, positions)
    frames = known(old, system, SampledFrames(positions, energies, values, torch.arange(40) % 5))
    rule = make_neighbourhoods("within", system, radius=2.5)
    around = rule(positions, None)
    assert len((around.atoms >= 0).sum(dim=2).unique()) > 3
    assert frames.reference_atomic_energies is not None

    def average() -> float:
        change = potential_atomic_energies(new, system, positions)
        change = change - frames.reference_atomic_energies
        weights = torch.softmax(-BETA * around.sum_atoms(change - change.mean()).flatten(), dim=0)
        return float(weights @ values.flatten())

    new.zero_grad()
    result = localized_gradient(
        new, system, frames, lambda mean: mean.sum(), beta=BETA, neighbourhoods=rule, chunk_size=40
    )
    assert around.n_kinds == 1 and float(result.mean) == pytest.approx(average(), rel=1e-12)
    for parameter in new.parameters():
        assert parameter.grad is not None
        # M / (M - 1) takes the bias out of a covariance of M samples.
        found = float(parameter.grad.sum()) * (40 * 8 - 1) / (40 * 8)
        step = 1e-5
        ends = []
        for sign in (1.0, -2.0):
            with torch.no_grad():
                parameter += sign * step
            ends.append(average())
        with torch.no_grad():
            parameter += step
        slope = (ends[0] - ends[1]) / (2.0 * step)
        assert abs(slope) > 1e-2 and found == pytest.approx(slope, rel=1e-6)


def test_at_the_sampled_parameters_it_is_the_same_estimator() -> None:
    chain = Chain(6)
    frames = chain_frames(chain, 40)
    target = torch.full((5,), 0.002, dtype=torch.float64)
    found = []
    for given in (frames, replace(frames, reference_atomic_energies=None)):
        result = run(chain, given, target)
        gradient = torch.stack([p.grad for p in chain.parameters()])  # type: ignore[misc]
        found.append((result.loss, result.loss_stderr, result.trust.n_eff, gradient))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("n_molecules", [1, 400])
def test_averages_of_many_molecules_are_those_of_the_new_ensemble(n_molecules: int) -> None:
    """A spring that gets stiffer by 20 %: <x²> = 1/(βk), whatever the number of molecules.

    Whole frames lose all but a few per cent of their number when there are 400 molecules.
    """
    n, length = 300 * 400 // n_molecules if n_molecules == 1 else 300, 1.5
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(n, n_molecules, generator=generator, dtype=torch.float64)
    x = x / math.sqrt(BETA * STIFFNESS)
    positions = torch.zeros(n, n_molecules, 2, 3, dtype=torch.float64)
    positions[..., 1] = 50.0 * torch.arange(n_molecules, dtype=torch.float64)[:, None]
    positions[:, :, 1, 0] = length + x
    bonds = [(2 * m, 2 * m + 1) for m in range(n_molecules)]
    system = System.create(
        ["H"] * (2 * n_molecules), bonds=bonds, bond_lengths=[length] * n_molecules
    )

    def springs(stiffness: float) -> HarmonicBonds:
        return HarmonicBonds(bonds, [length] * n_molecules, stiffness, 2 * n_molecules)

    frames = positions.flatten(1, 2)
    old, new = springs(STIFFNESS), springs(1.2 * STIFFNESS)
    energies = potential_energies(old, system, frames)
    sampled = known(old, system, SampledFrames(frames, energies, x.square(), torch.arange(n) % 10))
    result = localized_gradient(
        new,
        system,
        sampled,
        lambda mean: mean.sum(),
        beta=BETA,
        neighbourhoods=make_neighbourhoods("molecule", system),
        chunk_size=n,
    )
    truth = 1.0 / (BETA * 1.2 * STIFFNESS)
    # Reweighted squares of 120,000 normals are known to about 0.5 %.
    assert float(result.mean) == pytest.approx(truth, rel=0.015)
    # <w²> of this change of a normal's width is 1.2 / sqrt(1.4), so that N_eff/N is its inverse.
    assert result.trust.n_eff / n == pytest.approx(math.sqrt(1.4) / 1.2, abs=0.01)
    whole = boltzmann_weights(potential_energies(new, system, frames), energies, BETA)
    assert n_molecules == 1 or n_eff_kish(whole) / n < 0.05


def test_energies_of_whole_frames_can_not_weigh_neighbourhoods() -> None:
    chain = Chain(6)
    frames = chain_frames(chain, 20)
    with pytest.raises(DataError, match="atomic energies"):
        run(chain, frames, torch.zeros(5).double(), energies=frames.reference_energies)


def test_a_frame_without_finite_atomic_energies_is_counted_and_left_out() -> None:
    chain = Chain(6)
    frames = chain_frames(chain, 20)
    target = torch.full((5,), 0.002, dtype=torch.float64)
    assert frames.reference_atomic_energies is not None
    now = frames.reference_atomic_energies.clone()
    now[4, 2] = torch.nan
    found = run(chain, frames, target, energies=now)
    keep = torch.arange(20) != 4
    expected = run(chain, frames.select(keep), target)
    assert found.trust.n_dropped == 1
    assert found.loss == pytest.approx(expected.loss, rel=1e-12)
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-9)


@pytest.mark.parametrize("noise_groups", [0, 8])
def test_where_no_frame_differs_from_the_average_the_gradient_is_zero(noise_groups: int) -> None:
    """As of an excess that none of the frames shows."""
    chain = Chain(6)
    frames = chain_frames(chain, 20)
    frames = replace(frames, values=torch.zeros_like(frames.values))
    found = run(chain, frames, torch.ones(5).double(), noise_groups=noise_groups)
    assert found.loss == 5.0 and found.gradient_norm == 0.0 and found.n_backward_frames == 0
    assert all(float(p.grad) == 0.0 for p in chain.parameters())  # type: ignore[arg-type]


def test_a_constant_in_the_energies_weighs_no_neighbourhood_whatever_its_size() -> None:
    """What is added to every atom exerts no force; around some atoms there are more of them."""
    system = System.create(["H"] * 8)
    generator = torch.Generator().manual_seed(0)
    positions = 2.0 * torch.randn(50, 8, 3, generator=generator, dtype=torch.float64)
    around = make_neighbourhoods("within", system, radius=3.0)(positions, None)
    assert len((around.atoms >= 0).sum(dim=2).unique()) > 3
    reference = torch.randn(50, 8, generator=generator, dtype=torch.float64)
    changes = around.energy_changes(reference + 0.1, reference)
    assert float(changes.abs().max()) < 1e-12
    frames = SampledFrames(
        positions,
        reference.sum(dim=1),
        positions[..., 0],
        torch.arange(50) % 5,
        reference_atomic_energies=reference,
    )
    epoch = EpochFrames(frames, reference, around=around)
    assert epoch.n_eff_share(reference + 0.1, BETA) == pytest.approx(1.0)


def test_an_observable_that_never_changes_has_no_error_beside_one_that_does() -> None:
    """Two kinds of bonds away from the sampled parameters; a mean is a ratio for each of them."""
    system = System.create(["H", "H", "H", "O"], bonds=[(0, 1), (2, 3)], bond_lengths=[1.0, 1.0])
    generator = torch.Generator().manual_seed(1)
    x = torch.zeros(60, 4, 3, dtype=torch.float64)
    x[:, 2:, 1] = 30.0
    x[:, 1::2, 0] = 1.0 + 0.1 * torch.randn(60, 2, generator=generator, dtype=torch.float64)

    def bonds(stiffness: float) -> HarmonicBonds:
        return HarmonicBonds([(0, 1), (2, 3)], [1.0, 1.0], stiffness, 4)

    old, new = bonds(5.0), bonds(15.0)
    squares = (x[:, 1::2, 0] - 1.0).square()
    for constant in (0, 1):
        values = squares.clone()
        values[:, constant] = 5.0
        energies = potential_energies(old, system, x)
        frames = known(old, system, SampledFrames(x, energies, values, torch.arange(60) % 6))

        def run(loss: Callable[[Tensor], Tensor], frames: SampledFrames = frames) -> float | None:
            return localized_gradient(
                new, system, frames, loss, beta=BETA, chunk_size=60,
                neighbourhoods=make_neighbourhoods("bond", system),
            ).loss_stderr  # fmt: skip

        fixed = run(lambda mean, k=constant: mean[k])
        other = run(lambda mean, k=1 - constant: mean[k])
        assert fixed == pytest.approx(0.0, abs=1e-12)
        assert other is not None and other > 1e-4
