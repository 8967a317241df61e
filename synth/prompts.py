"""Every prompt: one Jinja file per stage under synth/prompts/, rendered in Jinja's sandbox.

A prompt's hash is stored with each answer it produced and is part of what a run is.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from schemas.records import Problem, Stage, choice_letter

STAGES = (Stage.DESCRIBE, Stage.REASON, Stage.ANCHOR)
_FOLDER = Path(__file__).parent / "prompts"


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


@cache
def prompt_hash(stage: Stage) -> str:
    """SHA-256 of the stage's template, 16 hexadecimal digits."""
    return hashlib.sha256(_source(stage).encode()).hexdigest()[:16]


def prompt_hashes() -> dict[str, str]:
    """The hash of every stage's prompt."""
    return {str(stage): prompt_hash(stage) for stage in STAGES}


def _source(stage: Stage) -> str:
    return (_FOLDER / f"{stage}.jinja").read_text(encoding="utf-8")


@cache
def _template(stage: Stage) -> Template:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=False)
    return environment.from_string(_source(stage))
