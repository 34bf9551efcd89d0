"""Ways of making MD steps of aspirin with one SchNet, checked to have the same forces."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from benchmarks.ase_md import AseMD
from benchmarks.aspirin import aspirin_replicas
from benchmarks.measure import Contender
from benchmarks.plain_schnet import plain_schnet
from benchmarks.torch_geometric_schnet import DT_FS, TorchGeometricMD, make_model
from benchmarks.torch_sim_md import TorchSimMD
from stablemd.data.topology import find_bonds
from stablemd.md.initial import initial_state
from stablemd.md.integrators import BAOAB
from stablemd.md.result import SimulationResult
from stablemd.md.simulate import simulate
from stablemd.potentials.base import EagerSampling, SamplingForm
from stablemd.potentials.schnet import SchNet
from stablemd.potentials.schnet_weights import schnet_from_weights
from stablemd.stability import make_detectors
from stablemd.system import System

FORCE_AGREEMENT = 1e-3
"""Largest difference of forces between contenders, relative to the largest force: float32
sums in another order, and the compiled form's filter tables."""

RECORD_EVERY = 100
"""The paper's spacing of frames, in steps."""

MAX_ASE_REPLICAS = 4
"""ASE runs replicas one after the other, so few of them show the cost of each."""

TORCH_GEOMETRIC = "torch_geometric, plain loop"
ASE = "ASE, one replica at a time"
TORCH_SIM = "torch-sim, model by autograd"
EAGER = "stablemd, model in eager PyTorch"
COMPILED = "stablemd, model by autograd without tables"
TABULATED = "stablemd, model by autograd"
WHOLE = "stablemd, whole step"
BARE = "stablemd, sampling form alone"


@dataclass(frozen=True)
class Aspirin:
    """The molecule, replicas of it, and the model in all the forms that are compared.

    Attributes:
        system: aspirin, with its bonds.
        positions: (R, N, 3) in Å.
        potential: SchNet of the paper's size with random weights.
        form: its sampling form.
        baseline: torch_geometric's SchNet with the same weights in its own loop.
    """

    system: System
    positions: Tensor
    potential: SchNet
    form: SamplingForm
    baseline: TorchGeometricMD

    @classmethod
    def build(cls, n_replicas: int) -> Aspirin:
        bare, positions = aspirin_replicas(n_replicas)
        bonds, lengths = find_bonds(bare.numbers, positions)
        system = System.create(bare.numbers, bonds=bonds, bond_lengths=lengths)
        model = make_model(system.n_atoms)
        potential = schnet_from_weights(model.state_dict(), cutoff=model.cutoff)
        baseline = TorchGeometricMD(model, system, positions)
        form = potential.for_sampling(system, positions[:8])
        return cls(system, positions, potential, form, baseline)

    def simulate(self, form: SamplingForm, n_steps: int) -> Callable[[], SimulationResult]:
        """BAOAB Langevin with all detectors, as a user runs it, always from the same start.

        The bond limit is wide: weights are random, and a failed replica costs nothing.
        """
        state = initial_state(self.system, self.positions, form, temperature_k=500.0, seed=0)
        integrator = BAOAB(dt_fs=DT_FS, temperature_k=500.0, friction_per_ps=1.0)
        detectors = make_detectors(
            {"nonfinite": {}, "bond_length": {"threshold": 50.0}, "temperature": {}}, self.system
        )

        def run() -> SimulationResult:
            result = simulate(
                form,
                state,
                integrator,
                detectors,
                self.system,
                n_steps=n_steps,
                seed=0,
                record_every=RECORD_EVERY,
            )
            if result.n_failed:
                raise RuntimeError("a replica failed, so less work was timed than counted")
            return result

        return run

    def whole(self, n_steps: int) -> Contender:
        """The step loop with the sampling form."""
        return Contender(WHOLE, self.simulate(self.form, n_steps), self._units(n_steps))

    def bare(self, n_steps: int) -> Contender:
        """Energies and forces by the sampling form, and nothing around it."""

        def run() -> None:
            for _ in range(n_steps):
                self.form(self.positions)

        return Contender(BARE, run, self._units(n_steps))

    def eager(self, n_steps: int) -> Contender:
        """The step loop with the model in PyTorch's own operations, by autograd."""
        return self._by_autograd(EAGER, plain_schnet(self.potential), n_steps)

    def compiled_sums(self, n_steps: int) -> Contender:
        """The same with stablemd's compiled sums over pairs."""
        exact = copy.deepcopy(self.potential)
        exact.tabulate_filters = False
        return self._by_autograd(COMPILED, exact, n_steps)

    def tabulated(self, n_steps: int) -> Contender:
        """The model as the learning pass differentiates it: compiled sums, filters from tables."""
        return self._by_autograd(TABULATED, self.potential, n_steps)

    def _by_autograd(self, name: str, potential: SchNet, n_steps: int) -> Contender:
        form = EagerSampling(potential, self.system)
        self._require_agreement(name, form(self.positions)[1])
        return Contender(name, self.simulate(form, n_steps), self._units(n_steps))

    def torch_geometric(self, n_steps: int) -> Contender:
        """torch_geometric's SchNet in a plain loop."""
        run = self.baseline.run
        return Contender(TORCH_GEOMETRIC, lambda: run(n_steps), self._units(n_steps))

    def ase(self, n_steps: int) -> Contender:
        """ASE's Langevin dynamics with the model as calculator."""
        some = self.positions[:MAX_ASE_REPLICAS]
        dynamics = AseMD(self.potential, self.system, some)
        return Contender(ASE, lambda: dynamics.run(n_steps), len(some) * n_steps)

    def torch_sim(self, n_steps: int) -> Contender | None:
        """torch-sim's Langevin dynamics with the model wrapped; None where it is not installed."""
        if importlib.util.find_spec("torch_sim") is None:
            return None
        dynamics = TorchSimMD(self.potential, self.system, self.positions)
        self._require_agreement(TORCH_SIM, dynamics.forces())
        return Contender(TORCH_SIM, lambda: dynamics.run(n_steps), self._units(n_steps))

    def require_same_forces(self) -> None:
        """Raise unless the sampling form and torch_geometric agree."""
        self._require_agreement(WHOLE, self.form(self.positions)[1])

    def _units(self, n_steps: int) -> int:
        return len(self.positions) * n_steps

    def _require_agreement(self, name: str, forces: Tensor) -> None:
        expected = self.baseline.forces(self.positions.float().reshape(-1, 3))
        expected = expected.reshape(self.positions.shape)
        error = float((forces - expected).abs().max() / expected.abs().max())
        if not error < FORCE_AGREEMENT:
            raise RuntimeError(
                f"{name}: forces differ from torch_geometric's by {error:.1e} of the largest "
                f"force (bound {FORCE_AGREEMENT:.0e}), so the timings would compare different "
                "models"
            )
