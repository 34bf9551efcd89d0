"""Frames refuse what does not fit together, and say where."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stablemd.data import Frames
from stablemd.errors import DataError


@pytest.mark.parametrize("label", ["energies", "forces"])
def test_labels_that_are_not_finite_are_refused_with_their_frame(
    labelled: Frames, label: str
) -> None:
    values = getattr(labelled, label).clone()
    values[7] = float("nan")
    with pytest.raises(DataError, match=rf"{label} of 1 of 12 frames.*\[7\]"):
        replace(labelled, **{label: values})


def test_missing_forces_are_named(labelled: Frames) -> None:
    with pytest.raises(DataError, match="made up: forces missing"):
        replace(labelled, forces=None).require_labels()


def test_select_keeps_labels_with_their_structures(labelled_periodic: Frames) -> None:
    order = torch.tensor([5, 0, 11])
    chosen = labelled_periodic.select(order)
    for name in ("positions", "energies", "forces", "cell"):
        assert torch.equal(getattr(chosen, name), getattr(labelled_periodic, name)[order])
    assert len(chosen) == 3


def test_wrong_shapes_are_refused(labelled: Frames) -> None:
    with pytest.raises(DataError, match=r"forces must have shape \(12, 9, 3\)"):
        replace(labelled, forces=torch.zeros(12, 8, 3))
    with pytest.raises(DataError, match="no frames"):
        labelled.select([])
