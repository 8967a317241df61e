"""Every prompt: one Jinja file per question under synth/prompts/, rendered in Jinja's sandbox.

A prompt's hash is stored with each answer it produced and is part of what a run is. Questions have the names
of `Recipe.questions`: a stage's, or `evidence.NAME` for a part of the evidence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from schemas.records import Problem, Stage, choice_letter

STAGES = (Stage.DESCRIBE, Stage.REASON, Stage.ANCHOR)
_FOLDER = Path(__file__).parent / "prompts"
_SHARED = {"evidence.swap": "anchor"}  # the same words in front of another image


def describe_prompt(problem: Problem) -> str:
    """The text that goes with the images."""
    return _template(Stage.DESCRIBE).render(image_count=len(problem.images))


def reason_prompt(problem: Problem, description: str) -> str:
    """The question and what the first stage saw; no image."""
    return _template(Stage.REASON).render(
        question=problem.question, choices=problem.choices, description=description, letter=choice_letter
    )


def anchor_prompt(problem: Problem, reasoning: str) -> str:
    """The chain that is to be rewritten; no image."""
    return _template(Stage.ANCHOR).render(
        question=problem.question, choices=problem.choices, reasoning=reasoning, letter=choice_letter
    )


def blind_prompt(problem: Problem) -> str:
    """The question alone. No word of a missing image: a teacher that is told of one will not guess."""
    return _template("evidence.blind").render(
        question=problem.question, choices=problem.choices, letter=choice_letter
    )


def description_prompt(problem: Problem, description: str) -> str:
    """The question and a description in the image's place, in the words of `blind_prompt`."""
    return _template("evidence.description").render(
        question=problem.question, choices=problem.choices, description=description, letter=choice_letter
    )


def judge_prompt(problem: Problem, claim: str) -> str:
    """One claim, yes or no; goes with the images."""
    return _template("evidence.judge").render(claim=claim, image_count=len(problem.images))


def likelihood_prompt(problem: Problem) -> str:
    """The question that a trace answers, and the form of a trace; goes with the images."""
    return _template("evidence.likelihood").render(
        question=problem.question,
        choices=problem.choices,
        image_count=len(problem.images),
        letter=choice_letter,
    )


@cache
def prompt_hash(name: str) -> str:
    """SHA-256 of a question's template, 16 hexadecimal digits."""
    return hashlib.sha256(_source(name).encode()).hexdigest()[:16]


def prompt_hashes(names: Iterable[str] = STAGES) -> dict[str, str]:
    """The hash of each question's prompt, by default the stages'."""
    return {str(name): prompt_hash(name) for name in names}


def _source(name: str) -> str:
    stem = _SHARED.get(name, str(name).replace(".", "_"))
    return (_FOLDER / f"{stem}.jinja").read_text(encoding="utf-8")


@cache
def _template(name: str) -> Template:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False)
    return environment.from_string(_source(name))
