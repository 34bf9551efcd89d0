"""What evaluates energies and forces of replicas while the parameters are frozen."""

from __future__ import annotations

import copy

from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials.split_step import SplitStep


class SamplingForm:
    """A frozen evaluator of energies and forces of replicas of one system.

    Attributes:
        replica_independent: whether the numbers of a replica are bit-identical
            whatever other replicas are in the call.  Where this is False the
            step loop keeps the batch shape fixed by padding.
        advances: whether ``advance`` is there.
        holds_gil: whether it is many small operations that Python calls one by one, so
            that threads wait for each other and processes do not.
    """

    replica_independent: bool = False

    advances: bool = False

    holds_gil: bool = False

    def block_size(self, n_replicas: int) -> int | None:
        """How many replicas are evaluated together when ``n_replicas`` are simulated.

        Blocks of this size, counted from the first replica, may go to different threads
        and processes: whatever a block is evaluated with, its numbers are the same.  None
        where replicas must all be in one call.
        """
        return 1 if self.replica_independent else None

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Energies (R,) in eV and forces (R, N, 3) in eV/Å.

        Args:
            positions: Å, (R, N, 3), wrapped or not.
            cells: (R, 3, 3) in Å; the system's cell by default.
        """
        raise NotImplementedError

    def energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Energies (R,) in eV alone, the same numbers as in a call; cheaper where a form can."""
        return self(positions, cells)[0]

    def with_stress(self, positions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Energies and forces as in a call, and the stress (R, 3, 3) in eV/Å³.

        Raises:
            PotentialError: this form knows no stress.
        """
        raise PotentialError(
            f"{type(self).__name__} gives no stress, which constant pressure needs; simulate at "
            "constant volume, or with a potential's own sampling form"
        )

    def advance(
        self,
        positions: Tensor,
        momenta: Tensor,
        forces: Tensor,
        step: SplitStep,
        n_steps: int,
        noise: Tensor | None,
    ) -> Tensor:
        """Make ``n_steps`` time steps of every replica, without a return to Python in between.

        A form may offer this for systems that are not periodic; the numbers of a
        replica do not depend on how steps are grouped into calls.  Where replicas
        are not independent, the step loop gives the full batch, frozen replicas
        at their last valid positions.

        Args:
            positions: (R, N, 3) float64, Å, changed in place.
            momenta: (R, N, 3) float64, internal units, changed in place.
            forces: at ``positions``, (R, N, 3) float64, eV/Å, changed in place.
            step: the time step.
            n_steps: at least 1.
            noise: standard normals (n_steps, R, N, 3) float64 for a step with a bath.

        Returns:
            Energies at the last positions, (R,) float64, eV.
        """
        raise NotImplementedError

    def atomic_energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Atomic energies (R, N) float64 in eV; arguments as in a call.

        Raises:
            PotentialError: the form does not have them.
        """
        raise PotentialError(f"{type(self).__name__} gives total energies only")

    def for_thread(self) -> SamplingForm:
        """This form for use in another thread at the same time; with scratch memory of its own."""
        return copy.copy(self)
