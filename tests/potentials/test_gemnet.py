"""GemNet-T: triplets, smoothness in them, collinear atoms, scale factors, presets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.special import eval_legendre
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials import Batch, GemNetT, SchNet, make_potential
from stablemd.potentials.gemnet.angular_basis import angular_basis, parity_signs
from stablemd.potentials.gemnet.blocks import AtomUpdate
from stablemd.potentials.gemnet.edges import DirectedEdges
from stablemd.potentials.gemnet.radial_basis import RadialBasis, polynomial_envelope
from stablemd.potentials.gemnet.scale_factor import ScaleFactor
from stablemd.potentials.gemnet.scaled import Scaled
from stablemd.potentials.gemnet.triplet_interaction import TripletInteraction, sum_over_neighbours
from stablemd.system import System


def directions(n: int, seed: int = 0) -> Tensor:
    vectors = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)).double()
    return vectors / vectors.norm(dim=1, keepdim=True)


def model(**changes: object) -> GemNetT:
    torch.manual_seed(4)
    return GemNetT(**changes).double()  # type: ignore[arg-type]


# Bases


def test_angular_basis_gives_legendre_polynomials_of_every_angle() -> None:
    n_spherical = 7
    u = directions(40)
    basis = angular_basis(u, n_spherical)
    cosines = (u @ u.T).numpy()
    for degree in range(n_spherical):
        part = basis[:, degree**2 : (degree + 1) ** 2]
        np.testing.assert_allclose(part @ part.T, eval_legendre(degree, cosines), atol=1e-12)


def test_turning_a_direction_round_changes_signs_only() -> None:
    u = directions(10)
    signs = parity_signs(5, u.dtype, u.device)
    torch.testing.assert_close(angular_basis(-u, 5), angular_basis(u, 5) * signs)


@pytest.mark.parametrize("exponent", [1, 2, 5, 6])
def test_envelope_is_the_published_polynomial_and_ends_smoothly(exponent: int) -> None:
    p = exponent
    x = torch.linspace(0.0, 1.0, 101, dtype=torch.float64, requires_grad=True)
    published = (
        1.0
        - (p + 1) * (p + 2) / 2 * x**p
        + p * (p + 2) * x ** (p + 1)
        - p * (p + 1) / 2 * x ** (p + 2)
    )
    envelope = polynomial_envelope(x, p)
    torch.testing.assert_close(envelope, published, rtol=0.0, atol=1e-12)
    (first,) = torch.autograd.grad(envelope.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert float(envelope[-1].detach()) == float(first[-1].detach()) == float(second[-1]) == 0.0
    assert float(polynomial_envelope(torch.tensor([1.0, 1.5, 9.0]), p).abs().max()) == 0.0


def test_bessel_functions_are_orthonormal_in_the_sphere() -> None:
    """``sqrt(2/c) sin(n π d/c) / d`` under the weight d², once the envelope is divided out."""
    cutoff = 4.0
    d = torch.linspace(1e-6, cutoff * (1 - 1e-3), 20001, dtype=torch.float64)
    basis = RadialBasis("bessel", 4, cutoff, 5).double()
    waves = basis(d).detach() / polynomial_envelope(d / cutoff, 5)[:, None]
    overlap = torch.einsum("pi,pj,p->ij", waves, waves, d * d) * float(d[1] - d[0])
    torch.testing.assert_close(overlap, torch.eye(4).double(), rtol=0.0, atol=1e-4)


# Triplets


def random_edges(n_atoms: int, n_pairs: int) -> DirectedEdges:
    """Any multigraph: a pair may stand twice, as images do, or join an atom with itself."""
    generator = torch.Generator().manual_seed(1)
    return DirectedEdges.of_pairs(
        torch.randint(n_atoms, (2, n_pairs), generator=generator), n_atoms
    )


def test_sum_over_neighbours_equals_the_sum_over_listed_triplets() -> None:
    n_spherical, n_features = 4, 3
    edges = random_edges(n_atoms=5, n_pairs=12)
    assert bool((edges.pairs[0] == edges.pairs[1]).any()), "self-image pairs are meant to be in"
    u = directions(12)
    both = torch.stack([u, -u], dim=1).reshape(24, 3)
    x = torch.randn(12, 2, n_features, generator=torch.Generator().manual_seed(2)).double()
    harmonics = angular_basis(both, n_spherical).view(12, 2, -1)
    found = sum_over_neighbours(edges.by_target(x), edges.by_target(harmonics), n_spherical)
    found = edges.from_target(found.flatten(0, 1).flatten(1)).view(24, n_spherical, n_features)
    target, flat = edges.target.tolist(), x.reshape(24, n_features)
    expected = torch.zeros_like(found)
    for e in range(24):
        for other in range(24):
            if other != e and target[other] == target[e]:
                cosine = float(both[e] @ both[other])
                legendre = eval_legendre(np.arange(n_spherical), cosine)
                expected[e] += torch.from_numpy(legendre)[:, None] * flat[other]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_edges_point_to_their_targets() -> None:
    edges = random_edges(n_atoms=6, n_pairs=9)
    ones = torch.ones(9, 2, 1)
    counts = edges.sum_at_target(ones)[:, 0]
    torch.testing.assert_close(counts, torch.bincount(edges.pairs.flatten(), minlength=6).float())
    assert edges.width == int(counts.max())
    values = torch.arange(18.0).view(9, 2, 1)
    back = edges.from_target(edges.by_target(values).flatten(0, 1))
    torch.testing.assert_close(back, values)
    names = torch.arange(6.0)[:, None]
    known = edges.spread(names, 100.0 * names).view(-1)
    torch.testing.assert_close(known, (edges.pairs.T + 100.0 * edges.pairs.T.flip(1)).flatten())


def bent(angle: float, radius: float = 3.0) -> Tensor:
    """Three atoms, the first in the middle."""
    half = 0.5 * angle
    ends = [[radius * math.sin(half), radius * math.cos(half), 0.0]]
    ends.append([-ends[0][0], ends[0][1], 0.0])
    return torch.tensor([[0.0, 0.0, 0.0], *ends], dtype=torch.float64)


def test_energy_depends_on_an_angle_that_no_distance_within_the_cutoff_tells() -> None:
    system = System.create([8, 1, 1])
    angles = [math.radians(a) for a in (115.0, 140.0, 180.0)]
    positions = torch.stack([bent(a) for a in angles])
    energies = model(cutoff=5.0).energy(system, positions).detach()
    assert float((energies - energies[0]).abs()[1:].min()) > 1e-6
    blind = SchNet(cutoff=5.0).double().energy(system, positions).detach()
    assert float((blind - blind[0]).abs().max()) < 1e-9


@pytest.mark.parametrize("basis", ["bessel", "gaussian"])
def test_energy_and_forces_are_continuous_where_a_third_atom_comes_within_the_cutoff(
    basis: str,
) -> None:
    """The new edge forms triplets with edges that are far from their own end."""
    potential = model(radial_basis=basis)
    system = System.create([8, 1, 6])
    offset = torch.linspace(-1e-3, 1e-3, 21, dtype=torch.float64)
    positions = torch.zeros(21, 3, 3, dtype=torch.float64)
    positions[:, 1, 0] = 1.2
    positions[:, 2, 1] = potential.cutoff + offset
    energies, forces = potential.energy_and_forces(system, positions)
    assert float(forces[-1, 0].abs().max()) > 1e-3, "the near pair has forces"
    assert float((energies - energies[-1]).abs().max()) < 1e-8
    assert float((forces - forces[-1]).abs().max()) < 1e-5


@pytest.mark.parametrize("angle", [0.0, math.pi])
def test_collinear_atoms_have_exact_forces_and_gradients(angle: float) -> None:
    """Angles of 0 and π: finite, equal to finite differences, and none across the line."""
    potential = model()
    system = System.create([6, 8, 8])
    line = bent(math.pi, radius=1.2)
    if angle == 0.0:
        line[2] = 2.0 * line[1]
    energies, forces = potential.energy_and_forces(system, line[None], create_graph=True)
    assert float(forces.detach()[..., 1:].abs().max()) < 1e-12
    step = torch.zeros(1, 3, 3, dtype=torch.float64)
    step[0, 1, 0] = 1e-4
    difference = potential.energy(system, line + step) - potential.energy(system, line - step)
    slope = float(difference.detach()) / 2e-4
    assert float(forces[0, 1, 0].detach()) == pytest.approx(-slope, rel=1e-5)
    (energies.sum() + forces.square().sum()).backward()
    gradients = [p.grad for p in potential.parameters() if p.grad is not None]
    assert gradients and all(bool(torch.isfinite(g).all()) for g in gradients)


# Scale factors and presets


def test_fitted_factors_keep_the_variance(ethanol: System, ethanol_positions: Tensor) -> None:
    """Of messages through the sum over neighbours, in the model as it then is."""
    potential = model()
    batch = potential.batch(ethanol, ethanol_positions)
    potential.fit_scale_factors(batch)
    factors = [m for m in potential.modules() if isinstance(m, ScaleFactor)]
    blocks = [m for m in potential.modules() if isinstance(m, TripletInteraction | AtomUpdate)]
    assert len(factors) == 2 * 2 + 2 + 3
    assert len(blocks) == 2 + 2 + 3
    ratios: list[float] = []

    def variance(x: Scaled) -> float:
        values = (x.values * x.factor).reshape(-1, x.values.shape[-1])
        return float(values.var(dim=0).mean())

    def watch(_: object, arguments: tuple[Scaled], keywords: dict, out: Scaled) -> None:
        ratios.append(variance(out) / variance(keywords["reference"]))

    handles = [f.register_forward_hook(watch, with_kwargs=True) for f in factors]  # type: ignore[arg-type]
    with torch.no_grad():
        potential.local_energies(batch)
    for handle in handles:
        handle.remove()
    assert len(ratios) == len(factors)
    assert ratios == pytest.approx([1.0] * len(ratios), rel=1e-6)
    assert any(float(f.value) != 1.0 for f in factors)


def test_factors_stay_where_there_is_nothing_to_fit() -> None:
    potential = model()
    one_atom = potential.batch(System.create([8]), torch.zeros(1, 1, 3, dtype=torch.float64))
    potential.fit_scale_factors(one_atom)
    assert all(float(m.value) == 1.0 for m in potential.modules() if isinstance(m, ScaleFactor))


def test_paper_preset_has_the_layers_of_the_published_configuration() -> None:
    """Counted from ``configs/water/gemnet-T.yml`` of MDsim, which Raja et al. use."""
    width, triplet, bilinear, projected, radial, spherical, elements = 128, 64, 64, 16, 6, 7, 100
    residual = 2 * width * width
    atom_update = projected * width + width * width + 2 * residual
    triplets = width * width + projected * width + width * triplet
    triplets += triplet * projected * bilinear + 2 * bilinear * width
    edges = 3 * width * width + residual
    block = width * width + triplets + 2 * residual + atom_update + edges
    embedding = elements * width + (2 * width + radial) * width
    bases = 3 * radial * projected + radial * spherical * projected
    paper = GemNetT("paper")
    assert paper.n_parameters == embedding + bases + 4 * block + 5 * (atom_update + width)
    assert GemNetT(**paper.hyperparameters).hyperparameters == paper.hyperparameters


def test_arguments_override_the_preset() -> None:
    potential = GemNetT(n_blocks=1, cutoff=4.0)
    assert len(potential.interactions) == 1
    assert potential.cutoff == 4.0
    assert potential.hyperparameters["n_edge"] == GemNetT().hyperparameters["n_edge"]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"preset": "large"}, "preset = 'large'; choose one of small, paper"),
        ({"n_blocks": 0}, "n_blocks = 0 is too small; give at least 1"),
        ({"cutoff": 0.0}, "cutoff = 0.0 Å must be positive"),
        ({"radial_basis": "sine"}, "choose one of bessel, gaussian"),
    ],
)
def test_impossible_hyperparameters_are_refused(arguments: dict, match: str) -> None:
    with pytest.raises(PotentialError, match=match):
        make_potential("gemnet_t", **arguments)


def test_total_energy_keeps_its_digits_beside_a_large_constant(ethanol: System) -> None:
    """The constants are float64 also in a float32 model."""
    potential = GemNetT()
    shift = -4209.123456789
    potential.set_energy_scale(0.5, {1: shift, 6: shift, 8: shift})
    potential.float().double().float()
    far = 100.0 * torch.arange(27.0).reshape(1, 9, 3)
    energy = float(potential.energy(ethanol, far).detach())
    assert energy == pytest.approx(9 * shift, abs=1e-8)


def test_molecules_of_other_size_in_a_batch_change_nothing(ethanol_positions: Tensor) -> None:
    """Arrays padded to the largest number of neighbours give the same numbers."""
    potential = model()
    water = molecule("H2O")
    system = System.create(water.numbers)
    alone = potential.batch(system, torch.from_numpy(water.positions)[None])
    ethanol = System.create(molecule("CH3CH2OH").numbers)
    both = Batch.concatenate([alone, potential.batch(ethanol, ethanol_positions)])
    _, forces_alone = potential.batch_energy_and_forces(alone)
    _, forces = potential.batch_energy_and_forces(both)
    torch.testing.assert_close(forces[:3], forces_alone, rtol=1e-10, atol=1e-12)


# Periodic systems


def crystal() -> tuple[System, Tensor]:
    """Three atoms in a triclinic cell shorter than the cutoff: atoms are their own neighbours."""
    cell = [[4.1, 0.0, 0.0], [0.9, 3.9, 0.0], [-0.6, 0.4, 4.4]]
    positions = torch.tensor([[0.1, 0.2, 0.3], [2.0, 1.9, 2.2], [0.9, 2.3, 0.4]]).double()
    return System.create([8, 1, 6], cell=cell, pbc=True), positions[None]


def test_sampling_form_evaluates_replicas_of_a_crystal_independently() -> None:
    """Bit-identical in any company, equal to the model, and frozen when it is made."""
    potential = model()
    system, positions = crystal()
    replicas = positions + 0.1 * torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(3))
    cells = system.cell * torch.tensor([1.0, 1.02, 0.97]).double()[:, None, None]
    form = potential.for_sampling(system)
    assert form.replica_independent
    energies, forces, stress = form.with_stress(replicas, cells)
    exact = potential.energy_forces_and_stress(system, replicas, cells)
    for found, expected in zip((energies, forces, stress), exact, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    local = form.atomic_energies(replicas, cells)
    torch.testing.assert_close(local.sum(dim=1), energies, rtol=1e-9, atol=1e-10)
    alone = form(replicas[1:2], cells[1:2])
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.mul_(1.1)
    again = form(replicas[[2, 1]], cells[[2, 1]])
    assert torch.equal(again[0][1:], alone[0])
    assert torch.equal(again[1][1:], alone[1])
