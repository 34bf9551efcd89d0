"""Objects named in configurations as ``module:name``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from stablemd.errors import PotentialError


def make_named(name: str, arguments: Mapping[str, Any], key: str) -> Any:
    """Call what ``module:name`` means with arguments.

    Args:
        name: e.g. ``ase.calculators.emt:EMT``.
        arguments: by name.
        key: the configuration's key, for messages.

    Raises:
        PotentialError: there is no such thing, or it refuses the arguments.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise PotentialError(
            f"{key} is {name!r}; expected module:name, e.g. ase.calculators.emt:EMT"
        )
    try:
        made = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PotentialError(
            f"{key} is {name!r}, which can't be imported ({error}); is its package installed?"
        ) from error
    try:
        return made(**arguments)
    except Exception as error:
        raise PotentialError(
            f"{key} is {name!r}; calling it with {dict(arguments)} failed: "
            f"{type(error).__name__}: {error}"
        ) from error
