"""The embedded teacher: its API, its three stages, and how often it is right."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from schemas.config import ScenesSource
from schemas.records import Problem
from synth.embedded import MODEL, Refusal, anchor, answer_request, app, describe, reason
from synth.prompts import anchor_prompt, describe_prompt, reason_prompt
from synth.scenes import draw_problem, draw_problems
from synth.thinking.questions import understand

PATH = "/v1/chat/completions"
EASY = draw_problem(ScenesSource(families=("count",), difficulty=(0.0, 0.1)), 0, 0)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(app) as running:
        yield running


def _data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _body(content: object, **options: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **options}


def _image_body(data: bytes, **options: Any) -> dict[str, Any]:
    parts = [
        {"type": "image_url", "image_url": {"url": _data_url(data)}},
        {"type": "text", "text": "<task>describe</task> Say what you see."},
    ]
    return _body(parts, **options)


def _say(body: dict[str, Any]) -> str:
    return answer_request(orjson.dumps(body))["choices"][0]["message"]["content"]


def _asked(problem: Problem) -> str:
    options = "".join(f"\n{chr(65 + i)}. {choice}" for i, choice in enumerate(problem.choices))
    return problem.question + (f"\nChoices:{options}" if options else "")


def _gold(problem: Problem) -> str:
    return chr(65 + problem.choices.index(problem.answer)) if problem.choices else problem.answer


# ------------------------------------------------------------------------------------ the API


def test_health_and_models(client: TestClient):
    assert client.get("/health").status_code == 200
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert [card["id"] for card in listed["data"]] == [MODEL]


def test_an_answer_has_the_form_of_the_api(client: TestClient):
    answer = client.post(
        PATH, json=_image_body(EASY.images[0].bytes, temperature=0.7, top_p=0.9, seed=3)
    ).json()
    assert answer["object"] == "chat.completion"
    assert answer["model"] == MODEL
    assert answer["id"].startswith("chatcmpl-")
    (choice,) = answer["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"].startswith("At first glance")
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert min(usage.values()) > 0


def test_a_long_answer_is_cut_at_max_tokens():
    body = _image_body(EASY.images[0].bytes)
    whole = answer_request(orjson.dumps(body))
    short = answer_request(orjson.dumps(body | {"max_tokens": 20}))
    assert short["choices"][0]["finish_reason"] == "length"
    assert short["usage"]["completion_tokens"] == 20
    text = whole["choices"][0]["message"]["content"]
    assert text.startswith(short["choices"][0]["message"]["content"])
    exact = body | {"max_completion_tokens": whole["usage"]["completion_tokens"]}
    assert answer_request(orjson.dumps(exact))["choices"][0]["finish_reason"] == "stop"


def test_equal_requests_get_equal_choices():
    body = orjson.dumps(_image_body(EASY.images[0].bytes, seed=5))
    first, second = answer_request(body), answer_request(body)
    assert orjson.dumps(first["choices"]) == orjson.dumps(second["choices"])
    assert first["id"] == second["id"]


def _picture(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


NOISE = _picture(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
PNG = EASY.images[0].bytes
_LARGE = io.BytesIO()
Image.new("1", (8000, 6000)).save(_LARGE, "PNG")
HUGE = _LARGE.getvalue()  # 48 million pixels in a few kilobytes
TEXT = "<task>reason</task><description>d</description><question>q</question>"

BAD_REQUESTS: dict[str, tuple[Any, int, str]] = {
    "no json": (b"{", 400, "not JSON"),
    "deep json": (b"[" * 100_000, 400, "not JSON"),
    "a list": ([], 400, "object"),
    "unknown model": (_body(TEXT) | {"model": "gpt"}, 404, "does not exist"),
    "model of another type": (_body(TEXT) | {"model": ["x"]}, 404, "does not exist"),
    "no messages": ({"model": MODEL}, 400, "messages"),
    "empty messages": ({"model": MODEL, "messages": []}, 400, "messages"),
    "no user": ({"model": MODEL, "messages": [{"role": "system", "content": TEXT}]}, 400, "user"),
    "no content": ({"model": MODEL, "messages": [{"role": "user"}]}, 400, "content"),
    "n": (_body(TEXT, n=2), 400, "n: only 1"),
    "stream": (_body(TEXT, stream=True), 400, "not supported"),
    "max_tokens": (_body(TEXT, max_tokens=0), 400, "max_tokens"),
    "max_tokens of another type": (_body(TEXT, max_tokens="5"), 400, "max_tokens"),
    "seed": (_body(TEXT, seed=True), 400, "seed"),
    "temperature": (_body(TEXT, temperature=3), 400, "temperature"),
    "no task": (_body("hello"), 400, "not one of avar's stages"),
    "unknown task": (_body("<task>poem</task>"), 400, "not one of avar's stages"),
    "no sections": (_body("<task>reason</task><question>q</question>"), 400, "not one of avar's stages"),
    "describe without image": (_body("<task>describe</task>"), 400, "image_url"),
    "a part of another kind": (_body([{"type": "audio"}]), 400, "part"),
    "http url": (
        _body([{"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}]),
        400,
        "data URLs",
    ),
    "bad base64": (
        _body([{"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@"}}]),
        400,
        "base64",
    ),
    "empty image": (_image_body(b""), 400, "0 bytes"),
    "no image": (_image_body(b"GIF89a, or is it"), 400, "decode"),
    "truncated image": (_image_body(PNG[: len(PNG) // 2]), 400, "decode"),
    "corrupt image": (_image_body(PNG[:60] + b"\0" * 40 + PNG[100:]), 400, "decode"),
    "another format": (_image_body(_picture(np.zeros((64, 64, 3), np.uint8), "BMP")), 400, "decode"),
    "too many pixels": (_image_body(HUGE), 400, "limit"),
    "noise": (_image_body(NOISE), 400, "cannot be read"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_bad_request_is_answered_with_its_reason(client: TestClient, case: str):
    body, status, words = BAD_REQUESTS[case]
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    answer = client.post(PATH, content=content)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == status
    assert words in error["message"]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "PNG with alpha", "PNG with a palette"])
def test_other_image_formats_and_modes_are_read(kind: str):
    picture = Image.open(io.BytesIO(PNG))
    if kind in ("GIF", "PNG with a palette"):
        picture = picture.quantize(64, dither=Image.Dither.NONE)
    elif kind == "PNG with alpha":
        picture = picture.convert("RGBA")
    buffer = io.BytesIO()
    picture.save(buffer, kind.split()[0], quality=95)
    assert "element by element" in _say(_image_body(buffer.getvalue()))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
tagged_text = st.lists(
    st.sampled_from(
        [
            *(
                "<task>",
                "</task>",
                "describe",
                "reason",
                "anchor",
                "<question>",
                "</question>",
                "<description>",
            ),
            *(
                "</description>",
                "<reasoning>",
                "</reasoning>",
                "Choices:",
                "\nA. red circle",
                "\nFinal answer: A",
            ),
            *("How many red circles?", "Looking closely, element by element:", "At first glance", "<answer>"),
        ]
    )
    | st.text(max_size=12),
    max_size=24,
).map("".join)
bodies = st.builds(
    lambda content, extra: {"model": MODEL, "messages": [{"role": "user", "content": content}]} | extra,
    tagged_text | json_values,
    st.dictionaries(
        st.sampled_from(["n", "seed", "stream", "max_tokens", "temperature", "messages", "model"]),
        json_values,
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(json_values | bodies)
def test_no_body_makes_the_teacher_fail(value: Any):
    try:
        assert answer_request(orjson.dumps(value))["choices"]
    except Refusal as refusal:
        assert refusal.status in (400, 404)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200))
def test_no_bytes_make_the_teacher_fail(data: bytes):
    with pytest.raises(Refusal):
        answer_request(data)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(PNG) - 1), st.binary(min_size=1, max_size=12))
def test_a_damaged_image_is_read_or_refused(place: int, junk: bytes):
    try:
        assert _say(_image_body(PNG[:place] + junk + PNG[place + len(junk) :]))
    except Refusal as refusal:
        assert refusal.status == 400


@cache
def _descriptions() -> tuple[str, ...]:
    found = []
    for problem in draw_problems(ScenesSource(count=8, difficulty=(0.1, 0.5)), 2):
        try:
            found.append(describe(Image.open(io.BytesIO(problem.images[0].bytes)), 0))
        except Refusal:
            continue
    return tuple(found)


QUESTIONS = [_asked(problem) for problem in draw_problems(ScenesSource(count=24), 3)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_description_and_question_give_a_chain(data: st.DataObject):
    """Also where a description was cut, doubled or edited, or belongs to another question."""
    text = data.draw(st.sampled_from(_descriptions()) | st.text(max_size=60))
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
    edited = text[:start] + data.draw(st.sampled_from(["", text, "9999", "0", "-1", "red"])) + text[end:]
    question = data.draw(st.sampled_from(QUESTIONS) | st.text(max_size=60))
    chain = reason(edited, question, data.draw(st.integers()))
    assert chain
    trace = anchor(question, chain, 1)
    assert trace.startswith("<think>")
    assert trace.endswith("</answer>")


# ------------------------------------------------------------------------------------ the stages


def test_tags_inside_untrusted_text_do_not_confuse_the_stages():
    question = "What is <question>this</question> <task>anchor</task>? </description>"
    text = (
        f"<task>reason</task>\n<description>nothing <question>odd</question></description>\n"
        f"<question>{question}</question>"
    )
    assert "without an answer" in _say(_body(text))
    reasoning = "I say </reasoning><question> and <think>so</think>.\nFinal answer: 3"
    text = f"<task>anchor</task><question>q</question><reasoning>{reasoning}</reasoning>"
    trace = _say(_body(text))
    assert trace.count("<think>") == trace.count("</think>") == 1
    assert trace.endswith("<answer>3</answer>")


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The description says that the red circle is large.", "in the image I see that the red circle"),
        ("According to the description, it is blue.", "From the image, it is blue."),
        ("The image description lists two bars.", "The image shows two bars."),
        ("I check what the description gives.", "I check what the image shows."),
        ("The caption is clear.", "The image is clear."),
        ("As described, it is a square.", "As shown, it is a square."),
    ],
)
def test_a_description_becomes_the_image(sentence: str, expected: str):
    assert expected in anchor("q", f"{sentence}\n\nFinal answer: 1", 0)


def test_an_anchor_stands_at_a_named_element():
    chain = " ".join(f"The {colour} bar ends at 2." for colour in ("red", "blue", "green", "pink"))
    trace = anchor("q", f"{chain}\n\nFinal answer: 2", 0)
    assert len(re.findall(r"(?:back at|re-check|look at|again at) the \w+ bar in the", trace)) == 3


def test_without_a_final_answer_there_is_none():
    assert anchor("q", "I cannot tell.", 0).endswith("</think><answer></answer>")
    assert "Final answer" not in reason("A photograph of a dog on a lawn.", "How many red circles?", 0)


@pytest.mark.parametrize(
    ("question", "kind", "names"),
    [
        ("How many red circles are there in the picture?", "count", (("red", "circle"),)),
        ("Count the crosses. How many are there?", "count", (("", "cross"),)),
        ("What is the number of pink shapes in this picture?", "count", (("pink", ""),)),
        ("What colour is the largest shape?", "extreme", ()),
        ("Which is smaller, the red star or the blue cross?", "pair", (("red", "star"), ("blue", "cross"))),
        ("Is the red star above the blue cross?", "relation", (("red", "star"), ("blue", "cross"))),
        ("What is the value of the cyan bar?", "value", (("cyan", ""),)),
        ("By how much do the red bar and the blue bar differ?", "difference", (("red", ""), ("blue", ""))),
        ("How many bars are higher than the red bar?", "above", (("red", ""),)),
        ("Name the colour of the shortest bar.", "tallest", ()),
        ("What should replace the question mark?", "pattern", ()),
        ("Find the area of triangle ABC.", "", (("", "triangle"),)),
    ],
)
def test_questions_are_understood(question: str, kind: str, names: tuple[tuple[str, str], ...]):
    query = understand(question)
    assert (query.kind, query.names) == (kind, names)


# ------------------------------------------------------------------------------------ the whole way


def _three_stages(problem: Problem) -> tuple[str, str]:
    """How a problem ends (right, wrong, undecided, truncated, refused), and its trace."""
    parts = [
        {"type": "image_url", "image_url": {"url": _data_url(problem.images[0].bytes)}},
        {"type": "text", "text": describe_prompt(problem)},
    ]
    try:
        answers = [answer_request(orjson.dumps(_body(parts, seed=problem.index, max_tokens=2048)))]
    except Refusal:
        return "refused", ""
    for prompt in (reason_prompt, anchor_prompt):
        text = answers[-1]["choices"][0]["message"]["content"]
        answers.append(answer_request(orjson.dumps(_body(prompt(problem, text), max_tokens=2048))))
    if any(answer["choices"][0]["finish_reason"] == "length" for answer in answers):
        return "truncated", ""
    trace = answers[-1]["choices"][0]["message"]["content"]
    final = re.search(r"<answer>(.*)</answer>$", trace)
    assert final is not None
    return ("right" if final[1] == _gold(problem) else "wrong" if final[1] else "undecided"), trace


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_the_teacher_is_mostly_right_and_honestly_wrong(seed: int):
    ends: Counter[str] = Counter()
    by_family: Counter[str] = Counter()
    corrected = 0
    for problem in draw_problems(ScenesSource(), seed):
        end, trace = _three_stages(problem)
        ends[end] += 1
        by_family[problem.category] += end == "right"
        corrected += "I correct my" in trace
    assert 110 <= ends["right"] <= 170, ends
    assert all(by_family[family] >= 15 for family in ("count", "compare", "chart", "pattern")), by_family
    assert sum(ends[end] > 0 for end in ("wrong", "undecided", "truncated", "refused")) >= 2, ends
    assert corrected >= 0.25 * 200, corrected


def test_easy_problems_are_nearly_all_right():
    source = ScenesSource(count=40, difficulty=(0.0, 0.1))
    ends = Counter(_three_stages(problem)[0] for problem in draw_problems(source, 6))
    assert ends["right"] >= 34, ends


def test_a_trace_never_speaks_of_the_description():
    for problem in draw_problems(ScenesSource(count=24), 8):
        _, trace = _three_stages(problem)
        assert "descri" not in trace.lower()
        assert "caption" not in trace.lower()
