"""The conditions of a run, row by row, in the words of its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from stablemd.config_checks import hyperparameter_model
from stablemd.potentials.adapters.nequip import PRESETS

Config = Mapping[str, Any]
Row = tuple[str, str]


def conditions(config: Config, pretraining: Mapping[str, Any] | None) -> list[Row]:
    """Name and value of every condition that another set-up would have to match.

    Args:
        config: the resolved configuration.
        pretraining: ``pretrain`` of metrics.json, if the run pretrained its model.
    """
    return [
        *_of_data(config["data"]),
        *_of_model(config, pretraining),
        *_of_dynamics(config),
        *_of_training(config["stable"]),
        ("evaluation", _evaluation(config["evaluation"])),
    ]


def short_path(path: str) -> str:
    """The last two parts of a path: which file it is, without the machine it is on."""
    return "/".join(PurePath(path).parts[-2:])


def _of_data(data: Config) -> Iterator[Row]:
    test = f"{data['n_test']} for tests" if data["n_test"] else "the others for tests"
    order = "in the order of time" if data["contiguous"] else "at random"
    yield (
        "data",
        f"{short_path(data['path'])}: {data['n_train']} training and {data['n_validation']} "
        f"validation structures, {test}; split {order}",
    )
    if data["reference"] is not None:
        reference = short_path(data["reference"])
    elif data["n_reference"] is not None:
        reference = f"{data['n_reference']} further structures of the same file"
    else:
        reference = (
            "the training and validation structures, nothing more; in the evaluation the test "
            "structures"
        )
    yield "observable reference", reference


def _of_model(config: Config, pretraining: Mapping[str, Any] | None) -> Iterator[Row]:
    potential, settings = config["potential"], config["pretrain"]
    if pretraining is None:
        yield "model", f"{short_path(potential['path'])}, trained elsewhere"
        return
    defaults = {
        key: field.default
        for key, field in hyperparameter_model(potential["name"]).model_fields.items()
        if (key == "cutoff" or key.startswith("n_")) and field.default is not None
    }
    preset = _preset(potential)
    chosen = {**defaults, **preset, **potential["hyperparameters"]}
    values = ", ".join(_hyperparameter(*item) for item in chosen.items())
    names = {"schnet": "SchNet", "nequip": "NequIP", "gemnet_t": "GemNet-T"}
    name = names.get(potential["name"], potential["name"])
    size = f"{name}, {pretraining['n_parameters']:,} parameters"
    yield "model", f"{size}; {values}"
    loss = settings["loss"]
    per_atom = " per atom" if loss["energy_per_atom"] else ""
    yield (
        "pretraining loss",
        f"{loss['energy_weight']:g} MSE(E{per_atom}) + {loss['force_weight']:g} MSE(F), "
        "in eV and eV/Å",
    )
    yield (
        "pretraining",
        f"Adam, rate {settings['learning_rate']:g}, batches of {settings['batch_size']}; best of "
        f"{pretraining['n_epochs']:,} epochs ({pretraining['stop_reason']})",
    )


def _preset(potential: Config) -> Config:
    """What the preset of a NequIP stands for; other presets have their defaults."""
    if potential["name"] != "nequip":
        return {}
    return PRESETS[potential["preset"] or "paper"]


def _hyperparameter(key: str, value: Any) -> str:
    if key == "cutoff":
        return f"cutoff {value:g} Å"
    if key.startswith("n_"):
        return f"{value} {key.removeprefix('n_').replace('gaussians', 'Gaussians')}"
    return f"{key} {value}"


def _of_dynamics(config: Config) -> Iterator[Row]:
    training, evaluation = config["stable"]["dynamics"], config["evaluation"]["dynamics"]
    for name, key, unit in (("temperature", "temperature_k", "K"), ("time step", "dt_fs", "fs")):
        values = [training[key], evaluation[key]]
        text = f"{values[0]:g} {unit}"
        if values[0] != values[1]:
            text = f"{text} in training, {values[1]:g} {unit} in evaluation"
        yield name, text
    yield "thermostat in training", _thermostat(training)
    yield "thermostat in evaluation", _thermostat(evaluation)
    yield "failed in training", _failure(training)
    yield "failed in evaluation", _failure(evaluation)


def _thermostat(dynamics: Config) -> str:
    return {
        "langevin": f"Langevin (BAOAB), friction {dynamics['friction_per_ps']:g}/ps",
        "nose_hoover": f"Nosé–Hoover chain, relaxation time {dynamics['tau_fs']:g} fs",
        "csvr": f"CSVR, relaxation time {dynamics['tau_fs']:g} fs",
        "cell_rescaling": f"CSVR and stochastic cell rescaling at {dynamics['pressure_bar']:g} bar",
        "nve": "none (constant energy)",
    }[dynamics["integrator"]]


def _failure(dynamics: Config) -> str:
    seen = f"not finite; seen within {dynamics['check_every'] * dynamics['dt_fs']:g} fs"
    if dynamics["detectors"] is not None:
        return f"{'; '.join(map(_detector, dynamics['detectors']))}; or {seen}"
    limit = dynamics["max_temperature_k"] or 20.0 * dynamics["temperature_k"]
    return (
        f"a bond {dynamics['bond_threshold']:g} Å off its mean length, above {limit:,.0f} K, or "
        f"{seen}"
    )


def _detector(settings: Config) -> str:
    values = [f"{k} {v}" for k, v in settings.items() if k != "name" and v is not None]
    if settings["name"] == "bond_length" and settings["threshold"] is not None:
        return f"a bond {settings['threshold']:g} Å off its mean length"
    if settings["name"] == "temperature":
        return f"above {settings['max_temperature_k']:,.0f} K"
    if settings["name"] == "intermolecular_distance" and settings["min_distance"] is not None:
        return f"atoms of two molecules within {settings['min_distance']:g} Å"
    return f"{settings['name'].replace('_', ' ')} ({', '.join(values)})"


def _of_training(stable: Config) -> Iterator[Row]:
    dt_ps = stable["dynamics"]["dt_fs"] * 1e-3
    yield "replicas in training", f"{stable['n_replicas']}"
    yield (
        "simulation phase",
        f"fresh replicas; up to {stable['max_windows']} windows of "
        f"{stable['simulation_steps'] * dt_ps:g} ps, ended by "
        f"{100 * stable['max_failed']:g} % failed",
    )
    rewind = stable["rewind_steps"]
    before = f"{rewind * dt_ps * 1e3:g} fs before each failure" if rewind else "start of the window"
    yield (
        "start of learning",
        f"{before}; {100 * stable['failing_share']:g} % of the replicas from failed ones",
    )
    yield (
        "learning epoch",
        f"{stable['learning_steps']} steps ({stable['learning_steps'] * dt_ps:g} ps), frames every "
        f"{stable['record_every']} steps",
    )
    optimizer = {"adam": "Adam", "sgd": "SGD"}[stable["optimizer"]]
    yield (
        "optimizer",
        f"{optimizer}, rate {stable['learning_rate']:g}, up to {stable['steps_per_epoch']} "
        "reweighted steps per epoch",
    )
    if stable["estimator"] != "boltzmann":
        yield "estimator", f"{stable['estimator']}, by {stable['neighbourhoods']}"
    yield "trained observables", ", ".join(_observable(o) for o in stable["observables"])
    anchor = stable["anchor_weight"]
    kept = f"; change of forces on the model's own stable frames with weight {anchor:g}"
    yield (
        "labels in training",
        f"energy and force loss with weight {stable['label_weight']:g}" + (kept if anchor else ""),
    )
    yield "error budget", _budget(stable)
    limit = stable["max_minutes"]
    yield (
        "length of training",
        f"up to {stable['max_cycles']} cycles of up to {stable['max_learning_epochs']} epochs"
        + (f", {limit:g} minutes at most" if limit is not None else ""),
    )


def _observable(settings: Config) -> str:
    if settings["name"] == "distance_distribution":
        return f"h(r) up to {settings['r_max']:g} Å in {settings['n_bins']} bins"
    if settings["name"] == "rdf":
        pair = "–".join(settings["pair"] or ("all",))
        return f"RDF {pair} up to {settings['r_max']:g} Å"
    return str(settings["name"]).replace("_", " ")


def _budget(stable: Config) -> str:
    parts = [
        f"{name} MAE on validation structures at most {stable[key]:g} times that of the start"
        for name, key in (("force", "force_mae_budget"), ("energy", "energy_mae_budget"))
        if stable[key] is not None
    ]
    return "; ".join(parts) or "none"


def _evaluation(evaluation: Config) -> str:
    return f"{evaluation['n_replicas']} replicas of up to {evaluation['length_ps']:g} ps"
