from __future__ import annotations

import itertools

import pytest
import torch

from stablemd import units
from stablemd.estimators import make_neighbourhoods
from stablemd.training.relative_entropy import relative_entropy_gradient

BETA = units.beta(500.0)


def gradient(toy, model, epoch, **changes):
    options = {"beta": BETA, "weight": 1.0, "chunk_size": 64, "n_structures": 10_000, "seed": 0}
    model.zero_grad()
    relative_entropy_gradient(model, toy.system, epoch, toy.reference, **{**options, **changes})
    return model.scaled.grad.clone()


def test_gradient_is_the_difference_of_the_mean_derivatives_of_the_energy(toy) -> None:
    """At θ0, where all weights are equal; and elsewhere, with the weights of the frames."""
    model = toy.model(depth=0.5)
    epoch = toy.objective(model).epoch_frames(toy.sampled(model))
    for moved in (False, True):
        if moved:
            with torch.no_grad():
                model.scaled += torch.tensor([0.3, -0.2, 0.05], dtype=torch.float64)
            epoch.energies = model.for_sampling(toy.system).energies(epoch.frames.positions, None)
        weights = torch.softmax(-BETA * (epoch.energies - epoch.frames.reference_energies), dim=0)
        theirs = model.energy(toy.system, toy.reference.positions).mean()
        own = weights @ model.energy(toy.system, epoch.frames.positions)
        (expected,) = torch.autograd.grad(BETA * (theirs - own), model.scaled)
        found = gradient(toy, model, epoch)
        assert float(expected.norm()) > 0.1
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(gradient(toy, model, epoch, weight=2.5), 2.5 * expected)


def test_frames_whose_neighbourhoods_are_weighed_count_alike(toy) -> None:
    """No limit of the localized estimator holds the weights of whole frames."""
    model = toy.model(depth=0.5)
    epoch = toy.objective(model).epoch_frames(toy.sampled(model))
    form = model.for_sampling(toy.system)
    around = make_neighbourhoods("bond", toy.system)(epoch.frames.positions, None)
    local = epoch.by_neighbourhood(around, form)
    with torch.no_grad():
        model.scaled += torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)
    for each in (epoch, local):
        each.energies = each.energies_of(model.for_sampling(toy.system))
    theirs = model.energy(toy.system, toy.reference.positions).mean()
    own = model.energy(toy.system, epoch.frames.positions).mean()
    (expected,) = torch.autograd.grad(BETA * (theirs - own), model.scaled)
    torch.testing.assert_close(gradient(toy, model, local), expected, rtol=1e-9, atol=1e-11)
    assert not torch.allclose(gradient(toy, model, epoch), expected, rtol=0.1)


def test_samples_are_right_on_average(toy) -> None:
    model = toy.model(depth=0.5)
    epoch = toy.objective(model).epoch_frames(toy.sampled(model))
    whole = gradient(toy, model, epoch)
    parts = torch.stack(
        [gradient(toy, model, epoch, n_structures=16, seed=seed) for seed in range(60)]
    )
    stderr = parts.std(dim=0) / 60**0.5
    assert bool((stderr > 0.0).all())
    assert bool(((parts.mean(dim=0) - whole).abs() < 3 * stderr).all())


def test_a_hole_that_the_reference_does_not_visit_is_filled(toy) -> None:
    """Nothing but the relative entropy: the depth of the hole falls with every step."""
    model = toy.model(depth=0.5)
    run = toy.objective(
        model,
        relative_entropy_weight=1.0,
        label_weight=0.0,
        anchor_weight=0.0,
        learning_rate=0.01,
        force_mae_budget=None,
        max_n_eff_loss=1.0,
        min_n_eff=0.0,
    )
    run.point._target._weights = [0.0 for _ in run.point._target._weights]
    epoch = run.epoch_frames(toy.sampled(model))
    depths = [float(model.constants[2].detach())]
    for _ in range(5):
        assert run.step(epoch) is not None
        depths.append(float(model.constants[2].detach()))
    assert all(later < earlier for earlier, later in itertools.pairwise(depths))


def test_without_weight_nothing_is_computed(toy, monkeypatch) -> None:
    def refuse(*_, **__):
        raise AssertionError("called without a weight")

    monkeypatch.setattr("stablemd.training.point_objective.relative_entropy_gradient", refuse)
    model = toy.model(depth=0.5)
    run = toy.objective(model)
    assert run.step(run.epoch_frames(toy.sampled(model))) is not None
    run = toy.objective(model, relative_entropy_weight=0.1)
    with pytest.raises(AssertionError):
        run.step(run.epoch_frames(toy.sampled(model)))
