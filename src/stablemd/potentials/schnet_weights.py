"""SchNet weights as other programs write them.

Two layouts are known.  ``torch_geometric.nn.SchNet`` stores each filter
network twice (``interactions.k.mlp`` and its alias ``interactions.k.conv.nn``)
and its energies are in the units it was trained in.  Checkpoints of Open
Catalyst descendants, such as MDsim's, wrap the same names in ``module.`` and
add ``normalizers`` for the energy (``target``) and the forces (``grad_target``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials.schnet import SchNet

_BLOCK_NAMES = {
    "filter.first": "mlp.0",
    "filter.second": "mlp.2",
    "project_in": "conv.lin1",
    "project_out": "conv.lin2",
    "update": "lin",
}
_OUTER_NAMES = {"embedding": "embedding", "readout_hidden": "lin1", "readout_energy": "lin2"}


def schnet_from_weights(
    weights: Mapping[str, Any], *, cutoff: float | None = None, n_atoms: int | None = None
) -> SchNet:
    """A SchNet with the weights of a torch_geometric model or an MDsim checkpoint.

    Args:
        weights: a state dict, or a checkpoint with ``state_dict``.
        cutoff: Å; needed for a bare state dict without ``distance_expansion.offset``.
        n_atoms: atoms per structure; needed where the checkpoint normalizes
            total energies, whose mean is then spread over the atoms.

    Returns:
        The model.  With normalizers, the energy scale is the forces' one, so
        that forces are the gradient of the energy.

    Raises:
        PotentialError: a name is missing, a shape does not fit, or an argument is needed.
    """
    state = _bare_names(weights.get("state_dict", weights))
    n_interactions = _count_interactions(state)
    if n_interactions == 0:
        raise PotentialError(
            "these weights are not a SchNet: no key starts with 'interactions.0.'; "
            f"keys begin with {sorted(state)[:5]}"
        )
    features = _need(state, "embedding.weight").shape[1]
    filters, n_gaussians = _need(state, "interactions.0.mlp.0.weight").shape
    model = SchNet(
        n_features=features,
        n_filters=filters,
        n_interactions=n_interactions,
        n_gaussians=n_gaussians,
        cutoff=_find_cutoff(weights, state, cutoff),
    ).to(state["embedding.weight"].dtype)
    own = model.state_dict()
    for name in own:
        if name not in ("gaussian_centres", "energy_scale", "atomic_shift"):
            own[name] = _need(state, _foreign_name(name))
    _load(model, own)
    _apply_normalizers(model, weights.get("normalizers"), n_atoms)
    return model


def to_torch_geometric(model: SchNet) -> dict[str, Tensor]:
    """The network's weights under torch_geometric's names, for its ``load_state_dict``.

    The energy scale and the atomic shifts have no place there and are left out.
    """
    own = model.state_dict()
    out: dict[str, Tensor] = {"distance_expansion.offset": own["gaussian_centres"]}
    for name, value in own.items():
        if name in ("gaussian_centres", "energy_scale", "atomic_shift"):
            continue
        foreign = _foreign_name(name)
        out[foreign] = value
        if ".mlp." in foreign:
            out[foreign.replace(".mlp.", ".conv.nn.")] = value
    return out


def _bare_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    bare = {}
    for name, value in state.items():
        while name.startswith("module."):
            name = name.removeprefix("module.")
        bare[name] = value
    for name in list(bare):
        if ".conv.nn." in name:
            bare.setdefault(name.replace(".conv.nn.", ".mlp."), bare[name])
    return bare


def _count_interactions(state: Mapping[str, Tensor]) -> int:
    return len({name.split(".")[1] for name in state if name.startswith("interactions.")})


def _foreign_name(name: str) -> str:
    if name.startswith("interactions."):
        _, index, rest = name.split(".", 2)
        part, kind = rest.rsplit(".", 1)
        return f"interactions.{index}.{_BLOCK_NAMES[part]}.{kind}"
    part, kind = name.rsplit(".", 1)
    return f"{_OUTER_NAMES[part]}.{kind}"


def _need(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise PotentialError(
            f"SchNet weights: {name!r} is missing; known layouts are torch_geometric's "
            "state dict and MDsim checkpoints"
        )
    return state[name]


def _find_cutoff(
    weights: Mapping[str, Any], state: Mapping[str, Tensor], cutoff: float | None
) -> float:
    attributes = weights.get("config", {}).get("model_attributes", {})
    offsets = state.get("distance_expansion.offset")
    stated = attributes.get("cutoff") or (None if offsets is None else round(float(offsets[-1]), 5))
    if cutoff is None and stated is None:
        raise PotentialError("SchNet weights state no cutoff; give cutoff in Å")
    if cutoff is not None and stated is not None and abs(cutoff - stated) > 1e-4:
        raise PotentialError(
            f"SchNet weights were made with a cutoff of {stated} Å, but {cutoff} Å was given"
        )
    return float(cutoff if cutoff is not None else stated)  # type: ignore[arg-type]


def _load(model: SchNet, state: Mapping[str, Tensor]) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise PotentialError(f"SchNet weights do not fit: {error}") from error


def _apply_normalizers(model: SchNet, normalizers: Any, n_atoms: int | None) -> None:
    if not normalizers:
        return
    if n_atoms is None:
        raise PotentialError(
            "these SchNet weights normalize the total energy; give n_atoms of the structures "
            "they were trained on, so that the mean energy can be spread over the atoms"
        )
    mean = float(normalizers["target"]["mean"]) / n_atoms
    scale = float(normalizers.get("grad_target", normalizers["target"])["std"])
    with torch.no_grad():
        model.energy_scale.fill_(scale)
        model.atomic_shift.fill_(mean)
