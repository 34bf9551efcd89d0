"""SchNet MD on aspirin: stablemd beside torch_geometric, with the same weights."""

from __future__ import annotations

from torch import Tensor

from benchmarks.aspirin import aspirin_replicas
from benchmarks.measure import Contender
from benchmarks.section import Section, Settings
from benchmarks.torch_geometric_schnet import DT_FS, TorchGeometricMD, make_model
from stablemd.md.initial import initial_state
from stablemd.md.integrators import BAOAB
from stablemd.md.simulate import simulate
from stablemd.potentials.base import EagerSampling, SamplingForm
from stablemd.potentials.schnet_weights import schnet_from_weights
from stablemd.stability.nonfinite import NonFinite
from stablemd.system import System

FORCE_AGREEMENT = 1e-3
"""Largest difference of forces between contenders, relative to the largest force: float32
sums in another order, and the compiled form's filter tables."""


def build(settings: Settings) -> list[Contender]:
    """torch_geometric, and stablemd's two forms in stablemd's own step loop."""
    system, positions = aspirin_replicas(settings.n_replicas)
    baseline_model = make_model(system.n_atoms)
    potential = schnet_from_weights(baseline_model.state_dict(), cutoff=baseline_model.cutoff)
    baseline = TorchGeometricMD(baseline_model, system, positions)
    forms: dict[str, SamplingForm] = {
        "stablemd, model by autograd": EagerSampling(potential, system),
        "stablemd, sampling form": potential.for_sampling(system),
    }
    expected = baseline.forces(positions.float().reshape(-1, 3)).reshape(positions.shape)
    for name, form in forms.items():
        _require_agreement(name, form(positions)[1], expected)
    units = settings.n_replicas * settings.n_steps
    return [
        Contender("torch_geometric", lambda: baseline.run(settings.n_steps), units),
        *(dynamics(name, f, system, positions, settings.n_steps) for name, f in forms.items()),
    ]


def dynamics(
    name: str, form: SamplingForm, system: System, positions: Tensor, n_steps: int
) -> Contender:
    """BAOAB Langevin with detection, as a user runs it."""
    state = initial_state(system, positions, form, temperature_k=500.0, seed=0)
    integrator = BAOAB(dt_fs=DT_FS, temperature_k=500.0, friction_per_ps=1.0)
    detectors = [NonFinite(system)]

    def run() -> None:
        result = simulate(form, state, integrator, detectors, system, n_steps=n_steps, seed=0)
        if not bool(result.state.alive.all()):
            raise RuntimeError(f"{name}: a replica failed, so less work was timed than counted")

    return Contender(name, run, positions.shape[0] * n_steps)


def _require_agreement(name: str, forces: Tensor, expected: Tensor) -> None:
    error = float((forces - expected).abs().max() / expected.abs().max())
    if not error < FORCE_AGREEMENT:
        raise RuntimeError(
            f"{name}: forces differ from torch_geometric's by {error:.1e} of the largest force "
            f"(bound {FORCE_AGREEMENT:.0e}), so the timings would compare different models"
        )


SECTION = Section(
    key="schnet_md",
    title="MD of aspirin with SchNet",
    about=(
        "One MD step of every replica, in float32, on one core. The model has the paper's size "
        "(64 features, 64 filters, 6 interactions, 25 Gaussians, cutoff 5 Å) and the same random "
        "weights in every row; forces are compared before anything is timed. torch_geometric: "
        "velocity Verlet, radius graph in plain PyTorch at every step, forces by autograd. "
        "stablemd: BAOAB Langevin in its own step loop, with detection of failed replicas."
    ),
    unit="replica-step",
    build=build,
)
