from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from scipy.integrate import quad

from stablemd import units
from stablemd.errors import ConfigError, SimulationError
from stablemd.md.initial import initial_state
from stablemd.md.integrators import INTEGRATORS, Integrator, make_integrator
from stablemd.md.integrators.nose_hoover_chain import (
    Chain,
    advance_chain,
    advance_chain_tensors,
)
from stablemd.md.random_streams import NormalBlocks
from stablemd.md.state import State
from stablemd.md.velocities import kinetic_temperature
from stablemd.potentials.base import SamplingForm
from stablemd.system import System

T = 300.0
KT = units.KB * T


def trajectory(
    form: SamplingForm, system: System, integrator: Integrator, state: State, n_steps: int
) -> Iterator[State]:
    state = integrator.init(state, system, seed=0)
    noise = NormalBlocks(
        0, state.replica_ids, (system.n_atoms, 3), state.step, state.step + n_steps
    )
    with torch.no_grad():
        for _ in range(n_steps):
            draws = noise.at(state.step) if integrator.needs_noise else None
            state = integrator.step(state, form, draws)
            yield state


def start(form: SamplingForm, system: System, n_replicas: int, seed: int = 1) -> State:
    generator = torch.Generator().manual_seed(seed)
    positions = 0.1 * torch.randn(
        n_replicas, system.n_atoms, 3, generator=generator, dtype=torch.float64
    )
    return initial_state(system, positions, form, temperature_k=T, seed=seed, remove_com=False)


def mean_and_error(per_chain: torch.Tensor) -> tuple[float, float]:
    """Mean over independent chains and its standard error."""
    return float(per_chain.mean()), float(per_chain.std() / per_chain.numel() ** 0.5)


@pytest.mark.parametrize("omega_dt", [0.5, 1.0, 1.5, 1.9])
def test_baoab_samples_a_harmonic_well_at_any_stable_step(harmonic_wells, omega_dt):
    system = System.create(["H", "H"], masses=[1.0, 1.0])
    form = harmonic_wells(k=2.0)
    dt_fs = omega_dt / 2.0**0.5 / units.FS
    friction = 1000.0 / dt_fs
    integrator = make_integrator("langevin", dt_fs=dt_fs, temperature_k=T, friction_per_ps=friction)
    x2, p2, n = 0.0, 0.0, 0
    for i, state in enumerate(trajectory(form, system, integrator, start(form, system, 100), 900)):
        if i >= 60:
            x2, p2, n = x2 + state.positions.square(), p2 + state.momenta.square(), n + 1
    for total, expected in ((x2, KT / 2.0), (p2, KT * (1.0 - omega_dt**2 / 4.0))):
        mean, error = mean_and_error(total / n)
        assert error < 0.015 * expected
        assert abs(mean - expected) < 4.0 * error


def test_langevin_gives_every_degree_of_freedom_kt_half(atoms, anharmonic_cluster):
    form = anharmonic_cluster()
    integrator = make_integrator("langevin", dt_fs=0.5, temperature_k=T, friction_per_ps=40.0)
    assert integrator.degrees_of_freedom(atoms) == 9
    total, n = 0.0, 0
    for i, state in enumerate(trajectory(form, atoms, integrator, start(form, atoms, 200), 1200)):
        if i >= 200:
            total, n = total + state.momenta.square() / atoms.masses[:, None] / KT, n + 1
    per_chain = total / n
    error = per_chain.std(0) / len(per_chain) ** 0.5
    assert float(error.max()) < 0.03
    assert bool(((per_chain.mean(0) - 1.0).abs() < 4.0 * error).all())


@pytest.mark.parametrize("name", ["nose_hoover", "csvr"])
def test_a_global_thermostat_samples_the_canonical_ensemble(atoms, anharmonic_cluster, name):
    form = anharmonic_cluster()
    integrator = make_integrator(name, dt_fs=1.0, temperature_k=T, tau_fs=20.0, com_fixed=False)
    virial, kinetic = [], []
    for i, state in enumerate(trajectory(form, atoms, integrator, start(form, atoms, 64), 3000)):
        if i >= 500:
            virial.append((state.positions * state.forces).sum((1, 2)))
            kinetic.append(state.kinetic_energies(atoms.masses))
    # <x dU/dx> = kT for every coordinate of a confining potential (hypervirial theorem).
    mean, error = mean_and_error(-torch.stack(virial).mean(0) / (9 * KT))
    assert error < 0.02
    assert abs(mean - 1.0) < 4.0 * error
    k = torch.stack(kinetic) / KT
    mean, error = mean_and_error(k.mean(0))
    assert error < 0.01 * 4.5
    assert abs(mean - 4.5) < 4.0 * error
    # K / kT is gamma distributed with shape 9/2: its variance is 9/2 too.
    mean, error = mean_and_error((k - 4.5).square().mean(0))
    assert error < 0.3
    assert abs(mean - 4.5) < 4.0 * error


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("langevin", {"friction_per_ps": 60.0}),
        ("nose_hoover", {"tau_fs": 20.0, "com_fixed": False}),
    ],
)
def test_quartic_wells_have_the_width_of_their_boltzmann_integral(
    atoms, anharmonic_cluster, name, options
):
    form = anharmonic_cluster(k=0.2, quartic=3.0, spring=0.0)

    def weight(x: float) -> float:
        return float(torch.exp(torch.tensor(-(0.1 * x**2 + 0.75 * x**4) / KT)))

    expected = quad(lambda x: x**2 * weight(x), -2, 2)[0] / quad(weight, -2, 2)[0]
    integrator = make_integrator(name, dt_fs=1.0, temperature_k=T, **options)
    total, n = 0.0, 0
    for i, state in enumerate(trajectory(form, atoms, integrator, start(form, atoms, 64), 3000)):
        if i >= 500:
            total, n = total + state.positions.square().mean((1, 2)), n + 1
    mean, error = mean_and_error(total / n)
    assert error < 0.02 * expected
    assert abs(mean - expected) < 4.0 * error


@pytest.mark.parametrize("name", ["nve", "nose_hoover"])
def test_the_conserved_energy_fluctuates_with_the_square_of_the_step(
    atoms, anharmonic_cluster, name
):
    form = anharmonic_cluster()
    spread = []
    for dt_fs in (1.0, 0.5):
        integrator = make_integrator(name, dt_fs=dt_fs, temperature_k=T, com_fixed=False)
        states = trajectory(form, atoms, integrator, start(form, atoms, 16), round(400 / dt_fs))
        spread.append(torch.stack([integrator.conserved(s, atoms) for s in states]).std(0).mean())
    assert float(spread[0]) < 0.05 * KT
    assert float(spread[0] / spread[1]) == pytest.approx(4.0, rel=0.05)


def test_velocity_verlet_runs_backwards(atoms, anharmonic_cluster):
    form = anharmonic_cluster()
    integrator = make_integrator("nve", dt_fs=1.0, temperature_k=T)
    first = start(form, atoms, 8)
    *_, there = trajectory(form, atoms, integrator, first, 200)
    *_, back = trajectory(form, atoms, integrator, replace(there, momenta=-there.momenta), 200)
    assert float((there.positions - first.positions).abs().max()) > 0.1
    assert float((back.positions - first.positions).abs().max()) < 1e-10
    assert float((back.momenta + first.momenta).abs().max()) < 1e-10


@pytest.mark.parametrize("name", ["nve", "nose_hoover", "csvr"])
def test_dynamics_without_friction_keeps_the_total_momentum_at_zero(
    atoms, anharmonic_cluster, name
):
    form = anharmonic_cluster(k=0.0, quartic=0.0)
    positions = torch.randn(
        4, 3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    state = initial_state(atoms, positions, form, temperature_k=T, seed=1)
    integrator = make_integrator(name, dt_fs=0.5, temperature_k=T)
    assert integrator.degrees_of_freedom(atoms) == 6
    *_, end = trajectory(form, atoms, integrator, state, 500)
    assert float(end.momenta.sum(1).abs().max()) < 1e-12
    assert bool((kinetic_temperature(end.momenta, atoms.masses, 6) > 0).all())


@pytest.mark.parametrize("n_links", [1, 2, 3, 4])
def test_the_compiled_and_the_tensor_chain_agree(n_links):
    generator = torch.Generator().manual_seed(n_links)
    momenta = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    inverse = torch.rand(5, 4, 3, generator=generator, dtype=torch.float64) + 0.1
    v = 0.3 * torch.randn(5, n_links, generator=generator, dtype=torch.float64)
    x = torch.randn(5, n_links, generator=generator, dtype=torch.float64)
    chain = Chain(kt=KT, n_dof=12, tau=3.0)
    one, other = momenta.clone(), momenta.clone()
    compiled = advance_chain(one, inverse, v, x, 0.1, chain)
    tensors = advance_chain_tensors(other, inverse, v, x, 0.1, chain)
    torch.testing.assert_close(one, other, rtol=1e-13, atol=0)
    torch.testing.assert_close(compiled, tensors, rtol=1e-12, atol=1e-13)
    assert not torch.equal(one, momenta)


@pytest.mark.parametrize("n_links", [1, 2, 3, 4])
def test_the_chain_runs_backwards(n_links):
    generator = torch.Generator().manual_seed(n_links)
    momenta = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    inverse = torch.ones_like(momenta)
    v = 0.3 * torch.randn(5, n_links, generator=generator, dtype=torch.float64)
    x = torch.randn(5, n_links, generator=generator, dtype=torch.float64)
    chain = Chain(kt=KT, n_dof=12, tau=3.0)
    moved = momenta.clone()
    v1, x1 = advance_chain(moved, inverse, v, x, 0.1, chain)
    v2, x2 = advance_chain(moved, inverse, -v1, x1, 0.1, chain)
    torch.testing.assert_close(moved, momenta, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(v2, -v, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(x2, x, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", sorted(INTEGRATORS))
def test_a_step_changes_nothing_of_the_state_it_was_given(
    atoms, atoms_in_a_box, harmonic_wells, name
):
    form = harmonic_wells()
    if not INTEGRATORS[name].constant_volume:
        atoms = atoms_in_a_box
    integrator = make_integrator(name, dt_fs=1.0, temperature_k=T)
    state = replace(start(form, atoms, 3), step=9)  # the next step moves a barostat's cell
    state = integrator.init(state, atoms, 0)
    before = {k: getattr(state, k).clone() for k in ("positions", "momenta", "forces", "energies")}
    chain = {k: v.clone() for k, v in state.thermostat.items()}
    after = integrator.step(state, form, torch.ones_like(state.positions))
    assert after.step == state.step + 1
    if state.cells is not None:
        assert torch.equal(state.cells, atoms.cell.expand(3, 3, 3))
        assert torch.equal(after.cells, state.cells) == integrator.constant_volume
    assert all(torch.equal(getattr(state, k), v) for k, v in before.items())
    assert all(torch.equal(state.thermostat[k], v) for k, v in chain.items())
    assert not torch.equal(after.positions, state.positions)


def test_unknown_names_and_impossible_values_are_refused(atoms, harmonic_wells):
    good = {"dt_fs": 0.5, "temperature_k": 300.0}
    with pytest.raises(ConfigError, match="unknown integrator 'leapfrog'.*langevin"):
        make_integrator("leapfrog", **good)
    with pytest.raises(ConfigError, match="no option.*tau_fs.*friction_per_ps"):
        make_integrator("langevin", **good, tau_fs=10.0)
    for bad in (
        {"dt_fs": 0.0},
        {"dt_fs": float("nan")},
        {"temperature_k": -1.0},
        {"friction_per_ps": 0.0},
    ):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            make_integrator("langevin", **{**good, **bad})
    with pytest.raises(ConfigError, match="tau_fs must be at least 4 time steps"):
        make_integrator("nose_hoover", **good, tau_fs=1.0)
    with pytest.raises(ConfigError, match="chain_length"):
        make_integrator("nose_hoover", **good, chain_length=0)
    state = start(harmonic_wells(), atoms, 2)
    with pytest.raises(SimulationError, match="before init"):
        make_integrator("nve", **good).step(state, harmonic_wells(), None)
    chained = make_integrator("nose_hoover", **good).init(state, atoms, 0)
    with pytest.raises(SimulationError, match="thermostat variable"):
        make_integrator("nose_hoover", **good, chain_length=2).init(chained, atoms, 0)
    with pytest.raises(SimulationError, match="conserves none"):
        make_integrator("langevin", **good).conserved(state, atoms)
