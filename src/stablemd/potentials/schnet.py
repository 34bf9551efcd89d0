"""SchNet: continuous-filter convolutions on atoms.

Schütt et al., "SchNet: a continuous-filter convolutional neural network for
modeling quantum interactions", NeurIPS 2017.  The defaults are those of the
aspirin model of Raja et al. (TMLR 2025), 117,953 parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from stablemd.errors import PotentialError
from stablemd.potentials.base import Potential, SamplingForm
from stablemd.potentials.batch import Batch
from stablemd.potentials.filter_lookup import lookup
from stablemd.potentials.gaussian import gaussian
from stablemd.potentials.pair_convolution import convolve
from stablemd.system import System

N_ELEMENTS = 100
LOG2 = math.log(2.0)

KNOTS_PER_GAUSSIAN = 24
"""Knots of the filter tables per Gaussian of the distance expansion, i.e. per its width."""

MIN_PAIRS_PER_KNOT = 4
"""With fewer pairs the filter network takes no longer for all of them than the tables."""


def shifted_softplus(x: Tensor) -> Tensor:
    """``ln(1 + exp(x)) - ln 2``, SchNet's activation."""
    return softplus(x) - LOG2


class FilterNetwork(nn.Module):
    """The filter of one interaction as a function of the distance: two dense layers."""

    def __init__(self, n_gaussians: int, n_filters: int) -> None:
        super().__init__()
        self.first = nn.Linear(n_gaussians, n_filters)
        self.second = nn.Linear(n_filters, n_filters)
        for layer in (self.first, self.second):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, gaussians: Tensor, envelope: Tensor) -> Tensor:
        """Filters (P, n_filters) of distances expanded as (P, n_gaussians)."""
        # softplus - ln 2 followed by a linear layer: the constant moves into the bias.
        bias = self.second.bias - LOG2 * self.second.weight.sum(dim=1)
        return linear(softplus(self.first(gaussians)), self.second.weight, bias) * envelope

    def with_slope(
        self, gaussians: Tensor, envelope: Tensor, gaussian_slopes: Tensor, envelope_slope: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Filters and their derivatives with respect to the distance, (P, n_filters) each."""
        hidden = self.first(gaussians)
        hidden_slope = linear(gaussian_slopes, self.first.weight)
        raw = self.second(shifted_softplus(hidden))
        raw_slope = linear(torch.sigmoid(hidden) * hidden_slope, self.second.weight)
        return raw * envelope, raw_slope * envelope + raw * envelope_slope


class Interaction(nn.Module):
    """One interaction block: in-projection, continuous-filter convolution, update."""

    def __init__(self, n_features: int, n_filters: int, n_gaussians: int) -> None:
        super().__init__()
        self.filter = FilterNetwork(n_gaussians, n_filters)
        self.project_in = nn.Linear(n_features, n_filters, bias=False)
        self.project_out = nn.Linear(n_filters, n_features)
        self.update = nn.Linear(n_features, n_features)
        for layer in (self.project_in, self.project_out, self.update):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, filters: Tensor, pairs: Tensor) -> Tensor:
        messages = self.convolved(self.project_in(features), filters, pairs)
        update: Tensor = self.update(shifted_softplus(self.project_out(messages)))
        return update

    def convolved(self, features: Tensor, filters: Tensor, pairs: Tensor) -> Tensor:
        """Sums over the neighbours of what they send, (n, n_filters)."""
        return convolve(features, filters, pairs)


class SchNet(Potential):
    """SchNet with atomic energies and the energy scale inside the model.

    ``E = sum_a (energy_scale * network_a + atomic_shift[Z_a])``; both constants
    are buffers in float64, so that a large total energy does not cost precision.

    Args:
        n_features: width of the atomic features.
        n_filters: width of the convolution filters.
        n_interactions: number of interaction blocks.
        n_gaussians: number of Gaussians on [0, cutoff] that expand a distance.
        cutoff: range of an interaction in Å; a cosine envelope takes filters
            and their slope to zero there.

    Attributes:
        tabulate_filters: read the filters of a large batch from tables that are
            computed anew, with graph, in every call (on a CPU, in single
            precision, where it is cheaper; the difference is of the size of
            rounding errors).  False: always by the filter networks.
    """

    tabulate_filters: bool = True

    def __init__(
        self,
        n_features: int = 64,
        n_filters: int = 64,
        n_interactions: int = 6,
        n_gaussians: int = 25,
        cutoff: float = 5.0,
    ) -> None:
        super().__init__()
        given = {
            "n_features": n_features,
            "n_filters": n_filters,
            "n_interactions": n_interactions,
            "n_gaussians": n_gaussians,
        }
        for name, value in given.items():
            if value < (2 if name in ("n_features", "n_gaussians") else 1):
                raise PotentialError(f"SchNet: {name} = {value} is too small; give at least 2")
        if not cutoff > 0:
            raise PotentialError(f"SchNet: cutoff = {cutoff} Å must be positive")
        self.hyperparameters = {**given, "cutoff": float(cutoff)}
        self.cutoff = float(cutoff)
        self.embedding = nn.Embedding(N_ELEMENTS, n_features, padding_idx=0)
        self.interactions = nn.ModuleList(
            Interaction(n_features, n_filters, n_gaussians) for _ in range(n_interactions)
        )
        self.readout_hidden = nn.Linear(n_features, n_features // 2)
        self.readout_energy = nn.Linear(n_features // 2, 1)
        for layer in (self.readout_hidden, self.readout_energy):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        centres = torch.linspace(0.0, cutoff, n_gaussians)
        self._gaussian_width = float(centres[1] - centres[0])
        self.register_buffer("gaussian_centres", centres)
        self.register_buffer("energy_scale", torch.ones((), dtype=torch.float64))
        self.register_buffer("atomic_shift", torch.zeros(N_ELEMENTS, dtype=torch.float64))

    gaussian_centres: Tensor
    energy_scale: Tensor
    atomic_shift: Tensor

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        """Move as asked, but keep the energy constants in float64."""
        scale, shift = self.energy_scale, self.atomic_shift
        super()._apply(fn, recurse)
        self.energy_scale = scale.to(self.energy_scale.device)
        self.atomic_shift = shift.to(self.atomic_shift.device)
        return self

    @property
    def blocks(self) -> list[Interaction]:
        """The interaction blocks in order."""
        return [cast(Interaction, block) for block in self.interactions]

    def expand_distances(self, distances: Tensor) -> tuple[Tensor, Tensor]:
        """Gaussians (P, n_gaussians) and cutoff envelope (P, 1) of distances (P,) in Å."""
        gaussians = gaussian(distances[:, None] - self.gaussian_centres, self._gaussian_width)
        envelope = 0.5 * (torch.cos((math.pi / self.cutoff) * distances) + 1.0)
        envelope = torch.where(distances < self.cutoff, envelope, torch.zeros_like(envelope))
        return gaussians, envelope[:, None]

    def local_energies(self, batch: Batch) -> Tensor:
        """Atomic energies in eV, (n_atoms_total,) float64, with graph."""
        pairs = batch.pairs
        distances = torch.linalg.vector_norm(batch.pair_vectors(), dim=1)
        if distances.device.type == "cpu":  # elsewhere counting them would stall the device
            beyond = distances.detach() >= self.cutoff  # false for NaN, which must stay
            near = torch.nonzero(~beyond).squeeze(1)
            if len(near) < len(distances):
                distances, pairs = distances.index_select(0, near), pairs.index_select(1, near)
        features = self.embedding(batch.numbers)
        for interaction, filters in zip(self.blocks, self._filters(distances), strict=True):
            features = features + interaction(features, filters, pairs)
        hidden = shifted_softplus(self.readout_hidden(features))
        network = self.readout_energy(hidden).squeeze(1).double()
        return network * self.energy_scale + self.atomic_shift[batch.numbers]

    def _filters(self, distances: Tensor) -> Iterator[Tensor]:
        """The filters (P, n_filters) of each interaction at distances (P,) in Å."""
        n_knots = KNOTS_PER_GAUSSIAN * len(self.gaussian_centres)
        if (
            self.tabulate_filters
            and len(distances) > MIN_PAIRS_PER_KNOT * n_knots
            and distances.device.type == "cpu"
            and distances.dtype == torch.float32
        ):
            spacing = self.cutoff / (n_knots - 1)
            knots = spacing * torch.arange(n_knots, dtype=distances.dtype)
            gaussians, envelope = self.expand_distances(knots)
            if distances.requires_grad:
                slopes = self._expansion_slopes(knots, gaussians)
                for block in self.blocks:
                    table = block.filter.with_slope(gaussians, envelope, *slopes)
                    yield lookup(*table, distances, spacing)
            else:
                for block in self.blocks:
                    yield lookup(block.filter(gaussians, envelope), None, distances, spacing)
        else:
            gaussians, envelope = self.expand_distances(distances)
            for block in self.blocks:
                yield block.filter(gaussians, envelope)

    def _expansion_slopes(self, distances: Tensor, gaussians: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of what ``expand_distances`` gives with respect to the distance."""
        offsets = distances[:, None] - self.gaussian_centres
        slopes = offsets * gaussians * (-1.0 / self._gaussian_width**2)
        wave = math.pi / self.cutoff
        envelope = -0.5 * wave * torch.sin(wave * distances)
        envelope = torch.where(distances < self.cutoff, envelope, torch.zeros_like(envelope))
        return slopes, envelope[:, None]

    def set_energy_scale(self, scale: float, shifts: dict[int, float]) -> None:
        """Set the energy scale (eV) and the constant energy of each element (eV)."""
        self.energy_scale.fill_(scale)
        for number, shift in shifts.items():
            self.atomic_shift[number] = shift

    def shift_energies(self, shift: float) -> None:
        """Add a constant (eV) to the energy of every atom."""
        self.atomic_shift += shift

    def for_sampling(self, system: System, reference: Tensor | None = None) -> SamplingForm:
        """A compiled form with tabulated filters in float32 on cpu or cuda, else the eager one."""
        from stablemd.potentials.schnet_sampling import build_sampling_form

        form = build_sampling_form(self, system, reference)
        return super().for_sampling(system, reference) if form is None else form
