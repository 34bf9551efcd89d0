"""NequIP's sums over neighbours that are computed here against its own modules."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stablemd.potentials import NequIP, Potential
from stablemd.potentials.adapters import nequip
from stablemd.potentials.adapters.nequip_modules import NequIPConvolution, faster_modules
from stablemd.potentials.adapters.packages import NEQUIP
from stablemd.potentials.files import load_potential, save_potential
from stablemd.system import System

pytestmark = pytest.mark.skipif(not NEQUIP.is_installed, reason="nequip is not installed here")


@pytest.fixture(params=["fresh", "from a package file"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Potential:
    """Classes of a model from a package file are not those of the installed nequip."""
    fresh = NequIP("small", elements=["H", "C", "O"], parity=True, precision="float64", seed=2)
    if request.param == "fresh":
        return fresh
    path = tmp_path / "model.nequip.zip"
    save_potential(fresh, path)
    return load_potential(path)


def slopes(model: Potential, system: System, positions: Tensor) -> list[Tensor]:
    """Energies, forces, and the gradients of a loss of both by the parameters."""
    energy, forces = model.energy_and_forces(system, positions, create_graph=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    loss = energy.square().mean() + forces.square().mean()
    found = torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True)
    return [energy.detach(), forces.detach(), *found]


def test_energies_forces_and_gradients_are_the_package_own(
    model: Potential, ethanol: System, ethanol_positions: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = slopes(model, ethanol, ethanol_positions[:2])
    monkeypatch.setattr(nequip, "faster_modules", lambda module: nullcontext())
    expected = slopes(model, ethanol, ethanol_positions[:2])
    assert float(expected[1].abs().max()) > 1e-3, "a model without forces shows nothing"
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-10)


def test_every_layer_is_replaced_and_as_before_afterwards(model: Potential) -> None:
    """Also after an error, so that it is always the package's own model that is saved."""
    kinds = [type(m).__name__ for m in model.modules()]
    n_layers = kinds.count("TensorProductScatter")
    assert n_layers == 2
    with pytest.raises(ZeroDivisionError), faster_modules(model):
        assert [type(m) for m in model.modules()].count(NequIPConvolution) == n_layers
        raise ZeroDivisionError
    assert [type(m).__name__ for m in model.modules()] == kinds
