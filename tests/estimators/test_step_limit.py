"""A limited step keeps the frames useful, goes as far as it may, and costs energies only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stablemd.errors import ConfigError
from stablemd.estimators import Weighing, limit_step

BETA = 2.0


def setting(bend: float = 0.0) -> tuple[nn.Parameter, Weighing, list[int]]:
    """Energies θ s_i + bend θ² s_i² of 400 frames, sampled and present at θ = 0."""
    s = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    zero = torch.zeros(400, dtype=torch.float64)
    parameter = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))
    calls: list[int] = []

    def evaluate() -> list[Tensor]:
        calls.append(1)
        theta = parameter.detach()
        return [theta * s + bend * theta**2 * s**2]

    setting.evaluate = evaluate  # type: ignore[attr-defined]
    return parameter, Weighing(zero, zero, BETA), calls


@pytest.mark.parametrize("bend", [0.0, 0.5])
@pytest.mark.parametrize("size", [0.01, 0.3, 3.0, 300.0])
def test_goes_as_far_as_the_limit_allows(size: float, bend: float) -> None:
    parameter, point, calls = setting(bend)
    evaluate = setting.evaluate  # type: ignore[attr-defined]
    step = [torch.tensor(size, dtype=torch.float64)]
    taken = limit_step([parameter], step, [point], evaluate, max_n_eff_loss=0.2)
    assert taken.share > 0.0 and taken.n_passes == len(calls) <= 4
    assert float(parameter.detach()) == pytest.approx(taken.share * size)
    assert taken.n_eff_share >= 0.8
    assert point.n_eff_share(evaluate()[0]) == pytest.approx(taken.n_eff_share)
    torch.testing.assert_close(taken.energies[0], evaluate()[0])
    if bend == 0.0 and size >= 0.3:  # linear energies: one correction, and close to the limit
        assert taken.n_passes <= 2 and taken.n_eff_share < 0.85
    if size == 0.01:
        assert taken.share == 1.0 and taken.n_passes == 1


def test_a_step_into_infinite_energies_is_shortened_or_undone() -> None:
    parameter, point, _ = setting()

    def broken() -> list[Tensor]:
        theta = parameter.detach()
        value = float("nan") if abs(float(theta)) > 1e-3 else 0.0
        return [torch.full((400,), value, dtype=torch.float64)]

    step = [torch.tensor(0.01, dtype=torch.float64)]
    taken = limit_step([parameter], step, [point], broken)
    assert taken.share == pytest.approx(1 / 16) and taken.n_passes == 3
    parameter, point, _ = setting()
    step = [torch.tensor(10.0, dtype=torch.float64)]
    refused = limit_step([parameter], step, [point], broken)
    assert refused.share == 0.0 and float(parameter.detach()) == 0.0
    assert refused.n_eff_share == pytest.approx(1.0)


def test_the_strictest_state_point_decides() -> None:
    parameter, point, _ = setting()
    evaluate = setting.evaluate  # type: ignore[attr-defined]
    cold = Weighing(point.reference_energies, point.energies, 5.0 * BETA)
    step = [torch.tensor(3.0, dtype=torch.float64)]
    both = limit_step([parameter], step, [point, cold], lambda: evaluate() * 2)
    assert cold.n_eff_share(both.energies[1]) == pytest.approx(both.n_eff_share)
    assert point.n_eff_share(both.energies[0]) > both.n_eff_share


def test_refuses_a_limit_out_of_range() -> None:
    parameter, point, _ = setting()
    with pytest.raises(ConfigError, match="0 < max_n_eff_loss <= 1"):
        limit_step([parameter], [torch.zeros(())], [point], lambda: [], max_n_eff_loss=0.0)
