"""The folder of `avar vas --out`: vas.json, index.html and figures/, all of one measurement or none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from flows.vas.correlation import read_object
from schemas.errors import ConfigError
from schemas.shards import STAGING, disk_errors, write_json, write_text

if TYPE_CHECKING:
    from flows.vas.run import VasRun

FORMAT = "avar vas 1"  # marks a folder's vas.json as ours
RESULT_FILE, PAGE_FILE, FIGURES = "vas.json", "index.html", "figures"


@contextmanager
def output_folder(out: Path) -> Iterator[Path]:
    """A staging folder; its files take the place of an earlier result in `out` when the context ends well.

    Raises: ConfigError: `out` holds anything but an earlier result. ShardError: it cannot be written.
    """
    staging, is_new = out / STAGING, not out.exists()
    with disk_errors(out):
        if not is_new and not _is_free(out):
            raise ConfigError(f"{out}: not empty, and not a result of avar vas; choose another --out")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    try:
        yield staging
        with disk_errors(out):
            for name in (FIGURES, PAGE_FILE, RESULT_FILE):
                if (out / name).is_dir():
                    shutil.rmtree(out / name)
                (staging / name).replace(out / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # a failure leaves no empty folder behind; a result is not empty
                out.rmdir()


def _is_free(out: Path) -> bool:
    """True where nothing but an earlier result, whole or half put in place, would be replaced."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else {""}
    if not names:
        return True
    figures = [path.suffix for path in (out / FIGURES).iterdir()] if FIGURES in names else []
    if names - {RESULT_FILE, PAGE_FILE, FIGURES, STAGING} or set(figures) - {".png"}:
        return False
    return STAGING in names or (RESULT_FILE in names and _is_ours(out / RESULT_FILE))


def _is_ours(file: Path) -> bool:
    try:
        return read_object(file).get("format") == FORMAT
    except ConfigError:
        return False


def write_run(run: VasRun, folder: Path) -> None:
    from flows.vas.figures import draw_figures
    from flows.vas.page import render_page

    figures = draw_figures(run.reports, run.correlation)
    with disk_errors(folder):
        (folder / FIGURES).mkdir()
        for name, png in figures.items():
            (folder / FIGURES / f"{name}.png").write_bytes(png)
    write_text(folder / PAGE_FILE, render_page(run, figures, date.today()))
    write_json(folder / RESULT_FILE, run.to_dict())
