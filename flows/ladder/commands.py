"""`avar ladder`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from flows.commands import json_option, local_folder, open_console, out_option, set_option, write_json_line


@click.command()
@click.option("--preset", default="cpu", show_default=True, metavar="cpu|gpu", help="How large it all is.")
@click.option(
    "--seeds", type=click.IntRange(1, 64), default=None, help="Initialisations; the preset's by default."
)
@out_option("runs/ladder-PRESET by default")
@set_option
@json_option
def ladder(
    preset: str, seeds: int | None, out: Path | None, assignments: tuple[str, ...], as_json: bool
) -> None:
    """Does the method work? Trains small students from scratch, rung by rung, and says which claims held.

    Finished rungs stay: the same command goes on where one stopped, and --seeds and --set arms=[...] extend.

    \b
    Example:
        avar ladder --out runs/ladder
        avar ladder --preset gpu --seeds 5 --json
        avar ladder --set 'arms=[traces,paper,plain]' --set jobs=1
    """
    from flows.ladder.report import claim_lines, ladder_table, opening
    from flows.ladder.run import PAGE_FILE, ladder_settings, run_ladder
    from flows.recipes import parse_assignments

    started = time.monotonic()
    settings = ladder_settings(preset, seeds, parse_assignments(assignments))
    out = local_folder(out or Path("runs") / f"ladder-{preset}")
    result = run_ladder(settings, preset, out, ["avar", *sys.argv[1:]])
    if as_json:
        write_json_line(result | {"seconds": round(time.monotonic() - started, 1)})
        return
    console = open_console()
    console.print(ladder_table(result))
    for line in [*opening(result), *claim_lines(result)]:
        console.print(line, markup=False, highlight=False)
    console.print(f"report: {out / PAGE_FILE}", markup=False, highlight=False)
