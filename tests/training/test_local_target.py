from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stablemd import units
from stablemd.errors import ConfigError, PotentialError
from stablemd.estimators import SampledFrames
from stablemd.observables import BondLengths
from stablemd.observables.settings import (
    BondExcessSettings,
    BondLengthsSettings,
    ContactExcessSettings,
    DistanceDistributionSettings,
)
from stablemd.system import System
from stablemd.training.epoch_frames import EpochFrames
from stablemd.training.local_target import LocalTarget
from stablemd.training.observable_gradient import make_target, observable_gradient
from stablemd.training.observable_target import ObservableTarget

EXCESS = BondExcessSettings(margin=1.0, loss="integrated_absolute")
LENGTHS = BondLengthsSettings(loss="mse", weight=3.0)


def waters(n: int) -> tuple[System, Tensor]:
    """``n`` molecules without a cell, and 6 frames in which their bonds differ."""
    bonds = [[3 * m, 3 * m + h] for m in range(n) for h in (1, 2)]
    system = System.create(["O", "H", "H"] * n, bonds=bonds, bond_lengths=[1.0] * (2 * n))
    generator = torch.Generator().manual_seed(2)
    shape = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [-0.25, 0.95, 0.0]]).double()
    places = 4.0 * torch.arange(n, dtype=torch.float64)[:, None, None] * torch.eye(3)[0]
    noise = torch.randn(6, n, 3, 3, generator=generator, dtype=torch.float64)
    return system, (places + shape + 0.1 * noise).reshape(6, 3 * n, 3)


@pytest.mark.parametrize(
    "rule",
    [{"neighbourhoods": "bond"}, {"neighbourhoods": "given", "neighbourhood_groups": [[0, 1]]}],
)
def test_with_one_neighbourhood_for_all_it_is_the_global_estimator(toy, rule) -> None:
    model = toy.model(depth=0.5)
    settings = toy.settings(observables=(EXCESS,), estimator="localized", **rule)
    gradients = []
    for chosen in (settings, settings.model_copy(update={"estimator": "boltzmann"})):
        target = make_target(model, toy.system, toy.reference, chosen)
        run = toy.objective(model, observables=(EXCESS,))
        run.point._target = target
        epoch = run.epoch_frames(toy.sampled(model))
        model.zero_grad()
        result = observable_gradient(
            model, toy.system, epoch, target,
            beta=20.0, chunk_size=64, max_backward=None, seed=0, noise_groups=4,
        )  # fmt: skip
        assert result.trust.n_frames == len(epoch.frames)
        gradients.append((result.loss, model.scaled.grad.clone()))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-12)
    assert float(gradients[0][1].norm()) > 1e-3
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-9, atol=1e-12)


def test_training_by_configuration_takes_the_localized_estimator(toy) -> None:
    model = toy.model(depth=0.5)
    settings = toy.settings(observables=(EXCESS,), estimator="localized", neighbourhoods="molecule")
    assert isinstance(make_target(model, toy.system, toy.reference, settings), LocalTarget)
    settings = toy.settings(observables=(EXCESS,))
    assert isinstance(make_target(model, toy.system, toy.reference, settings), ObservableTarget)


def test_a_potential_without_atomic_energies_is_refused(toy, monkeypatch) -> None:
    model = toy.model()
    monkeypatch.setattr(type(model), "has_local_energies", False)
    with pytest.raises(PotentialError):
        make_target(model, toy.system, toy.reference, toy.settings(estimator="localized"))


@pytest.mark.parametrize(("rule", "n_kinds", "width"), [("molecule", 1, 2), ("bond", 2, 1)])
def test_averages_are_those_over_like_neighbourhoods(rule: str, n_kinds: int, width: int) -> None:
    """Two routes to the mean of each of the two O-H bonds; the reference has no loss."""
    system, frames = waters(4)
    target = LocalTarget(system, frames, (LENGTHS,), rule)
    assert target.values(frames).shape == (6, 4 * n_kinds * width)
    oxygens, hydrogens = frames[:, 0::3], torch.stack([frames[:, 1::3], frames[:, 2::3]], dim=2)
    means = (hydrogens - oxygens[:, :, None]).norm(dim=-1).mean(dim=(0, 1))
    assert float(target.loss(means)) < 1e-24
    moved = means + torch.tensor([0.0, 0.2], dtype=torch.float64)
    assert float(target.loss(moved)) == pytest.approx(3.0 * 0.2**2, rel=1e-9)


@pytest.mark.parametrize(("rule", "options"), [("nearest", {"k": 4}), ("within", {"radius": 2.0})])
def test_around_atoms_every_atom_has_the_mean_of_its_own_bonds(rule: str, options: dict) -> None:
    system, frames = waters(3)
    target = LocalTarget(system, frames, (LENGTHS,), rule, options=options)
    lengths = BondLengths(system).values(frames).reshape(6, 3, 2)
    expected = torch.cat([lengths.mean(dim=2, keepdim=True), lengths], dim=2).reshape(6, 9)
    torch.testing.assert_close(target.values(frames), expected)
    around = target.neighbourhoods(frames, None)
    assert around.kind.tolist() == [0, 1, 2] * 3 and around.atoms.shape[:2] == (6, 9)
    # Averages of the three kinds, two routes: the reference has no loss.
    assert float(target.loss(expected.reshape(6, 3, 3).mean(dim=(0, 1)))) < 1e-24


def test_given_groups_have_the_mean_of_the_bonds_inside() -> None:
    system, frames = waters(3)
    groups = {"groups": [[0, 1, 2, 3, 4], [6, 8]]}
    target = LocalTarget(system, frames, (LENGTHS,), "given", options=groups)
    lengths = BondLengths(system).values(frames)
    expected = torch.stack([lengths[:, :3].mean(dim=1), lengths[:, 5]], dim=1)
    torch.testing.assert_close(target.values(frames), expected)
    with pytest.raises(ConfigError, match="holds no component"):
        LocalTarget(system, frames, (LENGTHS,), "given", options={"groups": [[0, 3]]})


def test_a_frame_that_is_not_finite_is_so_in_all_its_neighbourhoods() -> None:
    system, frames = waters(3)
    target = LocalTarget(system, frames, (LENGTHS,), "nearest", options={"k": 2})
    broken = frames.clone()
    broken[2, 4] = torch.nan
    values = target.values(broken)
    assert bool(values[2].isnan().all())
    keep = torch.arange(6) != 2
    torch.testing.assert_close(values[keep], target.values(frames)[keep])


def test_molecules_may_change_places(toy) -> None:
    system, frames = waters(4)
    target = LocalTarget(system, frames, (LENGTHS, EXCESS), "molecule")
    order = torch.tensor([2, 0, 3, 1])
    swapped = frames.reshape(6, 4, 9)[:, order].reshape(6, 12, 3)
    lengths = LocalTarget(system, frames, (LENGTHS,), "molecule")
    moved = lengths.values(swapped).reshape(6, 4, 2)
    torch.testing.assert_close(moved, lengths.values(frames).reshape(6, 4, 2)[:, order])
    assert target.values(frames).shape == (6, 4 * 4)


@pytest.mark.parametrize(
    "choice",
    [BondLengthsSettings(by_elements=True), DistanceDistributionSettings(r_max=3.0, n_bins=20)],
)
def test_observables_of_the_whole_system_are_refused(choice) -> None:
    system, frames = waters(2)
    with pytest.raises(ConfigError, match="single atoms or bonds"):
        LocalTarget(system, frames, (choice,), "molecule")


def test_molecules_with_unlike_numbers_of_bonds_are_taken_bond_by_bond() -> None:
    system = System.create(
        ["O", "H", "H", "O", "H"],
        bonds=[[0, 1], [0, 2], [3, 4]],
        bond_lengths=[1.0, 1.0, 1.0],
    )
    frames = torch.randn(4, 5, 3, dtype=torch.float64)
    with pytest.raises(ConfigError, match="choose bond"):
        LocalTarget(system, frames, (LENGTHS,), "molecule")
    assert LocalTarget(system, frames, (LENGTHS,), "bond").values(frames).shape == (4, 3)


def test_a_collision_is_counted_to_the_two_molecules_that_collide() -> None:
    system, frames = waters(4)
    target = LocalTarget(system, frames, (ContactExcessSettings(),), "molecule")
    known = target.values(frames)
    assert float(known.abs().max()) == 0.0 and bool(target.covers(known).all())
    colliding = frames[:1].clone()
    colliding[:, 6:9] += frames[:1, 3:4] - frames[:1, 8:9] + 0.5  # the third meets the second
    found = target.values(colliding)
    by_molecule = found.reshape(4, 3).sum(dim=1)
    assert (by_molecule > 0.0).tolist() == [False, True, True, False]
    assert target.covers(found).tolist() == [[True, False, False, True]]
    # the loss on the average is that of a molecule, whichever two of them collide
    means = found.reshape(4, 3).mean(dim=0)
    assert float(target.loss(means)) == pytest.approx(float(means.sum()))


def test_effective_frames_of_neighbourhoods_do_not_depend_on_their_number() -> None:
    """Frames of one molecule, and the same changes of energy spread over many molecules."""
    generator = torch.Generator().manual_seed(4)
    changes = 0.05 * torch.randn(64, 8, 3, generator=generator, dtype=torch.float64)

    def epoch(n: int, rule: str) -> tuple[EpochFrames, Tensor]:
        system, frames = waters(n)
        positions = frames[torch.arange(512 // n) % 6]
        target = LocalTarget(system, frames, (LENGTHS,), rule)
        zero = torch.zeros(positions.shape[:2], dtype=torch.float64)
        sampled = SampledFrames(
            positions,
            zero.sum(dim=1),
            target.values(positions),
            torch.arange(len(positions)),
            reference_atomic_energies=zero,
        )
        around = target.neighbourhoods(positions, None)
        return EpochFrames(sampled, zero, around=around), changes.reshape(zero.shape)

    def share(n: int, rule: str, beta: float = 20.0) -> float:
        frames, present = epoch(n, rule)
        return frames.n_eff_share(present, beta)

    assert share(8, "molecule") == pytest.approx(share(1, "molecule"), rel=1e-12)
    assert 0.05 < share(8, "molecule") < 0.5
    # Of several kinds, the one that loses most counts: here bonds to the first or second hydrogen.
    frames, present = epoch(8, "bond")
    by_kind = []
    for kind in range(2):
        atoms = torch.arange(8)[:, None] * 3 + torch.tensor([0, 1 + kind])
        weights = torch.softmax(-20.0 * present[:, atoms].sum(dim=2).flatten(), dim=0)
        by_kind.append(float(1.0 / weights.square().sum()) / len(weights))
    assert frames.n_eff_share(present, 20.0) == pytest.approx(min(by_kind), rel=1e-12)


def test_localized_steps_cost_no_more_effective_neighbourhoods_than_allowed(toy) -> None:
    def losses(limit: float) -> list[float]:
        model = toy.model(depth=0.5)
        settings = toy.settings(observables=(EXCESS,), estimator="localized", neighbourhoods="bond")
        run = toy.objective(
            model, observables=(EXCESS,), learning_rate=0.15, force_mae_budget=None,
            max_n_eff_loss=limit, min_n_eff=0.0,
        )  # fmt: skip
        run.point._target = make_target(model, toy.system, toy.reference, settings)
        epoch = replace(run.epoch_frames(toy.sampled(model)), covered=None)
        torch.testing.assert_close(epoch.total_energies, epoch.frames.reference_energies)
        shares = [epoch.n_eff_share(epoch.energies, units.beta(500.0))]
        for _ in range(6):
            assert run.step(epoch) is not None
            present = model.for_sampling(toy.system).atomic_energies(epoch.frames.positions)
            shares.append(epoch.n_eff_share(present, units.beta(500.0)))
        assert shares[0] == pytest.approx(1.0)
        return [a - b for a, b in pairwise(shares)]

    assert max(losses(1.0)) > 0.1
    bounded = losses(0.04)
    assert 0.0 < max(bounded) <= 0.04 + 1e-9


@pytest.mark.parametrize("n_frames", [0, 1])
def test_without_frames_there_is_no_localized_step(toy, n_frames: int) -> None:
    model = toy.model(depth=0.5)
    settings = toy.settings(observables=(EXCESS,), estimator="localized")
    run = toy.objective(model, observables=(EXCESS,))
    run.point._target = make_target(model, toy.system, toy.reference, settings)
    epoch = run.epoch_frames(toy.sampled(model).select(slice(0, n_frames)))
    assert epoch.energies.shape == (n_frames, 2)
    assert run.step(epoch) is None and run.steps_done == 0
