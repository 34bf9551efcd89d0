"""Where the replicas of a learning phase start."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from stablemd.md import State
from stablemd.md.velocities import maxwell_boltzmann_momenta
from stablemd.system import System
from stablemd.training.stable_settings import StableSettings

MOMENTUM_REFRESH = 0.25
"""Share a of fresh momenta in a copy: p = sqrt(1 - a²) p_old + a p_fresh, which keeps kT."""

REFRESH_ID_OFFSET = 1 << 24
"""Keeps the draws of refreshed momenta apart from those of start velocities."""


def learning_start(
    rewound: State,
    failed: Tensor,
    system: System,
    settings: StableSettings,
    earlier: State | None = None,
) -> tuple[State, Tensor]:
    """Fill the replicas of a learning phase, the wanted share of them with copies of failed ones.

    A failure is seen by few replicas, and only frames near it carry the signal;
    copies with partly redrawn momenta see more of it in the same time.

    Args:
        rewound: all replicas; failed ones shortly before their failure.
        failed: indices of the failed replicas, (F,) int64.
        system: the molecule.
        settings: ``learning_replicas`` says how many there are, ``failing_share``
            how many of them start near a failure.
        earlier: replicas of earlier phases before their failures, to be copied as
            those of this one are; used where one failed in this phase too.

    Returns:
        The state of all replicas of the phase: first those of ``rewound`` under
        their ids, some of them replaced, then the additional ones under new
        ids.  And the replica that each of them stems from, (L,) int64, where
        those of ``earlier`` follow those of ``rewound``.
    """
    n_given = rewound.n_replicas
    source = torch.arange(n_given, device=failed.device)
    if len(failed) == 0 or settings.failing_share == 0.0:
        return rewound, source
    n_replicas = max(settings.learning_replicas, n_given)
    is_failed = torch.zeros(n_given, dtype=torch.bool, device=failed.device)
    is_failed[failed] = True
    n_copies = max(0, round(settings.failing_share * n_replicas) - len(failed))
    going_on = torch.nonzero(~is_failed).flatten()
    if earlier is not None:
        known = n_given + torch.arange(earlier.n_replicas, device=failed.device)
        failed = torch.cat([known, failed])  # copies of those first, which have no replica here
    n_added = n_replicas - n_given
    # Copies take the additional places first, then those of replicas that could go on.
    n_in_added = min(n_copies, n_added)
    replaced = going_on[: n_copies - n_in_added]
    source[replaced] = _cycle(failed, len(replaced))
    others = going_on[len(replaced) :] if len(going_on) > len(replaced) else failed
    added = torch.cat(
        [_cycle(failed, n_in_added, len(replaced)), _cycle(others, n_added - n_in_added)]
    )
    copies = torch.cat([replaced, torch.arange(n_given, n_replicas, device=failed.device)])
    source = torch.cat([source, added])
    new_ids = rewound.replica_ids.max() + 1 + torch.arange(n_added, device=failed.device)
    ids = torch.cat([rewound.replica_ids, new_ids])
    given = rewound if earlier is None else State.concatenate([rewound, earlier])
    state = replace(given.select(source), replica_ids=ids)
    fresh = maxwell_boltzmann_momenta(
        system,
        settings.dynamics.temperature_k,
        settings.seed,
        ids[copies] + REFRESH_ID_OFFSET,
        step=rewound.step,
        remove_com=True,
    )
    keep = (1.0 - MOMENTUM_REFRESH**2) ** 0.5
    momenta = state.momenta.clone()
    momenta[copies] = keep * momenta[copies] + MOMENTUM_REFRESH * fresh
    return replace(state, momenta=momenta), source


def _cycle(index: Tensor, n: int, start: int = 0) -> Tensor:
    """``n`` entries of ``index``, each as often as the others, from ``start`` on."""
    return index[(start + torch.arange(n, device=index.device)) % len(index)]
