"""Checkpoints return every bit that was saved, and never run code."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stablemd.errors import CheckpointError
from stablemd.training.checkpoint import load_checkpoint, save_checkpoint

KIND = "training run"


def test_plain_values_and_tensors_return_bit_for_bit(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    payload = {
        "weights": OrderedDict(w=torch.randn(3, 4, generator=generator)),
        "stream": generator.get_state(),
        "alive": torch.tensor([True, False]),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0], dtype=torch.float64),
        "history": [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": float("inf")}],
        "betas": (0.9, 0.999),
        "phase": "learning",
        "best": None,
        7: True,
    }
    path = save_checkpoint(tmp_path / "sub" / "last.pt", payload, kind=KIND)
    loaded = load_checkpoint(path, kind=KIND)
    assert loaded.keys() == payload.keys()
    for name in ("stream", "alive", "odd"):
        saved = payload[name]
        assert isinstance(saved, torch.Tensor)
        assert loaded[name].dtype == saved.dtype
        assert loaded[name].numpy().tobytes() == saved.numpy().tobytes()
    assert torch.equal(loaded["weights"]["w"], payload["weights"]["w"])  # type: ignore[index]
    for name in ("history", "betas", "phase", "best", 7):
        assert loaded[name] == payload[name] and type(loaded[name]) is type(payload[name])


def test_resumed_optimizer_takes_the_same_steps(tmp_path: Path) -> None:
    def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        x = torch.linspace(-1, 1, 8)[:, None]
        for _ in range(steps):
            optimizer.zero_grad()
            (model(x) - x.sin()).square().mean().backward()
            optimizer.step()

    def fresh() -> tuple[nn.Module, torch.optim.Adam]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        return model, torch.optim.Adam(model.parameters(), lr=1e-2)

    straight, optimizer = fresh()
    train(straight, optimizer, 6)

    first, optimizer = fresh()
    train(first, optimizer, 3)
    state = {"model": first.state_dict(), "optimizer": optimizer.state_dict()}
    path = save_checkpoint(tmp_path / "last.pt", state, kind=KIND)
    loaded = load_checkpoint(path, kind=KIND)
    second, optimizer = fresh()
    second.load_state_dict(loaded["model"])
    optimizer.load_state_dict(loaded["optimizer"])
    train(second, optimizer, 3)

    for a, b in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_view_is_stored_without_the_tensor_behind_it(tmp_path: Path) -> None:
    big = torch.arange(1_000_000.0)
    path = save_checkpoint(
        tmp_path / "view.pt", {"part": big[10:13], "row": big[::400_000]}, kind=KIND
    )
    assert path.stat().st_size < 10_000
    loaded = load_checkpoint(path, kind=KIND)
    assert loaded["part"].tolist() == [10, 11, 12]
    assert loaded["row"].tolist() == [0, 400_000, 800_000]


def test_parameters_become_plain_tensors(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(2))
    path = save_checkpoint(tmp_path / "p.pt", {"p": parameter}, kind=KIND)
    loaded = load_checkpoint(path, kind=KIND)["p"]
    assert type(loaded) is torch.Tensor and not loaded.requires_grad
    assert parameter.requires_grad


class _RunsCode:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trace, path = tmp_path / "was_run", tmp_path / "evil.pt"
    torch.save({"format": "stablemd-checkpoint", "payload": _RunsCode(trace)}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        load_checkpoint(path, kind=KIND)
    assert not trace.exists()
    # The file does carry code: the unrestricted loader runs it.
    torch.load(path, weights_only=False)
    assert trace.exists()


def test_saving_what_could_not_be_loaded_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"payload\['a'\]\[1\] is a ndarray"):
        save_checkpoint(tmp_path / "x.pt", {"a": [1, np.zeros(2)]}, kind=KIND)
    with pytest.raises(CheckpointError, match="key of type tuple"):
        save_checkpoint(tmp_path / "x.pt", {"a": {(1, 2): 3}}, kind=KIND)
    assert list(tmp_path.iterdir()) == []


def test_missing_file_says_where_to_look(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "absent.pt", kind=KIND)


def test_every_flipped_byte_in_the_numbers_and_every_cut_is_noticed(tmp_path: Path) -> None:
    numbers = torch.full((64,), 1.2345678, dtype=torch.float64)
    path = save_checkpoint(tmp_path / "whole.pt", {"numbers": numbers}, kind=KIND)
    whole = path.read_bytes()
    start = whole.index(numbers.numpy().tobytes())
    for offset in range(start, start + 512, 37):
        flipped = bytearray(whole)
        flipped[offset] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(path, kind=KIND)
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(path, kind=KIND)
    path.write_bytes(whole)
    assert torch.equal(load_checkpoint(path, kind=KIND)["numbers"], numbers)


def test_other_kind_other_program_and_newer_format_are_told_apart(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "model.pt", {}, kind="model")
    with pytest.raises(CheckpointError, match="kind 'model', and 'training run' was expected"):
        load_checkpoint(path, kind=KIND)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of stablemd"):
        load_checkpoint(path, kind=KIND)
    torch.save({"format": "stablemd-checkpoint", "version": 99, "kind": KIND, "payload": {}}, path)
    with pytest.raises(CheckpointError, match="update stablemd"):
        load_checkpoint(path, kind=KIND)


def test_an_interrupted_save_keeps_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_checkpoint(tmp_path / "last.pt", {"epoch": 1}, kind=KIND)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(path, {"epoch": 2}, kind=KIND)
    assert load_checkpoint(path, kind=KIND) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]
