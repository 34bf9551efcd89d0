"""A sample that is spread evenly over the deviation of an observable."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.estimators.thinning import thin_one_sign


def stratified_coefficients(
    coefficients: Tensor, n_max: int, *, n_strata: int = 10, seed: int = 0, importance: bool = True
) -> Tensor:
    """The same coefficients, all but ``n_max`` of them zero.

    The range of the coefficients (deviations of the observable along the loss'
    slope) is cut into strata of equal width, below and above zero, and every
    stratum gives about as many samples as any other: rare large deviations are
    represented as well as the many small ones.

    Args:
        coefficients: c, (M,).
        n_max: coefficients to keep at most, at least 2.
        n_strata: strata in all.
        seed: of the random choice.
        importance: give every sample the weight of those that it stands for, so
            that each c is right on average over seeds, and the sum over every
            stratum exactly.  Without it the samples count equally: the flattened
            distribution of the paper, whose gradient leans towards the large
            deviations and is no longer that of the loss.

    Returns:
        (M,), summing to the sum of ``coefficients`` with importance, else to zero.

    Raises:
        ConfigError: ``n_max`` or ``n_strata`` is less than 2.

    Reference: Raja et al., TMLR 2025, arXiv 2402.13984 (sampling over the
    deviation); Madow, Ann. Math. Stat. 20, 333 (1949) (within a stratum).
    """
    if n_max < 2 or n_strata < 2:
        raise ConfigError(
            f"stratified sampling needs n_max >= 2 and n_strata >= 2, got {n_max} and {n_strata}"
        )
    if len(coefficients) <= n_max:
        return coefficients
    generator = torch.Generator().manual_seed(seed)
    values = coefficients.detach().to("cpu", torch.float64)
    out = torch.zeros_like(values)
    strata = _strata(values, n_strata)
    left = n_max
    # Small strata first: what they do not use goes to the larger ones.
    for place, members in enumerate(sorted(strata, key=len)):
        share = max(1, left // (len(strata) - place))
        if left < 1:
            break
        if importance:
            chosen, magnitude = thin_one_sign(values[members].abs(), share, generator)
            out[members[chosen]] = magnitude * values[members[0]].sign()
        else:
            chosen = torch.randperm(len(members), generator=generator)[:share]
            out[members[chosen]] = values[members[chosen]]
        left -= len(chosen)
    if not importance:
        kept = out != 0.0
        out[kept] = (out[kept] - out[kept].mean()) * (len(values) / int(kept.sum()))
    return out.to(coefficients)


def _strata(values: Tensor, n_strata: int) -> list[Tensor]:
    """Index of the members of every stratum that has some; those of one sign each."""
    found = []
    span = float(values.max() - values.min())
    for sign in (-1.0, 1.0):
        members = torch.nonzero(sign * values > 0.0).flatten()
        if not len(members):
            continue
        sizes = values[members].abs()
        n_bins = max(1, round(n_strata * float(sizes.max()) / span))
        place = (sizes * (n_bins / float(sizes.max()))).long().clamp_max(n_bins - 1)
        found += [members[place == b] for b in place.unique()]
    return found
