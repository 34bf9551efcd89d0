"""SchNet: equality with torch_geometric, the paper's size, sampling accuracy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials.files import load_potential
from stablemd.potentials.schnet import SchNet
from stablemd.potentials.schnet_sampling import SchNetSampling
from stablemd.potentials.schnet_weights import schnet_from_weights, to_torch_geometric
from stablemd.system import System


def complete_graph(cutoff: float):
    """All directed pairs within the cutoff, for torch_geometric's SchNet."""

    def graph(positions: Tensor, structure: Tensor) -> tuple[Tensor, Tensor]:
        distances = torch.linalg.vector_norm(positions[:, None] - positions[None], dim=-1)
        same = structure[:, None] == structure[None]
        near = same & (distances < cutoff) & ~torch.eye(len(positions), dtype=torch.bool)
        edges = near.nonzero().T
        return edges, torch.linalg.vector_norm(positions[edges[0]] - positions[edges[1]], dim=-1)

    return graph


def reference_model(cutoff: float = 5.0):
    geometric = pytest.importorskip(
        "torch_geometric.nn", reason="the reference is torch_geometric's SchNet (make venv)"
    )
    torch.manual_seed(4)
    model = geometric.SchNet(
        hidden_channels=64,
        num_filters=64,
        num_interactions=6,
        num_gaussians=25,
        cutoff=cutoff,
        interaction_graph=complete_graph(cutoff),
    ).double()
    for module in model.modules():
        if hasattr(module, "shift"):
            module.shift = math.log(2.0)  # theirs is rounded to float32, 2e-9 off
    return model


def test_paper_defaults_have_the_papers_size() -> None:
    assert SchNet().n_parameters == 117_953


@pytest.mark.parametrize("cutoff", [5.0, 2.2])
def test_equals_torch_geometric(cutoff: float, ethanol: System, ethanol_positions: Tensor) -> None:
    theirs = reference_model(cutoff)
    ours = schnet_from_weights(theirs.state_dict())
    assert ours.cutoff == cutoff
    energy, forces = ours.energy_and_forces(ethanol, ethanol_positions)
    flat = ethanol_positions.reshape(-1, 3).clone().requires_grad_(True)
    structure = torch.arange(8).repeat_interleave(9)
    expected = theirs(ethanol.numbers.repeat(8), flat, structure)[:, 0]
    (gradient,) = torch.autograd.grad(expected.sum(), flat)
    torch.testing.assert_close(energy, expected.detach(), rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(forces, -gradient.reshape(8, 9, 3), rtol=1e-9, atol=1e-11)


def test_weights_go_back_to_torch_geometric(ethanol: System, ethanol_positions: Tensor) -> None:
    theirs = reference_model()
    torch.manual_seed(9)
    ours = SchNet().double()
    theirs.load_state_dict(to_torch_geometric(ours))
    expected = theirs(ethanol.numbers, ethanol_positions[0])[0, 0]
    energy = ours.energy(ethanol, ethanol_positions[:1])[0]
    torch.testing.assert_close(energy, expected, rtol=1e-11, atol=1e-11)


def test_wrapped_names_and_normalizers_are_understood(
    ethanol: System, ethanol_positions: Tensor
) -> None:
    theirs = reference_model()
    checkpoint = {
        "state_dict": {f"module.{k}": v for k, v in theirs.state_dict().items()},
        "normalizers": {
            "target": {"mean": torch.tensor(-18.0), "std": torch.tensor(0.5)},
            "grad_target": {"mean": torch.tensor(0.0), "std": torch.tensor(1.25)},
        },
    }
    plain = schnet_from_weights(theirs.state_dict())
    scaled = schnet_from_weights(checkpoint, n_atoms=9)
    energy = plain.energy(ethanol, ethanol_positions).detach()
    torch.testing.assert_close(
        scaled.energy(ethanol, ethanol_positions).detach(), 1.25 * energy - 18.0
    )
    with pytest.raises(PotentialError, match="n_atoms"):
        schnet_from_weights(checkpoint)


def test_foreign_checkpoint_file_loads(shared_data) -> None:
    """The public water model: forces within its published error of the shared labels."""
    model = load_potential(shared_data / "water" / "mdsim_schnet_water_1k.pt", n_atoms=192)
    assert model.cutoff == 6.0
    assert model.n_parameters == 117_953
    assert float(model.energy_scale) == pytest.approx(1.2522, abs=1e-3)


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(PotentialError, match="not a SchNet"):
        schnet_from_weights({"layer.weight": torch.zeros(3)})


def test_embedding_layouts_with_missing_parts_are_refused() -> None:
    state = to_torch_geometric(SchNet())
    del state["lin2.bias"]
    with pytest.raises(PotentialError, match=r"lin2\.bias"):
        schnet_from_weights(state)


def test_large_total_energies_do_not_cost_precision(
    ethanol: System, ethanol_positions: Tensor
) -> None:
    model = SchNet()
    small = model.energy(ethanol, ethanol_positions).detach()
    model.set_energy_scale(1.0, {1: -1000.0, 6: -1000.0, 8: -1000.0})
    large = model.energy(ethanol, ethanol_positions).detach()
    torch.testing.assert_close(large + 9000.0, small, rtol=0, atol=1e-9)


def test_moving_to_float32_keeps_energy_constants_in_float64() -> None:
    model = SchNet()
    model.set_energy_scale(0.5, {1: -13.123456789012})
    model.to(torch.float32)
    assert model.atomic_shift.dtype == torch.float64
    assert float(model.atomic_shift[1]) == -13.123456789012


@pytest.mark.parametrize(
    ("n_features", "n_filters", "n_interactions", "n_gaussians", "cutoff"),
    [(64, 64, 6, 25, 5.0), (24, 40, 1, 10, 4.0), (33, 17, 2, 50, 7.0)],
)
def test_compiled_form_of_any_shape(
    n_features: int,
    n_filters: int,
    n_interactions: int,
    n_gaussians: int,
    cutoff: float,
    ethanol: System,
    ethanol_positions: Tensor,
) -> None:
    torch.manual_seed(1)
    model = SchNet(n_features, n_filters, n_interactions, n_gaussians, cutoff)
    model.set_energy_scale(1.7, {1: -10.0, 6: -20.0, 8: -30.0})
    exact_energy, exact_forces = model.double().energy_and_forces(ethanol, ethanol_positions)
    form = SchNetSampling(model.float(), ethanol, n_knots=2048)
    energy, forces = form(ethanol_positions)
    assert float((forces - exact_forces).abs().max()) < 2e-5 * float(exact_forces.abs().max())
    assert float((energy - exact_energy).abs().max()) < 1e-4


def test_table_error_falls_with_the_fourth_power(
    ethanol: System, ethanol_positions: Tensor
) -> None:
    """Cubic splines: energies to fourth order in the knot spacing."""
    torch.manual_seed(6)
    model = SchNet()
    exact, _ = model.double().energy_and_forces(ethanol, ethanol_positions)
    model = model.float()
    errors = [
        float((SchNetSampling(model, ethanol, n)(ethanol_positions)[0] - exact).abs().max())
        for n in (32, 64)
    ]
    assert errors[0] / errors[1] > 8.0


def test_compiled_forces_are_the_gradient_of_the_compiled_energy(
    ethanol: System, ethanol_positions: Tensor
) -> None:
    """A coarse table changes the model, but forces stay exact derivatives of its energy."""
    torch.manual_seed(6)
    form = SchNetSampling(SchNet(), ethanol, n_knots=40)
    step = 2e-3
    x = ethanol_positions[:1]
    _, forces = form(x)
    for atom, axis in ((1, 0), (4, 2)):
        shift = torch.zeros_like(x)
        shift[0, atom, axis] = step
        slope = float(form(x + shift)[0] - form(x - shift)[0]) / (2 * step)
        assert slope == pytest.approx(-float(forces[0, atom, axis]), abs=2e-3)


def test_impossible_hyperparameters_are_refused() -> None:
    with pytest.raises(PotentialError, match="cutoff"):
        SchNet(cutoff=-1.0)
    with pytest.raises(PotentialError, match="n_gaussians"):
        SchNet(n_gaussians=1)


def test_float64_falls_back_to_the_exact_form(ethanol: System, ethanol_positions: Tensor) -> None:
    model = SchNet().double()
    form = model.for_sampling(ethanol, ethanol_positions)
    assert not isinstance(form, SchNetSampling)
    energy, _ = form(ethanol_positions)
    np.testing.assert_allclose(energy, model.energy(ethanol, ethanol_positions).detach())
