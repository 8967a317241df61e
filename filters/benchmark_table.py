"""The benchmarks of the paper: where each one is published and what its columns are called.

The one table for decontamination (`filters.benchmarks`) and evaluation (`flows.evaluate`). The names were
read in public dataset cards and in loaders that use them; where a benchmark says `checked=False`, the name of
some column rests on such loaders alone. docs/evaluation.md says which was read where.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_SUBJECTS = (
    *("Accounting", "Agriculture", "Architecture_and_Engineering", "Art", "Art_Theory"),
    *("Basic_Medical_Science", "Biology", "Chemistry", "Clinical_Medicine", "Computer_Science", "Design"),
    *("Diagnostics_and_Laboratory_Medicine", "Economics", "Electronics", "Energy_and_Power", "Finance"),
    *("Geography", "History", "Literature", "Manage", "Marketing", "Materials", "Math"),
    *("Mechanical_Engineering", "Music", "Pharmacy", "Physics", "Psychology", "Public_Health", "Sociology"),
)
_HALLUSION_GROUP = ("category", "subcategory", "set_id", "figure_id", "question_id")
SEVEN_IMAGES = tuple(f"image_{number}" for number in range(1, 8))


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """Where a benchmark is published, and what its columns are called.

    Attributes:
        dataset: its id on the Hugging Face hub.
        configs: configurations to read, "" for the only one.
        splits: splits to read of each.
        question: columns to take the question from, the first that is not empty; () where it stands in the
            picture alone.
        choices: column of the options, a list or its Python spelling; "" where there is none.
        images: columns of the pictures, empty ones left out.
        keep: (column, values) of the rows that belong to it; None for all.
        evaluated: configurations that an evaluation reads; () for all of `configs`.
        in_picture: the question is asked in the picture alone; what `question` holds is for the checker.
        in_text: the options stand in the question's text, lettered.
        lettered: the answer to a question with options is a letter.
        truth: the answer is "0" or "1" and means no or yes.
        several: the answer to an open question may be the text of a Python list of right answers.
        category: column of what a row is about, "outer.inner" in a mapping; "id" for the middle of the row's
            id (`validation_Art_Theory_7`); "" where there is none.
        unit, decimals: columns of the unit that the answer is asked in, and of the decimals of a `float`.
        group: columns that its own metrics group rows by; together they name a row, where `id` repeats.
        checked: False where the columns are known from other people's loaders only.
    """

    dataset: str
    configs: tuple[str, ...] = ("",)
    splits: tuple[str, ...]
    id: str
    question: tuple[str, ...]
    choices: str = ""
    answer: str = "answer"
    images: tuple[str, ...]
    keep: tuple[str, tuple[str, ...]] | None = None
    evaluated: tuple[str, ...] = ()
    in_picture: bool = False
    in_text: bool = False
    lettered: bool = False
    truth: bool = False
    several: bool = False
    category: str = ""
    unit: str = ""
    decimals: str = ""
    group: tuple[str, ...] = ()
    checked: bool = True


BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "mathvista": Benchmark(
            dataset="AI4Math/MathVista",
            splits=("testmini",),
            id="pid",
            question=("question",),
            choices="choices",
            images=("decoded_image",),
            category="metadata.task",
            unit="unit",
            decimals="precision",
        ),
        "mathvision": Benchmark(
            dataset="MathLLMs/MathVision",
            splits=("test",),  # testmini is part of it
            id="id",
            question=("question",),
            choices="options",
            images=("decoded_image",),
            checked=False,
            lettered=True,
            category="subject",
        ),
        "mathverse_vision_only": Benchmark(
            dataset="AI4Math/MathVerse",
            configs=("testmini",),
            splits=("testmini",),
            id="sample_index",
            # The question of these rows stands in the picture; `question_for_eval` spells it out.
            question=("question_for_eval", "question"),
            images=("image",),
            keep=("problem_version", ("Vision Only",)),
            checked=False,
            in_picture=True,
            in_text=True,
            lettered=True,
            category="metadata.subject",
        ),
        "mmmu": Benchmark(
            dataset="MMMU/MMMU",
            configs=_SUBJECTS,
            splits=("validation",),
            id="id",
            question=("question",),
            choices="options",
            images=SEVEN_IMAGES,
            several=True,
            lettered=True,
            category="id",
        ),
        "mmmu_pro": Benchmark(
            dataset="MMMU/MMMU_Pro",
            configs=("standard (10 options)", "standard (4 options)"),
            splits=("test",),
            id="id",
            question=("question",),
            choices="options",
            images=SEVEN_IMAGES,
            evaluated=("standard (10 options)",),
            lettered=True,
            category="subject",
        ),
        "mmmu_pro_vision": Benchmark(
            dataset="MMMU/MMMU_Pro",
            configs=("vision",),
            splits=("test",),
            id="id",
            question=(),
            choices="options",
            images=("image",),
            in_picture=True,
            lettered=True,
            category="subject",
        ),
        "mmstar": Benchmark(
            dataset="Lin-Chen/MMStar",
            splits=("val",),
            id="index",
            question=("question",),
            images=("image",),
            in_text=True,
            lettered=True,
            category="category",
        ),
        "hallusionbench": Benchmark(
            dataset="lmms-lab/HallusionBench",
            splits=("image", "non_image"),
            id="question_id",
            question=("question",),
            answer="gt_answer",
            images=("image",),
            checked=False,
            truth=True,
            category="subcategory",
            group=_HALLUSION_GROUP,
        ),
    }
)
