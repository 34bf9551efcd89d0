"""How a command ends: errors as messages, an interruption with a way to go on."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from stablemd.errors import StablemdError

USAGE_ERROR = 2
SYSTEM_ERROR = 1
INTERRUPTED = 130

Command = TypeVar("Command", bound=Callable[..., None])


def guarded(command: Command) -> Command:
    """Turn the package's errors into red messages, and end with the right exit code.

    0 is success, 2 an error that the message explains, 1 a failure of the system (a
    full disk), 130 an interruption with Ctrl-C.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        _show_warnings()
        try:
            command(*args, **kwargs)
        except StablemdError as error:
            if kwargs.get("debug"):
                raise
            _red("Error", str(error))
            raise typer.Exit(USAGE_ERROR) from error
        except OSError as error:
            if kwargs.get("debug"):
                raise
            _red("Error", str(error))
            raise typer.Exit(SYSTEM_ERROR) from error
        except KeyboardInterrupt as error:
            _red("Interrupted", _way_on(command.__name__, kwargs))
            raise typer.Exit(INTERRUPTED) from error

    return run  # type: ignore[return-value]


def _way_on(name: str, given: dict[str, Any]) -> str:
    if name not in ("pretrain", "train", "evaluate"):
        return f"results so far are incomplete; run stablemd {name} again to replace them"
    words = ["stablemd", name, str(given.get("config", "CONFIG"))]
    for override in given.get("set_") or []:
        words += ["--set", f"'{override}'"]
    for option in ("model", "device", "seed", "out"):
        if given.get(option) is not None:
            words += [f"--{option}", str(given[option])]
    return f"nothing that was finished is lost; go on with\n  {' '.join([*words, '--resume'])}"


def _red(title: str, text: str) -> None:
    from rich.console import Console
    from rich.text import Text

    message = Text.assemble((f"{title}: ", "bold red"), (text, "red"))
    Console(stderr=True).print(message, soft_wrap=True)


def _show_warnings() -> None:
    """Warnings of the package go to the terminal."""
    from rich.logging import RichHandler

    logger = logging.getLogger("stablemd")
    if not any(isinstance(handler, RichHandler) for handler in logger.handlers):
        from rich.console import Console

        logger.addHandler(
            RichHandler(
                logging.WARNING,
                console=Console(stderr=True),
                show_time=False,
                show_path=False,
            )
        )
