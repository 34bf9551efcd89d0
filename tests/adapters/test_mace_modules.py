"""MACE's parts that are computed here against its own modules."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from stablemd.potentials.adapters.packages import MACE

if not MACE.is_installed:
    pytest.skip("mace-torch is not installed here", allow_module_level=True)

from stablemd.potentials.adapters.mace import importing_mace
from stablemd.potentials.adapters.mace_contraction import FoldedContraction
from stablemd.potentials.adapters.mace_modules import faster_modules
from stablemd.potentials.adapters.summed_convolution import SummedConvolution

FEATURES = "4x0e+4x1o+4x2e"
N_ELEMENTS = 5


@pytest.fixture(autouse=True)
def in_float64() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(3)
    yield
    torch.set_default_dtype(before)


def irreps(text: str) -> Any:
    with importing_mace():
        MACE.load("modules")
    return import_module("e3nn.o3").Irreps(text)


def contraction(outputs: str, correlation: int) -> Any:
    kind = import_module("mace.modules.symmetric_contraction").SymmetricContraction
    return kind(irreps(FEATURES), irreps(outputs), correlation, num_elements=N_ELEMENTS)


def atoms(n: int = 11) -> tuple[Tensor, Tensor]:
    """Features of atoms of three of the five elements, in no order."""
    kinds = torch.tensor([4, 0, 2])[torch.randint(0, 3, (n,))]
    elements = torch.nn.functional.one_hot(kinds, N_ELEMENTS).double()
    return torch.randn(n, 4, 9).requires_grad_(True), elements


def gradients(loss: Tensor, of: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, of, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("correlation", [1, 2, 3])
@pytest.mark.parametrize("outputs", ["4x0e", "4x0e+4x1o", "4x0e+4x1o+4x2e"])
def test_a_folded_contraction_is_the_package_own(outputs: str, correlation: int) -> None:
    """Values, gradients by features and parameters, and second derivatives."""
    own = contraction(outputs, correlation)
    x, elements = atoms()
    trained = [p for p in own.parameters() if p.requires_grad]
    expected, found = own(x, elements), FoldedContraction(own)(x, elements)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    pulls = torch.randn(expected.shape)
    slopes = []
    for value in (expected, found):
        loss = (value * pulls).sum()
        (force,) = torch.autograd.grad(loss, x, create_graph=True)
        slopes.append([force, *gradients(force.square().sum(), trained)])
    assert float(slopes[0][1].abs().max()) > 1e-6, "the parameters play no part"
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)


def test_a_higher_correlation_is_left_to_the_package() -> None:
    assert FoldedContraction.can_be_folded(contraction("4x0e", 3))
    assert not FoldedContraction.can_be_folded(contraction("4x0e", 4))


def product(nodes: str) -> Any:
    harmonics = irreps("1x0e+1x1o+1x2e+1x3o")
    rules = import_module("mace.modules.irreps_tools").tp_out_irreps_with_instructions
    middle, paths = rules(irreps(nodes), harmonics, irreps("4x0e+4x1o+4x2e+4x3o"))
    return import_module("e3nn.o3").TensorProduct(
        irreps(nodes),
        harmonics,
        middle,
        instructions=paths,
        shared_weights=False,
        internal_weights=False,
    )


@pytest.mark.parametrize("nodes", ["4x0e", "4x0e+4x1o", FEATURES])
def test_a_summed_convolution_is_the_package_own(nodes: str) -> None:
    """Values, gradients and second derivatives of messages, summed over edges in any order."""
    own = product(nodes)
    assert SummedConvolution.can_be_summed(own)
    inputs = [
        torch.randn(7, own.irreps_in1.dim).requires_grad_(True),
        torch.randn(40, own.irreps_in2.dim).requires_grad_(True),
        torch.randn(40, own.weight_numel).requires_grad_(True),
    ]
    sent, received = index = torch.randint(0, 6, (2, 40))  # the last atom is alone
    x, y, weights = inputs
    expected = torch.zeros(7, own.irreps_out.dim).index_add(
        0, received, own(x.index_select(0, sent), y, weights)
    )
    found = SummedConvolution(own)(x, y, weights, index)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    pulls = torch.randn(expected.shape)
    slopes = []
    for value in (expected, found):
        loss = (value * pulls).sum() + value.square().sum()
        first = torch.autograd.grad(loss, inputs, create_graph=True)
        slopes.append([*first, *gradients(first[1].square().sum(), inputs)])
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)


def test_another_kind_of_product_is_left_to_the_package() -> None:
    o3 = import_module("e3nn.o3") if irreps("1x0e") else None
    assert o3 is not None
    full = o3.FullyConnectedTensorProduct(irreps("4x0e"), irreps("1x0e"), irreps("4x0e"))
    assert not SummedConvolution.can_be_summed(full)


def test_a_model_is_as_before_afterwards(mace_module_with: Any) -> None:
    """Also after an error, so that it is always the package's own model that is saved."""
    model = mace_module_with(3)
    names = [name for name, _ in model.named_modules()]
    kinds = [type(m) for m in model.modules()]
    with pytest.raises(ZeroDivisionError), faster_modules(model):
        inside = {type(m) for m in model.modules()}
        assert {FoldedContraction, SummedConvolution} <= inside
        raise ZeroDivisionError
    assert [name for name, _ in model.named_modules()] == names
    assert [type(m) for m in model.modules()] == kinds
    assert not any(hasattr(block, "conv_fusion") for block in model.interactions)
