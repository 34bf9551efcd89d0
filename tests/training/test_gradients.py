from __future__ import annotations

import pytest
import torch
from torch import nn

from stablemd.training.gradients import cosine, dot, norm, take_gradient, without_conflict


def test_a_list_of_tensors_behaves_as_one_vector() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = ([torch.randn(s, generator=generator) for s in ((2, 3), (4,), ())] for _ in range(2))
    flat_a, flat_b = (torch.cat([t.flatten() for t in x]).double() for x in (a, b))
    assert dot(a, b) == pytest.approx(float(flat_a @ flat_b), rel=1e-12)
    assert norm(a) == pytest.approx(float(flat_a.norm()), rel=1e-12)
    assert cosine(a, b) == pytest.approx(float(flat_a @ flat_b / flat_a.norm() / flat_b.norm()))
    assert cosine(a, [-3.0 * t for t in a]) == pytest.approx(-1.0)
    assert cosine(a, [torch.zeros_like(t) for t in a]) == 0.0


def test_a_taken_gradient_is_a_copy_and_zero_where_there_is_none() -> None:
    used, unused = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))
    (2.0 * used).sum().backward()
    taken = take_gradient([used, unused])
    used.grad.zero_()
    assert [t.tolist() for t in taken] == [[2.0, 2.0, 2.0], [0.0, 0.0]]


def test_projection_removes_exactly_the_conflict() -> None:
    generator = torch.Generator().manual_seed(8)
    b = [torch.randn(4, 3, generator=generator), torch.randn(5, generator=generator)]
    a = [torch.randn(4, 3, generator=generator), torch.randn(5, generator=generator)]
    if dot(a, b) > 0.0:
        a = [-x for x in a]
    free = without_conflict(a, b)
    assert abs(dot(free, b)) < 1e-5 * norm(a) * norm(b)
    assert dot(free, a) > 0.0
    along = [-x for x in a]
    assert without_conflict(along, b) is along
