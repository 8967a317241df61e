"""A few rows of each public benchmark, made up, with the published columns and their types."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import datasets
from datasets import Features, Image, List, Value

from tests.tiny import picture

TEXT, WHOLE = Value("string"), Value("int64")
SEVEN = [f"image_{number}" for number in range(1, 8)]


def encoded(colour: str = "red", count: int = 1, kind: str = "PNG") -> dict[str, Any]:
    """A picture as a table holds it."""
    buffer = io.BytesIO()
    picture(colour, count).save(buffer, kind)
    return {"bytes": buffer.getvalue(), "path": None}


def table(rows: list[dict[str, Any]], features: Mapping[str, Any]) -> datasets.Dataset:
    return datasets.Dataset.from_list(rows, features=Features(dict(features)))


def mathvista() -> datasets.Dataset:
    metadata = {"category": "general-vqa", "task": "figure question answering", "source": "made up"}
    shared = {"image": "images/1.jpg", "decoded_image": encoded(), "query": "Hint: ...", "metadata": metadata}
    rows = [
        {
            **shared,
            "pid": "1",
            "question": "How long is it?",
            "choices": None,
            "unit": "m",
            "precision": 1.0,
            "answer": "1.2",
            "question_type": "free_form",
            "answer_type": "float",
        },
        {
            **shared,
            "pid": "2",
            "question": "Which is it?",
            "choices": ["(A) left", "right"],
            "unit": None,
            "precision": None,
            "answer": "right",
            "question_type": "multi_choice",
            "answer_type": "text",
        },
        {
            **shared,
            "pid": "3",
            "question": "Which years?",
            "choices": None,
            "unit": None,
            "precision": None,
            "answer": "[2001, 2005]",
            "question_type": "free_form",
            "answer_type": "list",
        },
    ]
    columns = ("pid", "question", "image", "unit", "answer", "question_type", "answer_type", "query")
    features = dict.fromkeys(columns, TEXT) | {
        "decoded_image": Image(),
        "choices": List(TEXT),
        "precision": Value("float64"),
        "metadata": dict.fromkeys(metadata, TEXT),
    }
    return table(rows, features)


def mathvision() -> datasets.Dataset:
    rows = [
        {
            "id": "4",
            "question": "How many discs are there?\n<image1>",
            "options": [],
            "image": "images/4.jpg",
            "decoded_image": encoded(kind="JPEG"),
            "answer": "6",
            "solution": None,
            "level": 1,
            "subject": "counting",
        },
        {
            "id": "5",
            "question": "<image1>\nWhich part fits?",
            "options": ["A", "B", "C"],
            "image": "images/5.jpg",
            "decoded_image": encoded(),
            "answer": "B",
            "solution": None,
            "level": 2,
            "subject": "solid geometry",
        },
    ]
    features = dict.fromkeys(("id", "question", "image", "answer", "solution", "subject"), TEXT)
    return table(rows, features | {"options": List(TEXT), "decoded_image": Image(), "level": WHOLE})


def mathverse_vision_only() -> datasets.Dataset:
    spelt = "What is the area?\nChoices:\nA:12\nB:5√{2}\nC:7\nD:9"
    row = {
        "sample_index": "5",
        "problem_index": "1",
        "problem_version": "Vision Only",
        "question": "",
        "image": encoded(),
        "answer": "B",
        "question_type": "multi-choice",
        "metadata": {
            "split": "testmini",
            "source": "GeoQA",
            "subject": "Plane Geometry",
            "subfield": "Area",
        },
        "query_wo": "Please directly answer the question and provide the correct option letter.",
        "query_cot": "Please first conduct reasoning.",
        "question_for_eval": spelt,
    }
    rows = [row, row | {"sample_index": "6", "problem_version": "Text Dominant", "question": spelt}]
    free = {"question_for_eval": "How long is AB?", "question_type": "free-form", "answer": "5 cm"}
    rows.append(row | {"sample_index": "10"} | free)
    names = [name for name in row if name not in {"image", "metadata"}]
    features = dict.fromkeys(names, TEXT) | {
        "image": Image(),
        "metadata": dict.fromkeys(row["metadata"], TEXT),
    }
    return table(rows, features)


def _mmmu_like(rows: list[dict[str, Any]], *names: str) -> datasets.Dataset:
    empty = dict.fromkeys(SEVEN)
    features = dict.fromkeys(names, TEXT) | dict.fromkeys(SEVEN, Image())
    return table([empty | row for row in rows], features)


def mmmu() -> datasets.Dataset:
    shared = {"explanation": "", "img_type": "['Tables']", "topic_difficulty": "Easy", "subfield": "x"}
    rows = [
        {
            **shared,
            "id": "validation_Art_Theory_1",
            "question": "<image 1> Who painted this?",
            "options": "['Kahlo', \"O'Keeffe\"]",
            "answer": "B",
            "question_type": "multiple-choice",
            "image_1": encoded(),
        },
        {
            **shared,
            "id": "validation_Math_2",
            "question": "Compare <image 1> with <image 3>: which is larger?",
            "options": "['<image 1>', '<image 3>']",
            "answer": "A",
            "question_type": "multiple-choice",
            "image_1": encoded("blue"),
            "image_3": encoded("green"),
        },
        {
            **shared,
            "id": "validation_Math_3",
            "question": "What is the ratio in <image 1>?",
            "options": "[]",
            "answer": "['24/7', '3.429']",
            "question_type": "open",
            "image_1": encoded(),
        },
    ]
    return _mmmu_like(rows, "id", "question", "options", "answer", "question_type", *shared)


def mmmu_pro() -> datasets.Dataset:
    row = {
        "id": "test_Physics_7",
        "question": "Which force acts in <image 1>?",
        "options": str([f"{number} N" for number in range(1, 11)]),
        "answer": "J",
        "explanation": "?",
        "image_1": encoded(),
        "subject": "Physics",
        "topic_difficulty": "Hard",
        "img_type": "['Diagrams']",
    }
    names = [name for name in row if name not in SEVEN]
    return _mmmu_like([row], *names)


def mmmu_pro_vision() -> datasets.Dataset:
    row = {
        "id": "test_Physics_7",
        "image": encoded(),
        "options": str([f"{number} N" for number in range(1, 11)]),
        "answer": "J",
        "subject": "Physics",
    }
    features = dict.fromkeys(("id", "options", "answer", "subject"), TEXT) | {"image": Image()}
    return table([row], features)


def mmstar() -> datasets.Dataset:
    meta = {"source": "MMBench", "split": "val", "image_path": "images/0.jpg"}
    row = {
        "index": 0,
        "question": "What is shown?\n"
        "Options: A: a dog, B: two cats, on a mat, C: 1,000 birds, D: none of these",
        "image": encoded(kind="JPEG"),
        "answer": "B",
        "category": "coarse perception",
        "l2_category": "image scene and topic",
        "meta_info": meta,
    }
    features = dict.fromkeys(("question", "answer", "category", "l2_category"), TEXT)
    return table([row], features | {"index": WHOLE, "image": Image(), "meta_info": dict.fromkeys(meta, TEXT)})


# set, figure, question, answer; VS figure 0 is asked without a picture.
HALLUSION = [
    ("VD", "illusion", "0", "0", "0", "1"),
    ("VD", "illusion", "0", "1", "0", "0"),
    ("VS", "chart", "0", "0", "0", "1"),
    ("VS", "chart", "0", "0", "1", "0"),
    ("VS", "chart", "0", "1", "0", "1"),
    ("VS", "chart", "0", "1", "1", "0"),
]


def hallusionbench() -> datasets.Dataset:
    names = ("category", "subcategory", "set_id", "figure_id", "question_id", "gt_answer")
    rows = [
        {
            **dict(zip(names, values, strict=True)),
            "visual_input": "0" if values[0] == "VS" and values[3] == "0" else "1",
            "sample_note": "made up",
            "question": "Is the left disc larger than the right one?",
            "gt_answer_details": "It is.",
            "filename": "./VD/0.png",
            "image": None if values[0] == "VS" and values[3] == "0" else encoded(count=number + 1),
        }
        for number, values in enumerate(HALLUSION)
    ]
    features = dict.fromkeys([name for name in rows[0] if name != "image"], TEXT) | {"image": Image()}
    return table(rows, features)


PUBLIC: dict[str, Callable[[], datasets.Dataset]] = {
    "mathvista": mathvista,
    "mathvision": mathvision,
    "mathverse_vision_only": mathverse_vision_only,
    "mmmu": mmmu,
    "mmmu_pro": mmmu_pro,
    "mmmu_pro_vision": mmmu_pro_vision,
    "mmstar": mmstar,
    "hallusionbench": hallusionbench,
}
