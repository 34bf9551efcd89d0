"""Blocking: frames merged pair by pair until the blocks are independent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

MIN_BLOCKS = 16
"""Fewer blocks than this say too little about their variance to be chosen."""


@dataclass(frozen=True)
class Blocks:
    """Frames of replicas gathered in blocks of consecutive frames.

    Attributes:
        length: frames in a full block; the last block of a replica may be shorter.
        sums: sum of the values in each block, (M, D).
        counts: frames in each block, (M,) float64.
        replica: replica of each block, (M,) int64, sorted.
        place: index of the block in its replica, (M,) int64.
    """

    length: int
    sums: Tensor
    counts: Tensor
    replica: Tensor
    place: Tensor

    @classmethod
    def single_frames(cls, values: Tensor, replica_sizes: Tensor) -> Blocks:
        """Blocks of one frame; values (n, D) replica after replica, sizes (R,)."""
        n_replicas = len(replica_sizes)
        device = values.device
        replica = torch.arange(n_replicas, device=device).repeat_interleave(replica_sizes)
        start = replica_sizes.cumsum(0) - replica_sizes
        place = torch.arange(len(values), device=device) - start[replica]
        counts = torch.ones(len(values), dtype=torch.float64, device=device)
        return cls(1, values, counts, replica, place)

    @property
    def are_replicas(self) -> bool:
        """Whether every block is a whole replica."""
        return not bool(self.place.any())

    def merged(self) -> Blocks:
        """The blocks of twice the length."""
        first = self.place % 2 == 0
        block = first.cumsum(0) - 1
        n_blocks = int(first.sum())
        sums = self.sums.new_zeros(n_blocks, self.sums.shape[1]).index_add(0, block, self.sums)
        counts = self.counts.new_zeros(n_blocks).index_add(0, block, self.counts)
        return Blocks(2 * self.length, sums, counts, self.replica[first], self.place[first] // 2)

    def variance_of_mean(self) -> Tensor:
        """Variance of the mean over all frames if blocks are independent, (D,).

        The mean is a ratio of two sums over blocks, so that short blocks (the
        ends of failed replicas) count by their length.
        """
        m, n = len(self.counts), self.counts.sum()
        if m < 2:
            return torch.full_like(self.sums[0], float("nan"))
        mean = self.sums.sum(dim=0) / n
        residuals = self.sums - self.counts[:, None] * mean
        return residuals.square().sum(dim=0) * (m / (m - 1)) / n**2


def blocking_levels(values: Tensor, replica_sizes: Tensor) -> Iterator[Blocks]:
    """Blocks of 1, 2, 4, ... frames, up to whole replicas, with at least MIN_BLOCKS blocks.

    Blocks of one frame always come, however few they are.
    """
    blocks = Blocks.single_frames(values, replica_sizes)
    yield blocks
    while not blocks.are_replicas:
        blocks = blocks.merged()
        if len(blocks.counts) < MIN_BLOCKS:
            return
        yield blocks


def choose_level(levels: list[tuple[int, bool]], variances: Tensor, n: int) -> tuple[Tensor, bool]:
    """The shortest sufficient block length of each component.

    A block length B is enough when B³ > 2 n s², with s the statistical
    inefficiency seen at B (the ratio of its variance of the mean to that of
    single frames): statistical and systematic error of the variance are then
    balanced.  Whole replicas are independent and always enough.

    Args:
        levels: block length, and whether the blocks are replicas, per level.
        variances: variance of the mean at every level, (levels, D).
        n: number of frames.

    Returns:
        Level of every component (D,) int64, the longest where none is enough,
        and whether every component has found one.

    Reference: Wolff, Comput. Phys. Commun. 156, 143 (2004); Lee et al.,
    Phys. Rev. E 83, 066706 (2011), eq. 3 and the text after it.
    """
    inefficiency = variances / variances[0].clamp(min=torch.finfo(torch.float64).tiny)
    cubes = variances.new_tensor([float(length) ** 3 for length, _ in levels])
    enough = cubes[:, None] > 2.0 * n * inefficiency.square()
    enough |= torch.tensor([whole for _, whole in levels], device=variances.device)[:, None]
    enough |= variances[0] == 0.0
    last = torch.full_like(enough[0], len(levels) - 1, dtype=torch.int64)
    found = enough.any(dim=0)
    return torch.where(found, enough.to(torch.int64).argmax(dim=0), last), bool(found.all())
