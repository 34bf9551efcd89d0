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
    rewound: State, failed: Tensor, system: System, settings: StableSettings
) -> tuple[State, Tensor]:
    """Fill the wanted share of the replicas with copies of the failed ones.

    A failure is seen by few replicas, and only frames near it carry the signal;
    copies with partly redrawn momenta see more of it in the same time.

    Args:
        rewound: all replicas; failed ones shortly before their failure.
        failed: indices of the failed replicas, (F,) int64.
        system: the molecule.
        settings: ``failing_share`` says how many replicas start near a failure.

    Returns:
        The state of all replicas, in which replica ids are as before, and the
        replica that each of them is a copy of, (R,) int64.
    """
    n_replicas, n_failed = rewound.n_replicas, len(failed)
    origin = torch.arange(n_replicas, device=failed.device)
    wanted = round(settings.failing_share * n_replicas)
    if n_failed == 0 or n_failed >= wanted:
        return rewound, origin
    is_failed = torch.zeros(n_replicas, dtype=torch.bool, device=failed.device)
    is_failed[failed] = True
    free = torch.nonzero(~is_failed).flatten()[: wanted - n_failed]
    source = failed[torch.arange(len(free), device=failed.device) % n_failed]
    copies = rewound.select(source)
    fresh = maxwell_boltzmann_momenta(
        system,
        settings.dynamics.temperature_k,
        settings.seed,
        rewound.replica_ids[free] + REFRESH_ID_OFFSET,
        step=rewound.step,
        remove_com=True,
    )
    keep = (1.0 - MOMENTUM_REFRESH**2) ** 0.5
    copies = replace(
        copies,
        momenta=keep * copies.momenta + MOMENTUM_REFRESH * fresh,
        replica_ids=rewound.replica_ids[free],
    )
    return rewound.scatter(free, copies), origin.index_copy(0, free, source)
