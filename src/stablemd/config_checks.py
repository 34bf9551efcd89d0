"""Checks of a configuration that concern more than one key."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from stablemd.config_errors import as_error, config_error
from stablemd.errors import ConfigError, PotentialError
from stablemd.potentials import POTENTIALS, make_potential
from stablemd.potentials.adapters import PATHLESS, format_of
from stablemd.potentials.adapters.base import AdaptedPotential

if TYPE_CHECKING:
    from stablemd.config import RunConfig


def check_hyperparameters(
    name: str,
    hyperparameters: Mapping[str, Any],
    source: str,
    place: str = "potential.hyperparameters",
) -> None:
    """Check hyper-parameters against the architecture's constructor, names, types and ranges.

    Raises:
        ConfigError: naming the key under ``place``.
        MissingDependencyError: the architecture is of a package that is not there.
    """
    prefix = f"{place}."
    model = hyperparameter_model(name)
    try:
        values = model.model_validate(dict(hyperparameters)).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise config_error(model, error, hyperparameters, source, prefix) from error
    try:
        # Building one draws weights, and the program's own random numbers stay as they are.
        with torch.random.fork_rng(devices=[]):
            make_potential(name, **values)
    except PotentialError as error:
        raise ConfigError(f"{source}: {prefix.rstrip('.')}: {error}") from error


def hyperparameter_model(name: str) -> type[BaseModel]:
    """The constructor's arguments of an architecture as a settings class."""
    constructor = POTENTIALS[name].__init__
    hints = get_type_hints(constructor)
    fields: dict[str, Any] = {
        key: (hints.get(key, Any), ... if p.default is inspect.Parameter.empty else p.default)
        for key, p in list(inspect.signature(constructor).parameters.items())[1:]
    }
    model: type[BaseModel] = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    return model


def check_combinations(config: RunConfig, source: str, prefix: str = "") -> None:
    """Check what single keys can't show.

    Args:
        config: of the main state point, or of a further one.
        source: where the values come from, for messages.
        prefix: of every message, which says what they are about.

    Raises:
        ConfigError: with every contradiction.
    """
    messages = [f"{prefix}{message}" for message in _contradictions(config)]
    if messages:
        raise as_error(messages, source)


def _contradictions(config: RunConfig) -> Iterator[str]:
    yield from _of_data(config)
    yield from _of_potential(config)
    yield from _of_state_points(config)
    yield from _of_device(config.device)
    stable, evaluation = config.stable, config.evaluation
    if stable.target_failed >= stable.max_failed:
        yield (
            f"stable.target_failed is {stable.target_failed}; expected less than "
            f"stable.max_failed = {stable.max_failed}"
        )
    if stable.record_every > stable.learning_steps:
        yield (
            f"stable.record_every is {stable.record_every}; expected at most "
            f"stable.learning_steps = {stable.learning_steps}, or no frame is recorded"
        )
    if stable.remembered_failures and stable.failing_share == 0.0:
        yield (
            f"stable.remembered_failures is {stable.remembered_failures} with "
            "stable.failing_share = 0; expected a share above 0, or no failure is copied"
        )
    most = stable.max_failed * stable.n_replicas + stable.remembered_failures
    if stable.enough_failures is not None and stable.enough_failures >= most:
        yield (
            f"stable.enough_failures is {stable.enough_failures}; expected less than {most:g} "
            "(max_failed * n_replicas + remembered_failures), where max_failed ends a phase first"
        )
    groups = stable.neighbourhood_groups
    if (groups is not None) != (stable.neighbourhoods == "given"):
        yield (
            f"stable.neighbourhood_groups is {'null' if groups is None else 'set'} with "
            f"stable.neighbourhoods = {stable.neighbourhoods}; expected groups with given, and "
            "null with the others"
        )
    length_fs = 1000.0 * evaluation.length_ps
    if evaluation.discard_fs + evaluation.record_every_fs > length_fs:
        yield (
            f"evaluation.discard_fs is {evaluation.discard_fs:.10g} and evaluation.record_every_fs "
            f"is {evaluation.record_every_fs:g}; expected less than evaluation.length_ps = "
            f"{evaluation.length_ps:g} ps together, or no frame is left for the observables"
        )
    yield from _of_evaluation(config)
    if config.simulation.record_every_fs > 1000.0 * config.simulation.length_ps:
        yield (
            f"simulation.record_every_fs is {config.simulation.record_every_fs:g}; expected at "
            f"most simulation.length_ps = {config.simulation.length_ps:g} ps"
        )


def _of_evaluation(config: RunConfig) -> Iterator[str]:
    evaluation = config.evaluation
    left_ps = evaluation.length_ps - 1e-3 * evaluation.discard_fs
    for index, choice in enumerate(evaluation.dynamical):
        place = f"evaluation.dynamical.{index}"
        if choice.path_ps > left_ps * (1.0 + 1e-9):
            yield (
                f"{place}.path_ps is {choice.path_ps:g}; expected at most {left_ps:g}, which is "
                "evaluation.length_ps less evaluation.discard_fs"
            )
        if choice.longest_lag_fs < evaluation.record_every_fs:
            yield (
                f"{place} looks at lags up to {choice.longest_lag_fs:g} fs; expected at least "
                f"evaluation.record_every_fs = {evaluation.record_every_fs:g}, the time between "
                "frames"
            )
    integrator = evaluation.dynamics.integrator
    for index, measured in enumerate(evaluation.thermodynamic):
        if measured.needs_constant_volume and integrator in ("nve", "cell_rescaling"):
            yield (
                f"evaluation.thermodynamic.{index} is {measured.name} and "
                f"evaluation.dynamics.integrator is {integrator}; expected langevin, csvr or "
                "nose_hoover, whose energies fluctuate as the formula wants it"
            )


def _of_data(config: RunConfig) -> Iterator[str]:
    data = config.data
    if data.reference is not None and data.n_reference is not None:
        yield (
            f"data.reference and data.n_reference are both set ({data.reference}, "
            f"{data.n_reference}); expected one of them at most"
        )
    if data.gap and not data.contiguous:
        yield f"data.gap is {data.gap}; expected 0, since data.contiguous is false"
    if data.reference is None:
        for key in ("reference_energy_unit", "reference_length_unit", "reference_keys"):
            if getattr(data, key) is not None:
                yield f"data.{key} is set, but data.reference is not; it belongs to that file"


def _of_state_points(config: RunConfig) -> Iterator[str]:
    seen: dict[str, str] = {}
    for index, name in enumerate(config.state_point_names):
        first = seen.setdefault(name.casefold(), f"state_points.{index}.name")
        if first != f"state_points.{index}.name":
            yield (
                f"state_points.{index}.name is {name!r}, and so is {first}; expected another "
                "name for each (upper and lower case count alike)"
            )


def _of_potential(config: RunConfig) -> Iterator[str]:
    potential = config.potential
    if potential.format in PATHLESS and potential.path is not None:
        yield (
            f"potential.path is {potential.path}; expected null with potential.format = "
            f"{potential.format}, whose models get their files under potential.options"
        )
    outside = potential.format or (potential.path and format_of(potential.path))
    if potential.options and not outside:
        yield (
            "potential.options are set, but the model is not of another package; expected {}, or "
            "a potential.format"
        )
    if potential.terms and (outside or potential.has_model):
        yield (
            "potential.terms are set with a trained model; expected [], since its file has no "
            "place for them: add a term to a fresh model, or in Python (model + ZBL())"
        )
    if potential.terms and issubclass(POTENTIALS[potential.name], AdaptedPotential):
        yield (
            f"potential.terms are set with {potential.name}, which is saved in its package's own "
            "format; expected []"
        )


def _of_device(name: str) -> Iterator[str]:
    try:
        device = torch.device(name)
    except RuntimeError:
        yield f"device is {name!r}; expected cpu, cuda or cuda:N"
        return
    if device.type not in ("cpu", "cuda"):
        yield f"device is {name!r}; expected cpu, cuda or cuda:N"
    elif device.type == "cuda":
        n_devices = torch.cuda.device_count()
        if n_devices == 0:
            yield f"device is {name!r}, but PyTorch finds no CUDA device here; use cpu"
        elif (device.index or 0) >= n_devices:
            yield f"device is {name!r}; expected cuda:0 to cuda:{n_devices - 1}"
