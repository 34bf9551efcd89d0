"""Random numbers that belong to (seed, replica, step, element), not to a generator's state.

Philox4x32-10 turns a 128-bit counter and a 64-bit key into 128 random bits
(Salmon, Moraes, Dror & Shaw, *Parallel random numbers: as easy as 1, 2, 3*,
SC'11).  The key is the seed; the counter holds element group, replica, step
and stream.  Any number can therefore be drawn again alone, and no draw depends
on how replicas are grouped into batches or processes.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

from stablemd.errors import SimulationError
from stablemd.md.philox_kernel import fill_philox_words

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_WORDS = 4
_STEP_BITS = 48
_STREAM_SHIFT = _STEP_BITS - 32
_CHUNK_COUNTERS = 16384
"""Counters in one pass: the temporaries (128 KiB each) stay in cache."""


class Stream(IntEnum):
    """What a draw is for; draws of different streams never share a counter."""

    NOISE = 0
    VELOCITIES = 1
    THERMOSTAT = 2
    BAROSTAT = 3


Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Ten rounds of Philox4x32, elementwise over tensors that broadcast.

    Args:
        counter: four int64 tensors with values in 0..2**32 - 1.
        key: two integers in 0..2**32 - 1.

    Returns:
        Four int64 tensors of the broadcast shape, values in 0..2**32 - 1.

    Source: Salmon et al. 2011, section 4.3.  64-bit products wrap, which keeps
    every bit that the 32-bit words need; low words are only ever combined by
    exclusive or before they are masked, so they carry their high bits along.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0 = c0 * _MULTIPLIERS[0]
        product1 = c2 * _MULTIPLIERS[1]
        c0 = ((product1 >> 32) ^ (c1 ^ k0)) & _MASK
        c2 = ((product0 >> 32) ^ (c3 ^ k1)) & _MASK
        c1, c3 = product1, product0
        k0 = (k0 + _WEYL[0]) & _MASK
        k1 = (k1 + _WEYL[1]) & _MASK
    return c0, c1 & _MASK, c2, c3 & _MASK


def normals(
    seed: int,
    replica_ids: Tensor,
    first_step: int,
    n_steps: int,
    n_elements: int,
    stream: Stream = Stream.NOISE,
) -> Tensor:
    """Standard normal numbers of a range of steps.

    Args:
        seed: 0..2**64 - 1.
        replica_ids: identities of the replicas, (R,) int64 in 0..2**32 - 1.
        first_step: first step of the block, from 0 to 2**48 - 1.
        n_steps: number of steps K.
        n_elements: numbers per replica and step.
        stream: what the numbers are for.

    Returns:
        (K, R, n_elements) float64 on the device of ``replica_ids``.  The value
        at (k, r, e) depends on seed, stream, ``first_step + k``,
        ``replica_ids[r]`` and e only.

    Raises:
        SimulationError: seed or step is outside its range.

    Source: Box & Muller 1958, in float64 on 32-bit uniforms, whose largest
    normal is 6.8 standard deviations.
    """
    key = _key(seed)
    if first_step < 0 or first_step + n_steps > 1 << _STEP_BITS:
        raise SimulationError(
            f"random streams are defined for steps 0 to 2**{_STEP_BITS}, got steps "
            f"{first_step} to {first_step + n_steps}; start the step count at 0"
        )
    n_groups = -(-n_elements // _WORDS)
    ids = replica_ids.to(torch.int64)
    out = torch.empty(n_steps, len(ids), n_elements, dtype=torch.float64, device=ids.device)
    on_cpu = ids.device.type == "cpu"
    draw = _uniform_words_compiled if on_cpu else uniform_words
    chunk = max(1, _CHUNK_COUNTERS // max(1, len(ids) * n_groups)) if on_cpu else max(1, n_steps)
    for start in range(0, n_steps, chunk):
        stop = min(start + chunk, n_steps)
        words = draw(key, ids, first_step + start, stop - start, n_groups, stream)
        out[start:stop] = _box_muller(words)[..., :n_elements]
    return out


def uniform_words(
    key: tuple[int, int],
    replica_ids: Tensor,
    first_step: int,
    n_steps: int,
    n_groups: int,
    stream: Stream,
) -> Tensor:
    """The random words of a block as float64 (4, n_steps, R, n_groups), for any device."""
    device = replica_ids.device
    step = torch.arange(first_step, first_step + n_steps, device=device)[:, None, None]
    counter = (
        torch.arange(n_groups, device=device)[None, None, :],
        replica_ids[None, :, None],
        step & _MASK,
        (step >> 32) | (int(stream) << _STREAM_SHIFT),
    )
    return torch.stack(philox4x32(counter, key)).to(torch.float64)


def _uniform_words_compiled(
    key: tuple[int, int],
    replica_ids: Tensor,
    first_step: int,
    n_steps: int,
    n_groups: int,
    stream: Stream,
) -> Tensor:
    """:func:`uniform_words` on the CPU, in one pass."""
    words = torch.empty(_WORDS, n_steps, len(replica_ids), n_groups, dtype=torch.float64)
    fill_philox_words(
        words.numpy(), replica_ids.numpy(), first_step, int(stream) << _STREAM_SHIFT, *key
    )
    return words


def _key(seed: int) -> tuple[int, int]:
    if not 0 <= seed < 1 << 64:
        raise SimulationError(f"a seed must be an integer from 0 to 2**64 - 1, got {seed}")
    return seed & _MASK, seed >> 32


def _box_muller(words: Tensor) -> Tensor:
    """Four normals (..., 4 * groups) from the four words (4, ..., groups) of each counter."""
    parts = []
    for first, second in ((words[0], words[1]), (words[2], words[3])):
        radius = first.add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
        angle = second.mul_(2.0 * torch.pi * 2.0**-32)
        parts.append(torch.cos(angle).mul_(radius))
        parts.append(angle.sin_().mul_(radius))
    return torch.stack(parts, dim=-1).flatten(-2)


class NormalBlocks:
    """Standard normals step by step, drawn many steps at once.

    Args:
        seed: 0..2**64 - 1.
        replica_ids: (R,) int64.
        shape: shape of the numbers of one replica and step, e.g. (N, 3).
        first_step: first step that will be asked for.
        end_step: one past the last step that will be asked for.
        stream: what the numbers are for.
        block_numbers: upper bound of the numbers held at once (at least one
            step is held); by default 2 MiB on a CPU and 32 MiB elsewhere, where
            starting the operations of a draw costs more than the numbers.  It has
            no influence on the numbers.
    """

    def __init__(
        self,
        seed: int,
        replica_ids: Tensor,
        shape: tuple[int, ...],
        first_step: int,
        end_step: int,
        stream: Stream = Stream.NOISE,
        block_numbers: int | None = None,
    ) -> None:
        self._seed = seed
        self._replica_ids = replica_ids
        self._shape = shape
        self._n_elements = int(torch.Size(shape).numel())
        self._stream = stream
        on_cpu = replica_ids.device.type == "cpu"
        self._block_numbers = block_numbers or (1 << 18 if on_cpu else 1 << 22)
        self._first = first_step
        self._end = end_step
        self._block: Tensor | None = None
        self._rows: tuple[Tensor, ...] = ()

    def at(self, step: int) -> Tensor:
        """The numbers (R, *shape) of one step."""
        k = step - self._first
        if not 0 <= k < len(self._rows):
            self._draw(step)
            k = 0
        return self._rows[k]

    def upcoming(self, step: int, n_steps: int) -> Tensor:
        """The numbers (K, R, *shape) of ``step`` and following steps, K from 1 to ``n_steps``."""
        self.at(step)
        assert self._block is not None
        first = step - self._first
        return self._block[first : first + n_steps]

    def select(self, index: Tensor) -> None:
        """Keep only the replicas at ``index`` (an integer or boolean index tensor)."""
        self._replica_ids = self._replica_ids[index]
        if self._block is not None:
            self._hold(self._block[:, index])

    def _draw(self, step: int) -> None:
        per_step = max(1, self._n_elements * self._replica_ids.shape[0])
        n_steps = max(1, min(self._block_numbers // per_step, self._end - step))
        self._first = step
        self._hold(
            normals(
                self._seed, self._replica_ids, step, n_steps, self._n_elements, self._stream
            ).unflatten(-1, self._shape)
        )

    def _hold(self, block: Tensor) -> None:
        self._block = block
        self._rows = block.unbind(0)
