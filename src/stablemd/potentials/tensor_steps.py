"""Time steps of many replicas on fixed tensors, for forms that make steps on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stablemd.potentials.device_graph import record
from stablemd.potentials.split_step import SplitStep

Evaluate = Callable[[Tensor, Tensor, Tensor], None]
"""Of positions (R, N, 3), energies (R,) and forces (R, N, 3): fills the last two."""


class TensorSteps:
    """One time step on buffers of its own, as work that can be recorded and replayed.

    The arithmetic is that of the integrators' ``step``, operation by operation.

    Args:
        evaluate: the forces; works on buffers that stay where they are, without
            asking the device for a number.
        shape: (R, N, 3).
        device: of the buffers.
        step: its ``half_kick`` and ``decay`` become part of the work; what
            belongs to atoms is a buffer and may be another one in each call.
    """

    def __init__(
        self, evaluate: Evaluate, shape: torch.Size, device: torch.device, step: SplitStep
    ) -> None:
        def zeros(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.float64, device=device)

        self._evaluate = evaluate
        self._half_kick, self._decay = step.half_kick, step.decay
        self._energies = zeros(shape[0])
        self._positions, self._momenta, self._forces = (zeros(*shape) for _ in range(3))
        self._drift, self._noise_scale, self._noise = (zeros(*shape) for _ in range(3))
        self._loaded: SplitStep | None = None
        self._recorded = record(self._step, device)

    def fits(self, shape: torch.Size, step: SplitStep) -> bool:
        """Whether steps of these replicas are the recorded work."""
        mine = (self._positions.shape, self._half_kick, self._decay)
        return mine == (shape, step.half_kick, step.decay)

    def advance(
        self,
        positions: Tensor,
        momenta: Tensor,
        forces: Tensor,
        step: SplitStep,
        n_steps: int,
        noise: Tensor | None,
    ) -> Tensor:
        """``SamplingForm.advance`` for tensors of the shape and a step that fits."""
        mine = (self._positions, self._momenta, self._forces)
        theirs = (positions, momenta, forces)
        for buffer, given in zip(mine, theirs, strict=True):
            buffer.copy_(given)
        if step is not self._loaded:  # a run makes all its steps with one object
            self._load(step)
        make_step = self._recorded or self._step
        for k in range(n_steps):
            if noise is not None:
                self._noise.copy_(noise[k])
            make_step()
        for buffer, given in zip(mine, theirs, strict=True):
            given.copy_(buffer)
        return self._energies.clone()

    def _load(self, step: SplitStep) -> None:
        self._drift.copy_(torch.from_numpy(step.drift)[:, None])
        if step.noise_scale is not None:
            self._noise_scale.copy_(torch.from_numpy(step.noise_scale)[:, None])
        self._loaded = step

    def _step(self) -> None:
        x, p, f = self._positions, self._momenta, self._forces
        p.add_(f, alpha=self._half_kick)
        x.addcmul_(p, self._drift)
        if self._decay is not None:
            p.mul_(self._decay).addcmul_(self._noise, self._noise_scale)
            x.addcmul_(p, self._drift)
        self._evaluate(x, self._energies, f)
        p.add_(f, alpha=self._half_kick)
