"""What each part of the demo costs, and what the guided loss costs beside plain SFT.

    python -m tests.bench.pipeline [--problems 60] [--steps 8] [--json]

CPU seconds of this process, so that a busy machine disturbs them little. The guided and the plain trainings
take turns in one run on the same rows; the figure to read is their ratio.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson

from filters.verdicts import judge
from flows.recipes import load_recipe
from flows.train import load_rows, open_model
from schemas.config import Recipe, ScenesSource
from schemas.records import Draft, Problem, Sample, Status, sample_to_row
from schemas.shards import DatasetWriter
from synth.embedded import Refusal, answer_request
from synth.prompts import anchor_prompt, describe_prompt, reason_prompt
from synth.scenes import draw_problems
from synth.server import image_part
from trainer.sft import train_sft

T = TypeVar("T")
ROUNDS = 3


def main() -> None:
    """Runs the benchmark and prints its table or its JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = measure_rows(arguments.problems, Path(folder) / "data")
        cases |= measure_steps(arguments.steps, Path(folder))
    if arguments.json:
        print(json.dumps(cases))
    else:
        for name, value in cases.items():
            print(f"{name:<32}{value:10.3f}")


def measure_rows(count: int, out: Path) -> dict[str, float]:
    """CPU milliseconds per problem of drawing, of the teacher's three stages, and of the filters."""
    recipe = load_recipe("demo", [f"source.count={count}"])
    assert isinstance(recipe.source, ScenesSource)
    problems, draw = timed(lambda: list(draw_problems(recipe.source, recipe.seed)))  # type: ignore[arg-type]
    drafts, teach = timed(lambda: [draft for problem in problems if (draft := teach_problem(problem))])
    for draft in drafts[:3]:
        judge(draft, recipe.filters)  # starts the algebra worker, if any row needs it
    samples, filtering = timed(lambda: [judge(draft, recipe.filters) for draft in drafts])
    _, writing = timed(lambda: write(samples, out))
    per_row = 1000 / count
    return {
        "draw_ms": draw * per_row,
        "embedded_teacher_ms": teach * per_row,
        "filters_ms": filtering * per_row,
        "write_ms": writing * per_row,
    }


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What `work` returns, and the CPU seconds it took."""
    started = time.process_time()
    result = work()
    return result, time.process_time() - started


def teach_problem(problem: Problem) -> Draft | None:
    """The three stages without HTTP; None where the teacher refuses the picture."""
    try:
        description = ask(
            [*map(image_part, problem.images), {"type": "text", "text": describe_prompt(problem)}]
        )
    except Refusal:
        return None
    reasoning = ask(reason_prompt(problem, description))
    trace = ask(anchor_prompt(problem, reasoning))
    return Draft(problem=problem, description=description, reasoning=reasoning, trace=trace)


def ask(content: object) -> str:
    """One answer of the embedded teacher."""
    body = orjson.dumps({"model": "avar-embedded", "messages": [{"role": "user", "content": content}]})
    return answer_request(body)["choices"][0]["message"]["content"]


def write(samples: list[Sample], out: Path) -> None:
    """The samples as a dataset, so that there is something to train on."""
    with DatasetWriter(out) as writer:
        for sample in samples:
            accepted = sample.status is Status.ACCEPTED
            writer.write("train" if accepted else str(sample.status), sample_to_row(sample))


def measure_steps(steps: int, folder: Path) -> dict[str, float]:
    """CPU seconds per SFT step with and without the guided loss, taking turns, and the ratio of medians."""
    recipe = load_recipe("demo", [f"train.steps={steps}", "train.diagnostics_every=0"])
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(ROUNDS):
        for guided in (True, False):
            seconds[guided] += train(recipe, folder, turn, guided)
    guided_s, plain_s = (statistics.median(seconds[guided]) for guided in (True, False))
    return {"guided_step_s": guided_s, "plain_step_s": plain_s, "guided_over_plain": guided_s / plain_s}


def train(recipe: Recipe, folder: Path, turn: int, guided: bool) -> list[float]:
    """CPU seconds of each step but the first, which also pays for what is set up once."""
    rows = load_rows(folder / "data", "train")
    model, processor = open_model(recipe, rows)
    marks: list[float] = []

    def heard(step: int, total: int, metrics: Mapping[str, Any]) -> None:
        marks.append(time.process_time())

    out = folder / f"{turn}-{guided}"
    train_sft(model, processor, rows, recipe.train, seed=turn, out_dir=out, guided=guided, progress=heard)
    return [later - earlier for earlier, later in itertools.pairwise(marks)]


if __name__ == "__main__":
    main()
