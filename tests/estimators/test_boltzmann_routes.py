"""The Boltzmann Estimator against other routes to the same number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stablemd.errors import ConfigError, DataError, PotentialError
from stablemd.estimators import (
    SampledFrames,
    boltzmann_gradient,
    make_loss,
    potential_energies,
    reweighted_mean,
)
from stablemd.estimators.losses import Loss
from stablemd.observables import DistanceDistribution
from stablemd.potentials.base import Potential
from stablemd.system import System

BETA = 1.7
TIGHT = 1e-10


@pytest.fixture
def frames(pair_network: Potential, cluster: System, cluster_positions: Tensor) -> SampledFrames:
    h = DistanceDistribution(cluster, r_max=5.0, n_bins=40)
    return SampledFrames(
        positions=cluster_positions,
        reference_energies=potential_energies(pair_network, cluster, cluster_positions),
        values=h.values(cluster_positions),
        replica=torch.arange(60) % 6,
    )


@pytest.fixture
def loss() -> Loss:
    target = torch.linspace(0.0, 0.4, 40, dtype=torch.float64)
    return make_loss("mse", target, spacing=0.125)


def flat_gradient(potential: Potential) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in potential.parameters() if p.grad is not None])


def perturb(potential: Potential, size: float = 0.05) -> None:
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for p in potential.parameters():
            p += size * torch.randn(p.shape, generator=generator, dtype=p.dtype)


def textbook_gradient(
    potential: Potential, system: System, frames: SampledFrames, loss: Loss
) -> Tensor:
    """Per-frame parameter gradients, their N - 1 covariance with g, times -β ∂L/∂<g>."""
    per_frame = []
    for x in frames.positions:
        gradient = torch.autograd.grad(
            potential.energy(system, x[None])[0], list(potential.parameters())
        )
        per_frame.append(torch.cat([g.reshape(-1) for g in gradient]))
    u = torch.stack(per_frame)
    n = len(frames)
    mean = frames.values.mean(dim=0).requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(mean), mean)
    covariance = (frames.values - mean.detach()).T @ (u - u.mean(dim=0)) / (n - 1)
    return -BETA * slope @ covariance


def differentiated_reweighting(
    potential: Potential, system: System, frames: SampledFrames, loss: Loss
) -> Tensor:
    """DiffTRe as it is written: autograd through the softmax, all frames in one graph."""
    energies = potential.energy(system, frames.positions)
    weights = torch.softmax(-BETA * (energies - frames.reference_energies), dim=0)
    gradient = torch.autograd.grad(loss(weights @ frames.values), list(potential.parameters()))
    return torch.cat([g.reshape(-1) for g in gradient])


def test_equals_the_textbook_formula(
    pair_network: Potential, cluster: System, frames: SampledFrames, loss: Loss
) -> None:
    boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA, chunk_size=16)
    expected = textbook_gradient(pair_network, cluster, frames, loss)
    torch.testing.assert_close(flat_gradient(pair_network), expected, rtol=TIGHT, atol=1e-14)
    assert expected.norm() > 1e-4


@pytest.mark.parametrize("moved", [False, True])
def test_equals_autograd_through_the_weights(
    pair_network: Potential, cluster: System, frames: SampledFrames, loss: Loss, moved: bool
) -> None:
    if moved:
        perturb(pair_network)
    result = boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA)
    expected = differentiated_reweighting(pair_network, cluster, frames, loss) * 60 / 59
    torch.testing.assert_close(flat_gradient(pair_network), expected, rtol=TIGHT, atol=1e-14)
    assert (result.n_eff == pytest.approx(60.0, rel=1e-13)) is not moved


def test_known_energies_save_the_first_pass(
    pair_network: Potential, cluster: System, frames: SampledFrames, loss: Loss
) -> None:
    boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA)
    computed = flat_gradient(pair_network)
    pair_network.zero_grad()
    pair_network.atoms_per_call.clear()
    boltzmann_gradient(
        pair_network,
        cluster,
        frames,
        loss,
        beta=BETA,
        energies=frames.reference_energies,
        noise_groups=0,
    )
    torch.testing.assert_close(flat_gradient(pair_network), computed, rtol=TIGHT, atol=1e-14)
    assert sum(pair_network.atoms_per_call) == 60 * 4


@pytest.mark.parametrize("chunk_size", [1, 7, 60, 1000])
def test_chunk_size_does_not_change_the_result(
    pair_network: Potential,
    cluster: System,
    frames: SampledFrames,
    loss: Loss,
    chunk_size: int,
) -> None:
    perturb(pair_network)
    whole = boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA, chunk_size=20)
    expected = flat_gradient(pair_network)
    pair_network.zero_grad()
    result = boltzmann_gradient(
        pair_network, cluster, frames, loss, beta=BETA, chunk_size=chunk_size
    )
    torch.testing.assert_close(flat_gradient(pair_network), expected, rtol=TIGHT, atol=1e-14)
    assert result.loss == pytest.approx(whole.loss, rel=1e-13)


class _LiveBytes:
    """Bytes that autograd graphs hold at present, and the most they ever held."""

    def __init__(self) -> None:
        self.now = 0
        self.peak = 0

    def pack(self, tensor: Tensor) -> _Saved:
        return _Saved(tensor, self)


class _Saved:
    def __init__(self, tensor: Tensor, account: _LiveBytes) -> None:
        self.tensor, self.account = tensor.detach(), account
        self.size = tensor.numel() * tensor.element_size()
        account.now += self.size
        account.peak = max(account.peak, account.now)

    def __del__(self) -> None:
        self.account.now -= self.size


@pytest.mark.parametrize("noise_groups", [0, 4])
def test_memory_is_bounded_by_the_chunk(
    pair_network: Potential,
    cluster: System,
    frames: SampledFrames,
    loss: Loss,
    noise_groups: int,
) -> None:
    """Four times the frames: no larger call of the potential, no larger graph."""
    peaks = []
    for repeats in (1, 4):
        many = frames.select(torch.arange(60).repeat(repeats))
        account = _LiveBytes()
        pair_network.zero_grad()
        pair_network.atoms_per_call.clear()
        with torch.autograd.graph.saved_tensors_hooks(account.pack, lambda s: s.tensor):
            boltzmann_gradient(
                pair_network,
                cluster,
                many,
                loss,
                beta=BETA,
                chunk_size=10,
                noise_groups=noise_groups,
            )
        assert max(pair_network.atoms_per_call) == 10 * 4
        # The probe of the average gradient: 8 frames of 60, 10 (one chunk) of 240.
        probe = 0 if not noise_groups else 8 if repeats == 1 else 10
        assert sum(pair_network.atoms_per_call) == (2 * len(many) + probe) * 4
        assert account.now == 0
        peaks.append(account.peak)
    assert peaks[0] == peaks[1] > 0
    account = _LiveBytes()
    with torch.autograd.graph.saved_tensors_hooks(account.pack, lambda s: s.tensor):
        boltzmann_gradient(
            pair_network, cluster, frames, loss, beta=BETA, chunk_size=60, noise_groups=0
        )
    assert account.peak > 4 * peaks[0]  # the measure does see the graph of a larger chunk


def test_frames_that_are_not_finite_are_as_if_absent(
    pair_network: Potential, cluster: System, frames: SampledFrames, loss: Loss
) -> None:
    broken = SampledFrames(
        positions=frames.positions.clone(),
        reference_energies=frames.reference_energies.clone(),
        values=frames.values.clone(),
        replica=frames.replica,
    )
    broken.positions[3, 0, 0] = float("nan")
    broken.reference_energies[10] = float("inf")
    broken.values[41, 7] = float("nan")
    keep = torch.ones(60, dtype=torch.bool)
    keep[[3, 10, 41]] = False
    assert torch.equal(broken.finite_mask(), keep)

    perturb(pair_network)
    result = boltzmann_gradient(pair_network, cluster, broken, loss, beta=BETA, chunk_size=8)
    with_broken = flat_gradient(pair_network)
    pair_network.zero_grad()
    absent = boltzmann_gradient(
        pair_network, cluster, frames.select(keep), loss, beta=BETA, chunk_size=8
    )
    assert torch.equal(with_broken, flat_gradient(pair_network))
    assert (result.n_frames, result.n_dropped) == (57, 3)
    assert (absent.n_frames, absent.n_dropped) == (57, 0)
    assert result.loss == absent.loss and torch.isfinite(with_broken).all()


def test_frames_without_a_finite_present_energy_are_left_out(
    pair_network: Potential, cluster: System, frames: SampledFrames, loss: Loss
) -> None:
    energies = frames.reference_energies.clone()
    energies[[5, 6]] = float("nan")
    result = boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA, energies=energies)
    assert (result.n_frames, result.n_dropped) == (58, 2)
    assert torch.isfinite(flat_gradient(pair_network)).all()


def test_adds_to_the_gradients_and_reports_its_own_norm(
    pair_network: Potential, cluster: System, frames: SampledFrames, loss: Loss
) -> None:
    boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA)
    alone = flat_gradient(pair_network)
    for p in pair_network.parameters():
        p.grad = torch.full_like(p, 2.5)
    result = boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA)
    torch.testing.assert_close(flat_gradient(pair_network) - 2.5, alone, rtol=0, atol=1e-14)
    assert result.gradient_norm == pytest.approx(alone.norm().item(), rel=1e-12)


def test_frozen_parameters_stay_without_gradient(
    pair_network: Potential, cluster: System, frames: SampledFrames, loss: Loss
) -> None:
    first, last = pair_network.parameters()
    first.requires_grad_(False)
    boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA)
    assert first.grad is None and last.grad is not None
    last.requires_grad_(False)
    with pytest.raises(PotentialError, match="unfreeze at least one"):
        boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA)


def test_a_constant_energy_has_no_gradient(anharmonic: Potential, atom: System) -> None:
    """The coefficients sum to zero, so an arbitrary zero of energy is never trained."""
    positions = torch.randn(
        50, 1, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )
    frames = SampledFrames(
        positions,
        potential_energies(anharmonic, atom, positions) - 1.0e5,
        positions[:, 0, :1] ** 2,
        torch.zeros(50).long(),
    )
    result = boltzmann_gradient(anharmonic, atom, frames, lambda mean: mean.sum(), beta=BETA)
    assert anharmonic.shift.grad is not None and anharmonic.k.grad is not None
    assert abs(anharmonic.shift.grad.item()) < 1e-13
    assert abs(anharmonic.k.grad.item()) > 1e-2
    assert result.n_eff == pytest.approx(50.0, rel=1e-9)


def test_single_precision_potential_agrees(
    pair_network: Potential, cluster: System, frames: SampledFrames, loss: Loss
) -> None:
    boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA)
    exact = flat_gradient(pair_network)
    pair_network.zero_grad()
    pair_network.float()
    result = boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA)
    single = flat_gradient(pair_network)
    assert single.dtype == torch.float32 and result.mean.dtype == torch.float64
    assert (single.double() - exact).norm() < 1e-5 * exact.norm()


def test_standard_error_of_the_loss(anharmonic: Potential, atom: System) -> None:
    """For a linear loss and equal groups it is the standard error of the groups' mean."""
    generator = torch.Generator().manual_seed(5)
    positions = torch.randn(300, 1, 3, generator=generator, dtype=torch.float64)
    g = positions[:, 0, :1]
    energies = potential_energies(anharmonic, atom, positions)
    found = [
        boltzmann_gradient(
            anharmonic,
            atom,
            SampledFrames(positions, energies, g, replica),
            lambda mean: 2.0 * mean.sum(),
            beta=BETA,
            energies=energies,
        ).loss_stderr
        for replica in (torch.arange(300) // 25, torch.zeros(300).long())
    ]
    means = g.reshape(12, 25).mean(dim=1)
    assert found[0] == pytest.approx(2.0 * means.std().item() / math.sqrt(12), rel=1e-9)
    assert math.isnan(found[1])  # one replica can't tell


def test_works_where_gradients_are_switched_off(
    pair_network: Potential, cluster: System, frames: SampledFrames, loss: Loss
) -> None:
    boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA)
    expected = flat_gradient(pair_network)
    pair_network.zero_grad()
    with torch.no_grad():
        boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA)
    assert torch.equal(flat_gradient(pair_network), expected)


def test_refuses_what_has_no_answer(
    pair_network: Potential, cluster: System, frames: SampledFrames, loss: Loss
) -> None:
    with pytest.raises(DataError, match="at least two finite frames, got 1 of 1"):
        boltzmann_gradient(pair_network, cluster, frames.select(torch.tensor([0])), loss, beta=BETA)
    with pytest.raises(ConfigError, match="beta"):
        boltzmann_gradient(pair_network, cluster, frames, loss, beta=-1.0)
    with pytest.raises(ConfigError, match="chunk_size"):
        boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA, chunk_size=0)
    with pytest.raises(DataError, match=r"\(60,\), one for every frame"):
        boltzmann_gradient(pair_network, cluster, frames, loss, beta=BETA, energies=torch.zeros(3))
    with pytest.raises(DataError, match="not finite"):
        boltzmann_gradient(
            pair_network, cluster, frames, lambda mean: mean.sum() * float("nan"), beta=BETA
        )
    with pytest.raises(DataError, match=r"values of shape \(n, D\)"):
        SampledFrames(
            frames.positions, frames.reference_energies, frames.values[:5], frames.replica
        )
    hopeless = SampledFrames(
        frames.positions, torch.full((60,), float("nan")), frames.values, frames.replica
    )
    with pytest.raises(DataError, match="none of the 60 sampled frames"):
        reweighted_mean(pair_network, cluster, hopeless, beta=BETA)
    assert all(p.grad is None for p in pair_network.parameters())
