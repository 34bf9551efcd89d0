"""How GemNet-T's kernels are compiled."""

from __future__ import annotations

from typing import Any

from stablemd.potentials.dense_kernels import FAST

KERNEL: dict[str, Any] = {"fastmath": FAST, "_nrt": False}
"""Without counts of references: no kernel allocates an array, and what it is given stays alive
in its caller.  Counting for some thirty arrays took most of the time of compilation."""
