"""The files of nequip: checkpoints of training runs, and packages.

A package (``torch.package``) holds the model with the code that it was made with;
saving it again keeps that code and changes the weights.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.package import PackageExporter, PackageImporter, sys_importer

from stablemd.errors import PotentialError
from stablemd.potentials.adapters.packages import NEQUIP

PACKAGE_SUFFIX = ".nequip.zip"
CHECKPOINT_SUFFIX = ".ckpt"
EAGER = "eager"
PACKAGE_VERSION = 2
"""Of the layout that ``new_package`` writes."""


@dataclass(frozen=True)
class NequIPFile:
    """A file as it was read.

    Attributes:
        suffix: ``.nequip.zip`` or ``.ckpt``.
        content: all of it.
        key: which of its models is meant.
    """

    suffix: str
    content: bytes
    key: str

    def with_weights(self, model: nn.Module) -> bytes:
        """The same file with other weights of this model."""
        state = {k: v.detach().cpu() for k, v in model.state_dict().items()}
        if self.suffix == CHECKPOINT_SUFFIX:
            return self._checkpoint(state, [name for name, _ in model.named_parameters()])
        return self._package(state)

    def _checkpoint(self, state: Mapping[str, Tensor], parameters: Sequence[str]) -> bytes:
        checkpoint = torch.load(io.BytesIO(self.content), map_location="cpu", weights_only=False)
        stored = checkpoint["state_dict"]
        prefix = f"model.{self.key}."
        for name, value in state.items():
            if prefix + name in stored:
                stored[prefix + name] = value
        # The averaged weights, which nequip prefers, are numbered in the order of parameters.
        if any(name.startswith("ema.ema_weight_") for name in stored):
            for index, name in enumerate(parameters):
                stored[f"ema.ema_weight_{index}"] = state[name]
        stream = io.BytesIO()
        torch.save(checkpoint, stream)
        return stream.getvalue()

    def _package(self, state: Mapping[str, Tensor]) -> bytes:
        with _quiet():
            importer = PackageImporter(io.BytesIO(self.content))
            metadata = yaml.safe_load(importer.load_text("model", "package_metadata.txt"))
            stream = io.BytesIO()
            with PackageExporter(stream, importer=(importer, sys_importer)) as exporter:
                _declare_modules(exporter)
                example = importer.load_pickle("model", "example_data.pkl")
                exporter.save_pickle("model", "example_data.pkl", example, dependencies=True)
                for name in ("config.yaml", "package_metadata.txt"):
                    exporter.save_text("model", name, importer.load_text("model", name))
                for mode in metadata["available_models"]:
                    models = importer.load_pickle("model", f"{mode}_model.pkl", map_location="cpu")
                    models[self.key].load_state_dict(dict(state))
                    exporter.save_pickle("model", f"{mode}_model.pkl", models, dependencies=True)
        return stream.getvalue()


def read_model_file(path: Path, key: str) -> tuple[nn.Module, NequIPFile]:
    """A ``GraphModel`` and the file it came from; within ``initialized_nequip``.

    Raises:
        PotentialError: the file can't be read, or has no model of that name.
    """
    suffix = PACKAGE_SUFFIX if path.name.endswith(PACKAGE_SUFFIX) else CHECKPOINT_SUFFIX
    load = NEQUIP.load("model.saved_models.load_utils").load_saved_model
    try:
        with _quiet():
            models = load(str(path), EAGER, None)
    except Exception as error:
        raise PotentialError(
            f"{path}: nequip can't read it ({type(error).__name__}: {error}); give a checkpoint "
            "of nequip-train (.ckpt) or a package of nequip-package (.nequip.zip)"
        ) from error
    if key not in models:
        raise PotentialError(
            f"{path}: holds the models {sorted(models)}, and {key!r} was asked for; name one of "
            "them as potential.options.model"
        )
    if len(models) > 1 and suffix == CHECKPOINT_SUFFIX:
        raise PotentialError(
            f"{path}: is a checkpoint of {len(models)} models, whose weights can't be put back "
            "one by one; make a package of it with nequip-package and give that"
        )
    return models[key], NequIPFile(suffix, path.read_bytes(), key)


def new_package(model: nn.Module) -> bytes:
    """A package of a model that was built by the installed nequip."""
    versions = NEQUIP.load("utils.versions").get_current_code_versions(verbose=False)
    type_names: list[str] = list(model.type_names)  # type: ignore[arg-type]
    metadata = {
        "versions": versions,
        "external_modules": {},
        "package_version_id": PACKAGE_VERSION,
        "available_models": [EAGER],
        "atom_types": dict(enumerate(type_names)),
    }
    device = next(model.parameters()).device
    sole = NEQUIP.load("train.lightning")._SOLE_MODEL_KEY
    models = nn.ModuleDict({sole: model})
    stream = io.BytesIO()
    try:
        model.to("cpu")
        with _quiet(), PackageExporter(stream, importer=(sys_importer,)) as exporter:
            _declare_modules(exporter)
            exporter.save_pickle(
                "model", "example_data.pkl", _example_data(model), dependencies=True
            )
            exporter.save_text("model", "config.yaml", "{}\n")
            exporter.save_text("model", "package_metadata.txt", yaml.safe_dump(metadata))
            exporter.save_pickle("model", f"{EAGER}_model.pkl", models, dependencies=True)
    finally:
        model.to(device)
    return stream.getvalue()


def _example_data(model: nn.Module) -> Any:
    """A structure of all elements, which nequip-compile traces the model with."""
    from ase import Atoms

    utils = NEQUIP.load("integrations.utils")
    data = NEQUIP.load("data")
    metadata: dict[str, str] = model.metadata  # type: ignore[assignment]
    names, cutoff = metadata["type_names"].split(), float(metadata["r_max"])
    n = max(6, len(names))
    positions = np.stack([0.9 * np.arange(n), np.arange(n) % 2, np.arange(n) % 3], axis=1)
    atoms = Atoms([names[k % len(names)] for k in range(n)], positions, cell=np.eye(3) * 100.0)
    example = data.from_ase(atoms)
    for transform in utils.basic_transforms(
        metadata, cutoff, names, {name: name for name in names}
    ):
        example = transform(example)
    return data.AtomicDataDict.with_batch_(example)


def _declare_modules(exporter: PackageExporter) -> None:
    names = NEQUIP.load("scripts._package_utils")
    exporter.mock([f"{name}.**" for name in names._MOCK_MODULES])
    exporter.extern([f"{name}.**" for name in names._EXTERNAL_MODULES])
    exporter.intern([f"{name}.**" for name in names._INTERNAL_MODULES])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of torch.package about its own storages."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TypedStorage is deprecated")
        yield
