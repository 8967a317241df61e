"""The page of `avar vas`: one HTML file that holds everything it shows and asks nothing of any server."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from flows.vas.tables import BANDS, MANY_COLUMNS, figure_lines, many_cells
from flows.vas.words import (
    cautions,
    correlation_sentence,
    describe_run,
    left_out,
    say_together,
    show_gain,
    show_ratio,
    show_share,
)
from trainer.bootstrap import RESAMPLES

if TYPE_CHECKING:
    from flows.vas.run import VasRun
    from trainer.scores import RowScore, VasReport

_ROWS_SHOWN = 8  # at either end
_CAPTIONS = {
    "shares": (
        "Shares of attention",
        "Mean share of attention of the question's and of the response's tokens, over layers, heads and "
        "tokens; on the right the share on the image over its number of tokens. The question cannot see the "
        "response, which comes after it.",
    ),
    "along_response": (
        "Along the response",
        "Where the response looks while it gets longer. The lowest panel counts the tokens behind each "
        "point: short responses end early, so the last points rest on few rows.",
    ),
    "heads": (
        "Layers and heads",
        "VAS, and the share on the image of U and T, for every layer and head. Pale: no figure, or exactly 0 "
        "on a logarithmic scale.",
    ),
    "rows": (
        "Rows",
        "How VAS spreads over rows. Each row's VAS is itself a mean of ratios; where few pairs carry it, the "
        "median of all pairs and the ratio of means lie below all rows.",
    ),
    "gain": (
        "Gains",
        "What the right image is worth to the model, for each row and on average over response tokens.",
    ),
    "correlation": (
        "VAS and accuracy",
        "One point per model, with the line of least squares; shaded are the paper's bands. VAS was measured "
        "here, accuracies are those of the file given.",
    ),
}


def render_page(run: VasRun, figures: Mapping[str, bytes], today: date) -> str:
    """One self-contained HTML page.

    Args:
        figures: PNG bytes by name, as `figures.draw_figures` gives them.
        today: the date shown; nothing else in the page depends on the time.
    """
    environment = Environment(
        loader=PackageLoader("flows.vas", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        title=describe_run(run),
        models=[_describe_model(name, report) for name, report in run.reports.items()],
        columns=MANY_COLUMNS,
        cautions=say_together(run.reports, cautions),
        left_out=say_together(run.reports, left_out),
        correlation=correlation_sentence(run.correlation) if run.correlation else None,
        figures=[_describe_figure(name, png) for name, png in figures.items()],
        settings=_settings(run),
        row_columns=_ROW_COLUMNS,
        resamples=f"{RESAMPLES:,}",
        today=today.isoformat(),
    )


def _describe_model(name: str, report: VasReport) -> dict[str, Any]:
    order, rows = _ordered_rows(report)
    return {
        "name": name,
        "vas": show_ratio(report.vas, report.intervals.get("vas")),
        "band": f"{report.band} ({BANDS[report.band]})",
        "gain": show_gain(report.image_gain, report.intervals.get("image_gain")),
        "lines": figure_lines(report),
        "cells": many_cells(report),
        "order": order,
        "rows": rows,
        "all_rows": len(report.rows),
    }


def _describe_figure(name: str, png: bytes) -> dict[str, str]:
    title, caption = _CAPTIONS[name]
    url = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    return {"name": name, "title": title, "caption": caption, "url": url}


# ----------------------------------------------------------------------------------------------- rows


_ROW_COLUMNS = (
    *("row", "image gain", "blank gain", "VAS", "image U", "image T"),
    *("LM loss", "image tokens", "response tokens"),
)


def _ordered_rows(report: VasReport) -> tuple[str, list[Sequence[str]]]:
    """What rows are ordered by, and the cells of the highest and the lowest, with an empty row between."""
    name = "image_gain" if report.image_gain is not None else "vas"
    found = [row for row in report.rows if getattr(row, name) is not None]
    found.sort(key=lambda row: getattr(row, name), reverse=True)
    cells = [_row_cells(row) for row in found]
    if len(cells) > 2 * _ROWS_SHOWN:
        cells = [*cells[:_ROWS_SHOWN], (), *cells[-_ROWS_SHOWN:]]
    return ("image gain" if name == "image_gain" else "VAS"), cells


def _row_cells(row: RowScore) -> Sequence[str]:
    return (
        row.id or "-",
        show_gain(row.image_gain),
        show_gain(row.blank_gain),
        show_ratio(row.vas),
        show_share(row.image_share),
        show_share(row.response_image_share),
        show_ratio(row.loss),
        str(row.image_tokens),
        str(row.response_tokens),
    )


# ------------------------------------------------------------------------------------------- settings


def _settings(run: VasRun) -> list[tuple[str, str]]:
    reports = run.reports
    layers = {", ".join(map(str, report.layers)) for report in reports.values()}
    one_for_all = layers.pop() if len(layers) == 1 else None
    lines = [("model" if len(reports) == 1 else f"model {name}", run.paths[name]) for name in reports]
    lines += [
        ("dataset", f"{run.dataset}, split {run.split}"),
        ("rows", f"{run.rows} (at most {run.settings.limit}), {run.settings.batch_size} at once"),
        ("gains", "measured" if run.settings.gains else "not measured"),
    ]
    for name, report in reports.items():
        if one_for_all is None:
            lines.append((f"layers of {name}", ", ".join(map(str, report.layers))))
        if report.steering:
            lines.append(
                (f"steering of {name}", ", ".join(f"{key} {value}" for key, value in report.steering.items()))
            )
    if one_for_all is not None:
        lines.append(("layers", one_for_all))
    return [*lines, ("device", run.device), *run.versions.items()]
