"""Averages, variances and free energies of one state point, differentiable in its energies."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd import units
from stablemd.errors import DataError
from stablemd.estimators.frames import SampledFrames
from stablemd.estimators.weights import n_eff_entropy, n_eff_kish


class Ensemble:
    """The Boltzmann ensemble at θ, carried by frames that were sampled at θ0.

    Everything that an ensemble says about θ it says through the energies
    ``U_θ(x_i)`` of its frames.  These are a leaf of the graph here, so that any
    loss on any number of averages has a gradient ``∂L/∂U_i``: the weights of the
    surrogate whose backward pass gives ``∂L/∂θ``.  No trajectory is differentiated.

    Args:
        frames: finite ones, at least two.
        energies: U_θ of every frame in eV, (n,).
        beta: inverse temperature in 1/eV.
        reference_energies: U_θ of structures of the reference ensemble in eV,
            (m,), where the relative entropy is wanted.
        unbiased: let gradients that pass through the weights carry N/(N-1), so
            that covariances are unbiased at θ = θ0.
    """

    def __init__(
        self,
        frames: SampledFrames,
        energies: Tensor,
        beta: float,
        *,
        reference_energies: Tensor | None = None,
        unbiased: bool = True,
    ) -> None:
        self.frames = frames
        self.beta = beta
        self.energies = energies.detach().double().requires_grad_(True)
        self.reference_energies = (
            None
            if reference_energies is None
            else reference_energies.detach().double().requires_grad_(True)
        )
        self._unbiased = unbiased

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def weights(self) -> Tensor:
        """w_i ∝ exp(-β (U_θ - U_θ0)), (n,), summing to one, with graph."""
        difference = self.energies - self.frames.reference_energies.to(self.energies)
        weights = torch.softmax(-self.beta * difference, dim=0)
        if not self._unbiased:
            return weights
        factor = len(self) / (len(self) - 1)
        return weights.detach() + factor * (weights - weights.detach())

    @property
    def n_eff(self) -> float:
        """Kish's effective number of frames."""
        return n_eff_kish(self.weights.detach())

    @property
    def n_eff_entropy(self) -> float:
        """Effective number of frames from the entropy of the weights."""
        return n_eff_entropy(self.weights.detach())

    def mean(self, values: Tensor | None = None) -> Tensor:
        """<g>, (D,).

        Args:
            values: g of every frame, (n, D) or (n,); the frames' own by default.
        """
        g = self._values(values)
        return self.weights @ g

    def covariance(self, values: Tensor | None = None, other: Tensor | None = None) -> Tensor:
        """<g h> - <g><h>, (D, E), as the ensemble has it (weighted, not N-1).

        Args:
            values: g, (n, D); the frames' own by default.
            other: h, (n, E); g by default.
        """
        g = self._values(values)
        h = g if other is None else self._values(other)
        # Covariances are independent of an origin; small numbers keep their digits.
        g, h = g - g.detach().mean(dim=0), h - h.detach().mean(dim=0)
        product = (self.weights[:, None] * g).T @ h
        return product - torch.outer(self.weights @ g, self.weights @ h)

    def variance(self, values: Tensor | None = None) -> Tensor:
        """<g²> - <g>², (D,)."""
        g = self._values(values)
        g = g - g.detach().mean(dim=0)
        return self.weights @ g.square() - (self.weights @ g).square()

    def mean_energy(self) -> Tensor:
        """<U> in eV, a scalar; both the distribution and U depend on θ."""
        return self.weights @ self.energies

    def energy_variance(self) -> Tensor:
        """<U²> - <U>² in eV², a scalar."""
        u = self.energies - self.energies.detach().mean()
        return self.weights @ u.square() - (self.weights @ u).square()

    def heat_capacity(self) -> Tensor:
        """Configurational heat capacity ``k_B β² Var(U)`` in eV/K, a scalar.

        The momenta add k_B/2 for each of their degrees of freedom.
        """
        return units.KB * self.beta**2 * self.energy_variance()

    def log_partition_ratio(self) -> Tensor:
        """ln(Z_θ / Z_θ0) of the configurations, a scalar.

        Reference: Zwanzig, J. Chem. Phys. 22, 1420 (1954).
        """
        difference = self.energies - self.frames.reference_energies.to(self.energies)
        n = self.energies.new_tensor(float(len(self)))
        return torch.logsumexp(-self.beta * difference, dim=0) - n.log()

    def relative_entropy(self) -> Tensor:
        """Kullback–Leibler divergence of this ensemble from the reference one, up to a constant.

        ``S = β <U_θ>_ref + ln(Z_θ/Z_θ0)``: smallest where the distribution of
        the structures themselves is matched, not only chosen averages of it.
        Its gradient is ``β (<∂U/∂θ>_ref - <∂U/∂θ>_θ)``.

        Raises:
            DataError: the state point has no reference structures.

        Reference: Shell, J. Chem. Phys. 129, 144108 (2008), eqs. 3-7.
        """
        if self.reference_energies is None:
            raise DataError(
                "the relative entropy compares with a reference ensemble, and this state point "
                "has none; give StatePoint(reference_positions=...)"
            )
        return self.beta * self.reference_energies.mean() + self.log_partition_ratio()

    def without(self, leave_out: Tensor) -> Ensemble:
        """The ensemble of the other frames; ``leave_out`` is (n,) bool."""
        return Ensemble(
            self.frames.select(~leave_out),
            self.energies.detach()[~leave_out],
            self.beta,
            reference_energies=self.reference_energies,
            unbiased=self._unbiased,
        )

    def _values(self, values: Tensor | None) -> Tensor:
        g = self.frames.values if values is None else values
        if g.shape[0] != len(self):
            raise DataError(
                f"values must have one row for each of {len(self)} frames, got {tuple(g.shape)}; "
                "compute them from ensemble.frames, where frames that are not finite are left out"
            )
        return g.to(self.energies)
