"""One step for several state points: the gradient, the limits, and what may be trained together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from stablemd import units
from stablemd.errors import ConfigError, DataError, PotentialError
from stablemd.estimators import StatePoint, ensemble_gradient
from stablemd.observables.settings import BondExcessSettings
from stablemd.potentials import make_potential
from stablemd.potentials.classical import HarmonicBonds
from stablemd.system import System
from stablemd.training.control import train_control
from stablemd.training.energy_offset import centre_energies
from stablemd.training.label_loss import anchor_loss, cycling_batches, label_loss
from stablemd.training.objective import StableObjective
from stablemd.training.point_gradients import TIGHT_BUDGET, PointGradients, combined_gradient
from stablemd.training.training_point import TrainingPoint, require_trainable_together

UNLIMITED = {"force_mae_budget": None, "energy_mae_budget": None, "max_n_eff_loss": 1.0}
"""Switches off every limit on a step."""

COLD_K = 200.0


def parameters(model) -> Tensor:
    return model.scaled.detach().clone()


def cold_point(toy, name: str = "cold", **changes: Any) -> TrainingPoint:
    dynamics = toy.settings().dynamics.model_copy(update={"temperature_k": COLD_K})
    return toy.at(COLD_K).point(name, dynamics=dynamics, **{"seed": 3, **changes})


def objective(model, *points: TrainingPoint) -> StableObjective:
    return StableObjective(model, points, points[0].settings)


# The gradient


LOCALIZED = {
    "estimator": "localized",
    "neighbourhoods": "bond",
    "observables": (BondExcessSettings(margin=1.0, loss="integrated_absolute"),),
    "relative_entropy_weight": 0.1,
}


@pytest.mark.parametrize("changes", [{}, LOCALIZED], ids=["global", "localized"])
def test_two_state_points_alike_step_as_one_of_them_would(toy, changes: dict[str, Any]) -> None:
    """The means over state points leave every scale as it is, under the usual limits."""
    one, two = toy.model(depth=0.5), toy.model(depth=0.5)
    alone = objective(one, toy.point(**changes))
    twins = objective(two, toy.point(**changes), toy.point("twin", **changes))
    epochs = [p.epoch_frames(toy.sampled(one)) for p in (*alone.points, *twins.points)]
    anchors = 1.05 * toy.reference.positions[:20]
    for point in (*alone.points, *twins.points):
        point.set_anchor(anchors)
    start, shares = parameters(one), []
    for _ in range(4):
        a, b = alone.step(epochs[:1]), twins.step(epochs[1:])
        assert a is not None and b is not None and b.points is not None
        shares.append(a.step_share)
        assert b.step_share == a.step_share and b.n_eff == pytest.approx(2 * a.n_eff)
        for key in ("observable_loss", "label_loss", "anchor_loss", "label_gradient_norm"):
            assert getattr(b, key) == pytest.approx(getattr(a, key), rel=1e-9)
        torch.testing.assert_close(two.scaled, one.scaled, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(two.shift, one.shift, rtol=1e-9, atol=1e-12)
    assert float((parameters(one) - start).norm()) > 1e-3 and max(shares) > 0.0


def test_the_step_of_two_temperatures_follows_the_gradient_of_their_mean_loss(toy) -> None:
    """By another route: one loss on both ensembles, and the mean of label and anchor losses."""
    model = toy.model(depth=0.5)
    plain = {
        "optimizer": "sgd", "learning_rate": 1e-3, "gradient_clip": 1e6, "label_weight": 3.0,
        "anchor_weight": 2.0, "max_backward_frames": None, "label_batch_size": 8, **UNLIMITED,
    }  # fmt: skip
    points = [toy.point(**plain), cold_point(toy, **plain)]
    run = objective(model, *points)
    anchors = [1.05 * toy.reference.positions[:5], 0.97 * toy.reference.positions[5:15]]
    anchor_forces = []
    for part, positions in zip(run.points, anchors, strict=True):
        part.set_anchor(positions)
        anchor_forces.append(model.for_sampling(toy.system)(positions)[1])
    epochs = [
        run.points[0].epoch_frames(toy.sampled(model)),
        run.points[1].epoch_frames(toy.sampled(model, 120, COLD_K)),
    ]
    with torch.no_grad():
        model.scaled += torch.tensor([0.4, 0.1, 0.02], dtype=torch.float64)
    for part, epoch in zip(run.points, epochs, strict=True):
        epoch.energies = part.energies_of(epoch, part.sampling_form())
    before = parameters(model)

    probe = toy.model()
    probe.load_state_dict(model.state_dict())
    kelvin = {"main": 500.0, "cold": COLD_K}
    targets = dict(zip(kelvin, (part._target for part in run.points), strict=True))
    ensemble_gradient(
        probe,
        {
            name: StatePoint(toy.system, epoch.frames, units.beta(kelvin[name]))
            for name, epoch in zip(kelvin, epochs, strict=True)
        },
        lambda at: 0.5 * sum(targets[name].loss(at[name].mean()) for name in kelvin),
    )
    for point, positions, forces in zip(points, anchors, anchor_forces, strict=True):
        batch = point.train.select(cycling_batches(32, 8, seed=point.settings.seed, step=0))
        labels = label_loss(probe, toy.system, batch, point.settings.label_loss, free_offset=True)
        index = cycling_batches(
            len(positions), min(8, len(positions)), seed=point.settings.seed + 1, step=0
        )
        anchor = anchor_loss(probe, toy.system, positions[index], forces[index])
        (0.5 * (3.0 * labels + 2.0 * anchor)).backward()

    record = run.step(epochs)
    assert record is not None and record.step_share == 1.0
    torch.testing.assert_close(
        parameters(model) - before, -1e-3 * probe.scaled.grad, rtol=1e-8, atol=1e-14
    )


def test_a_point_that_did_not_sample_pulls_by_labels_and_anchor_alone(toy) -> None:
    def moved(second: TrainingPoint | None) -> Tensor:
        model = toy.model(depth=0.5)
        plain = {"optimizer": "sgd", "label_weight": 1.0, "gradient_clip": 1e6, **UNLIMITED}
        points = [toy.point(**plain)] + ([] if second is None else [second])
        run = objective(model, *points)
        epoch = run.points[0].epoch_frames(toy.sampled(model))
        before = parameters(model)
        record = run.step([epoch, None][: len(points)])
        assert record is not None
        if record.points is not None:
            assert record.points["cold"]["observable_loss"] is None
            assert record.points["cold"]["label_gradient_norm"] > 0.0
            assert record.n_frames == record.points["main"]["n_frames"] > 0
        return parameters(model) - before

    alone, silent = moved(None), moved(toy.point("cold", seed=0))
    # With the main point's own labels nothing changes: its observables keep their strength.
    torch.testing.assert_close(silent, alone, rtol=1e-9, atol=1e-14)
    assert not torch.allclose(moved(cold_point(toy)), alone, rtol=1e-3)


def test_no_point_may_pull_against_the_labels_of_one_with_a_tight_budget() -> None:
    def unit(x: float, y: float) -> list[Tensor]:
        return [torch.tensor([x, y], dtype=torch.float64)]

    calm = PointGradients(unit(1.0, 1.0), unit(0.0, 0.5), None, budget_used=0.0)
    for used in (TIGHT_BUDGET, 0.9):
        tight = PointGradients(None, unit(-1.0, 0.0), None, budget_used=used)
        (found,) = combined_gradient([calm, tight], label_weight=0.0, anchor_weight=0.0, clip=10.0)
        assert torch.equal(found, unit(0.0 if used > TIGHT_BUDGET else 1.0, 1.0)[0])
    (rest,) = combined_gradient(
        [calm, tight], label_weight=2.0, anchor_weight=1.0, clip=10.0, without_observables=True
    )
    torch.testing.assert_close(rest, unit(-1.0, 0.5)[0])


# The limits


@pytest.mark.parametrize("main", ["hot", "cold"])
def test_frames_of_every_point_keep_their_effective_share(toy, main: str) -> None:
    """Whichever comes first: those of the lower temperature reach the limit earlier."""
    model = toy.model(depth=0.5)
    free: dict[str, Any] = {
        "label_weight": 0.0, "anchor_weight": 0.0, "learning_rate": 1.5, "min_n_eff": 0.0,
        "max_n_eff_loss": 0.05, "force_mae_budget": None,
    }  # fmt: skip
    points = {"hot": toy.point("hot", **free), "cold": cold_point(toy, **free)}
    kelvin = {"hot": 500.0, "cold": COLD_K}
    order = sorted(points, key=lambda name: name != main)
    run = objective(model, *(points[name] for name in order))
    epochs = [
        point.epoch_frames(toy.sampled(model, temperature_k=kelvin[name]))
        for name, point in zip(order, run.points, strict=True)
    ]
    shares = []
    for _ in range(6):
        floors = [
            p.n_eff_share(e, e.energies) - 0.05 for p, e in zip(run.points, epochs, strict=True)
        ]
        record = run.step(epochs)
        assert record is not None
        shares.append(record.step_share)
        for point, epoch, floor in zip(run.points, epochs, floors, strict=True):
            now = point.energies_of(epoch, point.sampling_form())
            assert point.n_eff_share(epoch, now) >= floor - 1e-9
    assert min(shares) < 1.0


def test_steps_never_leave_the_budget_of_a_point_that_did_not_sample(toy) -> None:
    """The main point has no bound of its own; the other one's labels are the truth."""

    def largest_usage(factor: float | None) -> float:
        model = toy.model()
        free = {"label_weight": 0.1, "max_n_eff_loss": 1.0, "min_n_eff": 0.0}
        main = toy.point(force_mae_budget=None, **free)
        other = cold_point(toy, force_mae_budget=factor, **free)
        run = objective(model, main, other)
        epoch = run.points[0].epoch_frames(toy.sampled(model))
        start = run.points[1].errors.force_mae_ev_per_angstrom
        largest = 0.0
        for _ in range(15):
            assert run.step([epoch, None]) is not None
            point = run.points[1]
            errors = point.errors_of(point.sampling_form())
            assert errors == pytest.approx(point.errors)
            largest = max(largest, errors.force_mae_ev_per_angstrom / start)
        return largest

    assert largest_usage(None) > 1.5
    assert largest_usage(1.2) <= 1.2 * (1.0 + 1e-9)


def test_frames_of_one_point_that_are_used_up_end_the_steps_of_all(toy) -> None:
    model = toy.model(depth=0.5)
    run = objective(model, toy.point(), cold_point(toy))
    epochs = [
        run.points[0].epoch_frames(toy.sampled(model)),
        run.points[1].epoch_frames(toy.sampled(model, temperature_k=COLD_K)),
    ]
    assert run.step(epochs) is not None
    epochs[1].energies = epochs[1].energies + torch.linspace(0.0, 2.0, 240, dtype=torch.float64)
    before = parameters(model)
    assert run.step(epochs) is None and torch.equal(parameters(model), before)
    assert run.step([epochs[0], None]) is not None


# What may be trained together


def test_a_potential_of_one_molecule_is_refused_for_another(toy) -> None:
    water = System.create(["O", "H", "H"], bonds=[[0, 1], [0, 2]], bond_lengths=[1.0, 1.0])
    frames = replace(
        toy.train,
        numbers=water.numbers,
        positions=torch.randn(32, 3, 3, dtype=torch.float64),
        forces=torch.zeros(32, 3, 3, dtype=torch.float64),
    )
    other = TrainingPoint("water", water, frames, frames, frames, toy.settings())
    springs = HarmonicBonds.of(toy.system)
    network = make_potential("schnet", n_features=8, n_filters=8, n_interactions=1, n_gaussians=6)
    require_trainable_together(network, [toy.point(), other])
    require_trainable_together(springs, [toy.point(), cold_point(toy)])
    for model in (springs, network + springs):
        with pytest.raises(PotentialError, match=r"was made for H2, and state point water is H2O"):
            require_trainable_together(model, [toy.point(), other])


def test_mistakes_are_named_before_anything_runs(toy) -> None:
    model = toy.model()
    with pytest.raises(ConfigError, match="have the name cold"):
        require_trainable_together(model, [toy.point(), cold_point(toy), cold_point(toy)])
    foreign = replace(toy.train, numbers=torch.tensor([1, 8]))
    with pytest.raises(DataError, match="train frames .*other atoms than the system H2"):
        require_trainable_together(model, [toy.point(), replace(cold_point(toy), train=foreign)])


# The constant of the energies, and the control


def test_the_constant_is_that_of_the_main_molecule(toy) -> None:
    """Points of the same molecule share it; one of another molecule leaves it alone."""

    def moved(point: TrainingPoint, by: float) -> TrainingPoint:
        return replace(point, train=replace(point.train, energies=point.train.energies + by))

    def mean_error(model, point: TrainingPoint) -> float:
        energies, _ = model.for_sampling(toy.system)(point.train.positions)
        return float((energies - point.train.energies).mean())

    model = toy.model(depth=0.0, stiffness=4.0)
    points = [moved(toy.point(), 8.0), moved(cold_point(toy), 2.0)]
    centre_energies(model, points)
    assert mean_error(model, points[0]) == pytest.approx(-3.0)
    assert mean_error(model, points[1]) == pytest.approx(3.0)
    system = System.create(["H", "He"], bonds=[[0, 1]], bond_lengths=[1.0])
    frames = replace(points[1].train, numbers=system.numbers)
    other = replace(points[1], name="other", system=system, train=frames)
    centre_energies(model, [points[0], other])
    assert mean_error(model, points[0]) == pytest.approx(0.0, abs=1e-12)


def test_the_control_trains_on_the_labels_of_all_points(toy) -> None:
    model = toy.model()
    plain = {"optimizer": "sgd", "learning_rate": 1e-3, "gradient_clip": 1e6, "label_weight": 3.0}
    main, other = toy.point(**plain), cold_point(toy, **plain)
    before = parameters(model)
    train_control(model, toy.system, toy.train, main.settings, 1, further=[other])
    probe = toy.model()
    for point in (main, other):
        batch = point.train.select(cycling_batches(32, 16, seed=point.settings.seed, step=0))
        loss = label_loss(probe, toy.system, batch, point.settings.label_loss, free_offset=True)
        (1.5 * loss).backward()
    torch.testing.assert_close(
        parameters(model) - before, -1e-3 * probe.scaled.grad, rtol=1e-9, atol=1e-15
    )
