"""The ladder's result: one mapping, a page in plain words, and a figure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flows.ladder.analysis import (
    Estimate,
    Result,
    attention,
    chance,
    estimate,
    estimate_figure,
    obeyed,
    right_in,
)
from flows.ladder.arms import ARMS
from flows.ladder.claims import Claim, Rungs, judge_claims

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

_ACCURACIES = {"accuracy": "held_out", "hard_accuracy": "hard", "blank_accuracy": "blank"}
_ACCURACIES |= {"shuffled_accuracy": "shuffled"}
_ATTENTION = {
    "vas": "vas",
    "vas_median": "median",
    "vas_ratio_of_means": "ratio_of_means",
    "vas_geometric_mean": "geometric_mean",
    "vas_head_averaged": "head_averaged",
    "vas_without_first_token": "vas_without_first_token",
    "image_share": "image_share",
    "system_share": "system_share",
    "response_image_share": "response_image_share",
    "response_system_share": "response_system_share",
    "image_gain": "image_gain",
    "blank_gain": "blank_gain",
    "loss": "loss",
}
_BLIND = ("blank", "shuffled")
_NEAR = 0.05  # what is not surely above chance and less than this above it is at chance


def summarize(rungs: Rungs, held_out: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The result as plain data: `informative`, `chance`, `rungs`, `claims`.

    Args:
        rungs: arm -> results of its seeds, in the same order of seeds.
        held_out: the held-out problems.
    """
    level = chance(held_out)
    rows = [_rung(name, results, level) for name, results in rungs.items()]
    informative = bool(rows) and is_above(rungs["base"], "held_out", level)
    claims = [vars(claim) for claim in judge_claims(rungs)] if informative else []
    return {"informative": informative, "chance": level, "rungs": rows, "claims": claims}


def is_above(results: Sequence[Result], kind: str, level: float) -> bool:
    """True where the interval of the accuracy lies above a level."""
    found = estimate(results, right_in(kind))
    return found.interval is not None and found.interval[0] > level


def _rung(name: str, results: Sequence[Result], level: float) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "says": ARMS[name].says,
        "start": sorted({str(result["start"]) for result in results if result["start"]}),
        "seeds": len(results),
    }
    for key, kind in _ACCURACIES.items():
        row |= _columns(key, estimate(results, right_in(kind)))
    row |= _columns("parse_rate", estimate(results, lambda result: result["parsed"]))
    row |= _columns("obedience", estimate(results, obeyed))
    for key, figure in _ATTENTION.items():
        row |= _columns(key, estimate_figure(results, attention(figure)))
    row["needs_image"] = _needs_image(results, level)
    return row


def _needs_image(results: Sequence[Result], level: float) -> bool | None:
    """True: at chance without the right picture. False: surely above it. None: it cannot be told."""
    if any(is_above(results, kind, level) for kind in _BLIND):
        return False
    means = [estimate(results, right_in(kind)).mean for kind in _BLIND]
    return True if max(means) <= level + _NEAR else None


def _columns(key: str, found: Estimate | None) -> dict[str, Any]:
    if found is None:
        return {key: None, f"{key}_ci": None}
    return {key: found.mean, f"{key}_ci": list(found.interval) if found.interval else None}


# ------------------------------------------------------------------------------------------- to read

_SHOWN = {
    "accuracy": "accuracy",
    "hard_accuracy": "harder",
    "blank_accuracy": "blank",
    "shuffled_accuracy": "shuffled",
    "parse_rate": "parsed",
    "obedience": "obeys",
    "image_gain": "image gain",
    "vas": "VAS",
    "vas_median": "median",
    "vas_ratio_of_means": "ratio of means",
    "image_share": "image, U",
    "response_image_share": "image, T",
}


_IN_TERMINAL = (  # what 80 columns have room for
    *("accuracy", "hard_accuracy", "blank_accuracy", "obedience"),
    *("image_gain", "vas_ratio_of_means", "image_share"),
)


def ladder_table(result: Mapping[str, Any]) -> Table:
    """The rungs as a table for a terminal; the page has more."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rung", no_wrap=True)
    for key in _IN_TERMINAL:
        table.add_column(_SHOWN[key], justify="right", no_wrap=True)
    for row in result["rungs"]:
        table.add_row(row["name"], *_cells(row, _IN_TERMINAL, ()))
    return table


def _cells(row: Mapping[str, Any], keys: Collection[str], with_interval: Collection[str]) -> list[str]:
    return [_cell(row, key, with_interval) for key in keys]


def _cell(row: Mapping[str, Any], key: str, with_interval: Collection[str] = ("accuracy",)) -> str:
    value, interval = row[key], row[f"{key}_ci"]
    if value is None:
        return "-"
    form = "+.3f" if key.endswith("gain") else ".3g" if key.startswith("vas") else ".3f"
    shown = format(value, form)
    if interval and key in with_interval:
        shown += f" ({interval[0]:{form}} to {interval[1]:{form}})"
    return shown


def ladder_page(result: Mapping[str, Any], figure: str) -> str:
    """The result as Markdown.

    Args:
        figure: the figure's file name, beside the page.
    """
    made = result["made_with"]
    lines = [
        f"# The ladder, preset `{result['preset']}`",
        "",
        f"Made on {made['date']} with {made['hardware']}; {made['versions']}; seeds {result['seeds']}; "
        f"{made['cpu_minutes']:.0f} minutes of CPU time. `{made['command']}`",
        "",
        *opening(result),
        "",
        f"| rung | {' | '.join(_SHOWN.values())} |",
        f"| --- |{' ---: |' * len(_SHOWN)}",
        *(f"| `{row['name']}` | {' | '.join(_cells(row, _SHOWN, _SHOWN))} |" for row in result["rungs"]),
        "",
        _LEGEND,
        "",
        *(f"- `{row['name']}`: {_says(row)}." for row in result["rungs"]),
    ]
    if result["informative"]:
        lines += [
            "",
            f"![Accuracy and attention of the rungs]({figure})",
            "",
            "## The claims",
            "",
            *_claims(result),
        ]
    return "\n".join(lines) + "\n"


_LEGEND = (
    "In brackets: 95% intervals, over seeds from three on; with fewer over problems, and none for what has "
    "no value per problem (gain, VAS, shares). Accuracies are shares of right answers: on held-out "
    "problems, on harder ones, on the held-out ones with a grey picture and with another problem's. Obeys: "
    "replies that do what one of six system prompts asks. Image gain: loss with another problem's picture "
    "minus with the right one, nats per token of the rung's own kind of response (short answers for "
    "`base`, other traces for `plain`). VAS: the paper's mean of ratios; median and ratio of means beside "
    "it. Image: share of attention of the question (U) and of the response (T)."
)


def _says(row: Mapping[str, Any]) -> str:
    start = f", from {' or '.join(f'`{name}`' for name in row['start'])}" if row["start"] else ""
    return row["says"] + start


def opening(result: Mapping[str, Any]) -> list[str]:
    """Chance, whether the base is clearly above it, and whether the rungs need the image."""
    base, level = result["rungs"][0], result["chance"]
    said = f"Chance is {level:.3f}: the best constant answer to each kind of question. "
    if not result["informative"]:
        return [
            f"**Not informative.** {said}The base rung has {_cell(base, 'accuracy')}, which is not clearly "
            "above it, so nothing is trained on top of it and nothing can be said of the method."
        ]
    return [f"{said}The base rung has {_cell(base, 'accuracy')}. {_blindness(result['rungs'])}"]


def _blindness(rows: Sequence[Mapping[str, Any]]) -> str:
    """What becomes of the rungs without their picture, or with another one."""
    named = {need: [row["name"] for row in rows if row["needs_image"] is need] for need in (False, None)}
    if not any(named.values()):
        return (
            "Without its picture, or with another one, every rung falls to chance (nowhere surely above it, "
            f"nor by more than {_NEAR}): it needs the image."
        )
    said = {False: "Above chance without the right picture", None: "Perhaps above chance without it"}
    return " ".join(f"{said[need]}: {', '.join(names)}." for need, names in named.items() if names)


def _claims(result: Mapping[str, Any]) -> list[str]:
    shown = [claim for claim in result["claims"] if claim["verdict"] != "not tried"]
    missing = [claim for claim in result["claims"] if claim["verdict"] == "not tried"]
    lines = ["| here | claim | figures |", "| --- | --- | --- |"]
    lines += [f"| **{claim['verdict']}** | {claim['claim']} | {claim['figures']} |" for claim in shown]
    if missing:
        lines += ["", "Not tried with these rungs: " + "; ".join(c["claim"].lower() for c in missing) + "."]
    return lines


def draw_ladder(figure: Figure, result: Mapping[str, Any]) -> None:
    """Accuracy on the left, where the model looks and what it gains from it on the right, a line per rung."""
    from flows.vas.canvas import BLUE, GREY, ORANGE, RED

    rows = result["rungs"][::-1]
    places = list(range(len(rows)))
    left, middle, right = figure.subplots(1, 3, sharey=True)
    for key, colour, marker, label in (
        ("accuracy", BLUE, "o", "held out"),
        ("hard_accuracy", ORANGE, "s", "harder"),
        ("blank_accuracy", GREY, "x", "grey picture"),
    ):
        _points(left, rows, places, key, colour, marker, label)
    left.axvline(result["chance"], color=GREY, linestyle=":", linewidth=1, label="chance")
    left.set(title="Accuracy", xlabel="share of right answers", xlim=(0, 1))
    left.set_yticks(places, [row["name"] for row in rows])
    for key, colour, marker, label in (
        ("vas_ratio_of_means", BLUE, "o", "ratio of means"),
        ("vas_median", ORANGE, "s", "median"),
        ("vas", RED, "^", "mean of ratios"),
    ):
        _points(middle, rows, places, key, colour, marker, label)
    middle.set(title="VAS", xlabel="image mass over system mass", xscale="log")
    _points(right, rows, places, "image_gain", BLUE, "o", "image gain")
    right.axvline(0, color=GREY, linewidth=1)
    right.set(title="Image gain", xlabel="nats per response token")
    for axes in (left, middle):
        axes.legend(fontsize=7, loc="best")


def _points(
    axes: Any,
    rows: Sequence[Mapping[str, Any]],
    places: Sequence[int],
    key: str,
    colour: str,
    marker: str,
    label: str,
) -> None:
    found = [(place, row[key], row[f"{key}_ci"]) for place, row in zip(places, rows, strict=True)]
    found = [
        (place, value, interval or (value, value)) for place, value, interval in found if value is not None
    ]
    values = [value for _, value, _ in found]
    away = [
        [max(0.0, v - low) for _, v, (low, _) in found],
        [max(0.0, high - v) for _, v, (_, high) in found],
    ]
    axes.errorbar(
        values,
        [place for place, _, _ in found],
        xerr=away,
        fmt=marker,
        color=colour,
        label=label,
        linestyle="none",
        markersize=4,
        capsize=2,
        elinewidth=1,
    )


def claim_lines(result: Mapping[str, Any]) -> list[str]:
    """The claims for a terminal, one line each."""
    found = [Claim(**claim) for claim in result["claims"]]
    return [
        f"{claim.verdict:>9}  {claim.claim}: {claim.figures}"
        for claim in found
        if claim.verdict != "not tried"
    ]
