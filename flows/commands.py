"""What several commands share: options, recipes by name, and how results are printed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from schemas.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from schemas.config import Recipe

F = TypeVar("F", bound=Callable[..., Any])


class Folder(click.Path):
    """A path as a command's argument; a name that no file system takes is bad usage."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(str(super().convert(value, param, ctx)))
        try:
            path.exists()
        except (OSError, ValueError) as error:
            self.fail(f"{str(path)[:80]!r} is no path: {error.__class__.__name__}", param, ctx)
        return path


def out_option(default: str) -> Callable[[F], F]:
    """`--out`, with the words that its help says the default in."""
    return click.option("--out", type=Folder(), default=None, help=f"Folder; {default}.")


set_option = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY.SUB=VALUE",
    help="Override a recipe's key; repeatable.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object, last, on standard output."
)


report_option = click.option(
    "--report-to",
    "report_to",
    multiple=True,
    metavar="NAME",
    help="Where figures go, as in transformers: tensorboard, wandb, mlflow, trackio, all, none; repeatable, "
    "or a list with commas.",
)
resume_option = click.option(
    "--resume", is_flag=True, help="Go on from the latest checkpoint in --out (save_every keeps them)."
)


def split_names(given: tuple[str, ...]) -> tuple[str, ...]:
    """The names of an option that is repeatable and takes lists with commas."""
    return tuple(name.strip() for part in given for name in part.split(",") if name.strip())


def is_main_process() -> bool:
    """False in the further processes of `accelerate launch`, which write and print nothing."""
    return os.environ.get("RANK", "0") == "0"


def find_recipe(name: str, assignments: tuple[str, ...]) -> Recipe:
    """The recipe of a shipped name, a file or a run's folder, with `--set` applied."""
    from flows.recipes import load_recipe

    return load_recipe(name, assignments)


def local_folder(path: Path) -> Path:
    """Raises: ConfigError: the path is a URL."""
    if ":/" in str(path):
        raise ConfigError(f"--out {path}: only local folders can be written")
    return path


def open_console() -> Console:
    """Where people read."""
    from rich.console import Console

    return Console()


def write_json_line(value: dict[str, Any]) -> None:
    """The object of `--json`, on one line of standard output."""
    from flows.report import print_json

    print_json(value)
