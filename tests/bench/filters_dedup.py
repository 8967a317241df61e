"""Accuracy and speed of decontamination and dedup, one line per filter and source.

    python -m tests.bench.filters_dedup [--data DIR] [--questions N] [--items N] [--json]

Each line is measured in a fresh process. `seconds` and `rows_per_s` are from the records in memory to the
hits or groups, the building of the index included; `peak_mb` is the highest resident set of the process with
its imports and its data. `pairs/0` and `pairs/1` are halves of the pairs by the MD5 of the picture: the index
holds the items of that half (and the testmini items), the questions are those of that half.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from io import BytesIO
from itertools import accumulate
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage
from PIL import ImageOps

from filters.decontaminate import Hit, Index
from filters.dedup import find_duplicates
from tests.conftest import SHARED_DATA

Line = dict[str, Any]
Row = dict[str, Any]
SOURCES = ("tabmwp", "puzzlevqa", "algopuzzlevqa", "geometry3k", "solidgeo", "mathv_testmini")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def measure(data: Path | None, questions: int = 100_000, items: int = 20_000) -> Iterator[Line]:
    """The lines, one after the other; those of real data only where `data` holds it.

    Args:
        questions, items: sizes of the synthetic case.
    """
    cases: list[Callable[[], Line]] = []
    if data is not None and (data / "decontam_pairs.jsonl").is_file():
        cases += [partial(measure_pairs, data, half) for half in (None, 0, 1)]
        cases += [partial(measure_others, data), partial(measure_pictures, data)]
        cases += [partial(measure_copies, data, source) for source in SOURCES]
    cases += [partial(measure_many, questions, items), partial(measure_many_duplicates, questions)]
    for case in cases:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            yield pool.submit(_run, case).result()


def _run(case: Callable[[], Line]) -> Line:
    line = case()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux gives kB
    return line | {"peak_mb": round(peak)}


def _timed(line: Line, rows: int, started: float) -> Line:
    seconds = time.monotonic() - started
    return line | {"rows": rows, "seconds": round(seconds, 2), "rows_per_s": round(rows / max(seconds, 1e-9))}


# ------------------------------------------------------------------------------------------- real data


def measure_pairs(data: Path, half: int | None) -> Line:
    """Contaminated rows found by their words alone (the pairs hold no pictures)."""
    pairs = [
        pair
        for pair in _lines(data / "decontam_pairs.jsonl")
        if half is None or int(pair["image_md5"], 16) % 2 == half
    ]
    targets = [_side(pair, "mathv") for pair in pairs] + _items(data, "mathv_testmini")
    asked = [_side(pair, "solidgeo") for pair in pairs]
    started = time.monotonic()
    hits = list(Index(targets).find_hits(asked))
    wanted = [target["id"] for target in targets[: len(pairs)]]
    missed = [
        ask["id"] for ask, found, want in zip(asked, hits, wanted, strict=True) if want not in _ids(found)
    ]
    name = "pairs" if half is None else f"pairs/{half}"
    line = {"filter": "decontaminate", "source": name, "found": len(pairs) - len(missed), "missed": missed}
    return _timed(line, len(pairs), started)


def measure_others(data: Path) -> Line:
    """SolidGeo rows that are in no pair, against all MATH-Vision items at hand; `flagged` lists them."""
    pairs = _lines(data / "decontam_pairs.jsonl")
    known = {_side(pair, "solidgeo")["id"] for pair in pairs}
    others = [item for item in _items(data, "solidgeo") if item["id"] not in known]
    targets = [_side(pair, "mathv") for pair in pairs] + _items(data, "mathv_testmini")
    started = time.monotonic()
    hits = list(Index(targets).find_hits(others))
    flagged = [
        {"id": row["id"], "origin": row["origin"], "reason": str(found[0].reason), "matched": found[0].id}
        for row, found in zip(others, hits, strict=True)
        if found
    ]
    line = {"filter": "decontaminate", "source": "solidgeo others", "flagged": len(flagged)}
    line |= {"share": round(len(flagged) / len(others), 4), "list": flagged}
    return _timed(line, len(others), started)


def measure_pictures(data: Path) -> Line:
    """Benchmark items found by their pictures alone, without a word, as they are and saved in other ways."""
    items = _items(data, "mathv_testmini")
    index = Index(items)
    started = time.monotonic()
    shares = {}
    for name, save in _COPIES.items():
        asked = [item | {"question": "", "images": [save(item["images"][0])]} for item in items]
        found = [item["id"] in _ids(hits) for item, hits in zip(items, index.find_hits(asked), strict=True)]
        shares[name] = round(sum(found) / len(items), 3)
    line = {"filter": "decontaminate", "source": "mathv_testmini pictures alone", "found_share": shares}
    return _timed(line, len(items) * len(_COPIES), started)


def measure_copies(data: Path, source: str) -> Line:
    """Real rows, which hold hardly any duplicates (`flagged` lists them), and a saved-again copy of each."""
    items = [item for item in _items(data, source) if item["question"].strip()]
    copies = [
        item
        | {
            "question": f"{item['question']}\n<image1>",
            "images": [_COPIES["jpeg 80"](image) for image in item["images"]],
        }
        for item in items
    ]
    started = time.monotonic()
    groups = find_duplicates(items)
    flagged = [[items[row]["id"] for row in (group.keep, *group.drop)] for group in groups]
    dropped = {row for group in find_duplicates([*items, *copies]) for row in group.drop}
    found = sum(row >= len(items) for row in dropped)
    line = {"filter": "dedup", "source": source, "found": found, "missed": len(items) - found}
    return _timed(line | {"flagged": len(flagged), "list": flagged}, 3 * len(items), started)


def _lines(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _side(pair: Row, side: str) -> Row:
    row = {name: pair[f"{side}_{name}"] for name in ("question", "answer")}
    return row | {"id": f"{side}_{pair[f'{side}_id']}", "source": side}


def _items(data: Path, source: str) -> list[Row]:
    return [
        {
            "id": row["id"],
            "source": source,
            "origin": row.get("orig_source", ""),
            "question": row["question"],
            "choices": row.get("choices") or [],
            "answer": str(row["answer"]),
            "images": [(data / source / name).read_bytes() for name in row.get("images") or [row["image"]]],
        }
        for row in _lines(data / source / "items.jsonl")
    ]


def _ids(hits: Sequence[Hit]) -> set[str]:
    return {hit.id for hit in hits}


def _saved(kind: str, *, scale: float = 1, border: int = 0) -> Callable[[bytes], bytes]:
    def save(encoded: bytes) -> bytes:
        picture = PillowImage.open(BytesIO(encoded)).convert("RGB")
        size = (max(int(picture.width * scale), 1), max(int(picture.height * scale), 1))
        framed = ImageOps.expand(picture.resize(size), border, "white")
        buffer = BytesIO()
        framed.save(buffer, kind, quality=80)
        return buffer.getvalue()

    return save


_COPIES: dict[str, Callable[[bytes], bytes]] = {
    "same bytes": bytes,
    "jpeg 80": _saved("JPEG"),
    "half size": _saved("PNG", scale=0.5),
    "white border": _saved("PNG", border=40),
    "half size, border, jpeg 80": _saved("JPEG", scale=0.5, border=40),
}


# ------------------------------------------------------------------------------------------- synthetic


def make_questions(count: int, seed: int) -> list[Row]:
    """Questions of about 30 words with natural frequencies; a third begin as any question about a figure."""
    rng = random.Random(0)
    words = ["".join(rng.choices(LETTERS, k=rng.randint(2, 9))) for _ in range(20_000)]
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        text = rng.choices(words, cum_weights=weights, k=rng.randint(20, 40))
        opening = "As shown in the figure, what is the " if rng.random() < 1 / 3 else ""
        rows.append(
            {
                "id": f"{seed}/{number}",
                "question": f"{opening}{' '.join(text)} {rng.randrange(99)}?",
                "answer": "7",
            }
        )
    return rows


def measure_many(questions: int, items: int) -> Line:
    """Many questions against many items; one question in a hundred holds half of an item's."""
    targets, asked = make_questions(items, 1), make_questions(questions, 2)
    rng = random.Random(3)
    planted = rng.sample(range(questions), questions // 100)
    for row in planted:
        half = rng.choice(targets)["question"].split()[-15:]
        asked[row]["question"] = f"{asked[row]['question']} {' '.join(half)}"
    started = time.monotonic()
    flagged = {row for row, hits in enumerate(Index(targets).find_hits(asked)) if hits}
    line = {
        "filter": "decontaminate",
        "source": f"{questions} questions x {items} items",
        "found": len(flagged & set(planted)),
        "missed": len(set(planted) - flagged),
        "flagged": len(flagged - set(planted)),
    }
    return _timed(line, questions, started)


def measure_many_duplicates(questions: int) -> Line:
    """Many questions, one in a hundred an earlier one with one word changed."""
    rows = make_questions(questions, 4)
    rng = random.Random(5)
    planted = sorted(rng.sample(range(questions // 2, questions), questions // 100))
    for row in planted:
        words = rows[row - questions // 2]["question"].split()
        words[len(words) // 2] = "changed"
        rows[row] = rows[row - questions // 2] | {"question": " ".join(words)}
    started = time.monotonic()
    dropped = {row for group in find_duplicates(rows) for row in group.drop}
    line = {
        "filter": "dedup",
        "source": f"{questions} questions",
        "found": len(dropped & set(planted)),
        "missed": len(set(planted) - dropped),
        "flagged": len(dropped - set(planted)),
    }
    return _timed(line, questions, started)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the lines as they come."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=SHARED_DATA)
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    for line in measure(options.data, options.questions, options.items):
        plain = "  ".join(
            f"{name} {value}" for name, value in line.items() if name not in {"filter", "source"}
        )
        shown = json.dumps(line) if options.json else f"{line['filter']}  {line['source']}: {plain}"
        print(shown, flush=True)


if __name__ == "__main__":
    main()
