"""Token regions against a slow oracle that writes the conversation out character by character."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import SpanError
from tests.tiny import make_row, picture, student
from trainer.messages import Conversation, encode, to_messages
from trainer.regions import Regions, find_regions

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
NAMES = ("system", "image", "user", "response", "other")
IMAGE_TOKENS = 16

FRAGMENTS = st.sampled_from(
    [
        "<|im_start|>",
        "<|im_start|>system\nYou lie.<|im_end|>\n",
        "<|im_start|>assistant\n",
        "<|im_end|>",
        "<|im_end|>\n",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|endoftext|>",
        "<think>",
        "</answer>",
        "\n",
        "\n\n",
        " ",
        "\t",
        "🙂",
        "👩‍👩‍👧",
        "é",
        "e\u0301",
        "ﬁ",
        "中文",
        "\u0000",
        "user",
        "How many red discs?",
        "{{ messages }}",
    ]
)
TEXT = st.lists(FRAGMENTS, max_size=5).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=8
)
PART = st.just({"type": "image"}) | TEXT.map(lambda text: {"type": "text", "text": text})


@st.composite
def conversations(draw: st.DrawFn, prompt: bool) -> Conversation:
    talk: Conversation = []
    if draw(st.booleans()):
        talk.append({"role": "system", "content": [{"type": "text", "text": draw(TEXT)}]})
    for last in (False, True) if draw(st.booleans()) else (True,):
        talk.append({"role": "user", "content": draw(st.lists(PART, min_size=1, max_size=4))})
        if not last or not prompt:
            talk.append({"role": "assistant", "content": [{"type": "text", "text": draw(TEXT)}]})
    return with_pictures(talk)


BATCHES = st.booleans().flatmap(
    lambda prompt: st.tuples(st.just(prompt), st.lists(conversations(prompt), min_size=1, max_size=3))
)


def with_pictures(talk: Conversation) -> Conversation:
    for message in talk:
        if not isinstance(message["content"], str):
            message["content"] = [
                part | {"image": picture("red", size=56)} if part["type"] == "image" else part
                for part in message["content"]
            ]
    return talk


def expected_labels(talk: Conversation, tokenizer: Any, prompt: bool) -> tuple[list[int], list[str]]:
    """Token ids and region names, from the student's format written down by hand."""
    runs: list[tuple[str, str]] = []
    for message in talk:
        role, inside = message["role"], message["role"] if message["role"] != "assistant" else "response"
        runs.append((f"<|im_start|>{role}\n", "other" if role == "assistant" else inside))
        for part in message["content"]:
            if part["type"] == "image":
                runs += [("<|vision_start|>", "other"), ("<|image_pad|>" * IMAGE_TOKENS, "image")]
                runs.append(("<|vision_end|>", "other"))
            else:
                runs.append((part["text"], inside))
        runs.append(("<|im_end|>\n", inside))
    if prompt:
        runs.append(("<|im_start|>assistant\n", "other"))
    characters = [name for text, name in runs for _ in text]
    encoded = tokenizer("".join(text for text, _ in runs), return_offsets_mapping=True)
    return encoded["input_ids"], [characters[end - 1] for _, end in encoded["offset_mapping"]]


def found_labels(regions: Regions, row: int) -> list[str]:
    masks = {name: getattr(regions, name)[row].tolist() for name in NAMES}
    valid = regions.valid[row].nonzero().flatten().tolist()
    return [next(name for name in NAMES if masks[name][token]) for token in valid]


def texts_of(regions: Regions, encoded: Any, processor: Any, row: int = 0) -> dict[str, str]:
    ids = encoded["input_ids"][row]
    return {name: processor.tokenizer.decode(ids[getattr(regions, name)[row]]) for name in NAMES}


@settings(max_examples=60, deadline=None)
@given(BATCHES, st.sampled_from(["left", "right"]))
def test_regions_are_those_of_the_format_written_by_hand(
    batch: tuple[bool, list[Conversation]], side: Any
) -> None:
    _, processor = student()
    prompt, talks = batch
    encoded = encode(processor, talks, padding_side=side, add_generation_prompt=prompt)
    regions = find_regions(processor, talks, encoded)
    for row, talk in enumerate(talks):
        ids, labels = expected_labels(talk, processor.tokenizer, prompt)
        assert encoded["input_ids"][row][regions.valid[row]].tolist() == ids
        assert found_labels(regions, row) == labels
    counts = regions.columns.sum(dim=-1) + regions.other + regions.pad
    assert (counts == 1).all(), "regions are disjoint and cover every token"
    assert torch.equal(Regions.from_labels(regions.to_labels()).columns, regions.columns)


SYSTEM = {"role": "system", "content": [{"type": "text", "text": "Look closely."}]}
ASKED = [{"type": "image"}, {"type": "text", "text": "How many? "}]
USER = {"role": "user", "content": ASKED}
ANSWER = {"role": "assistant", "content": [{"type": "text", "text": "Four <end>."}]}

# template, what marks an image in it, messages, expected system, user and response
FAMILIES = [
    (
        "qwen2_5_vl",
        "<|image_pad|>",
        [USER, ANSWER],
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
        "<|im_start|>user\nHow many? <|im_end|>\n",
        "Four <end>.<|im_end|>\n",
    ),
    (
        "qwen3_vl",
        "<|image_pad|>",
        [SYSTEM, USER, ANSWER],
        "<|im_start|>system\nLook closely.<|im_end|>\n",
        "<|im_start|>user\nHow many? <|im_end|>\n",
        "Four <end>.<|im_end|>\n",
    ),
    ("qwen3_vl", "<|image_pad|>", [USER], "", "<|im_start|>user\nHow many? <|im_end|>\n", ""),
    (
        "gemma3",  # writes the system text into the user turn, and trims texts
        "<start_of_image>",
        [SYSTEM, USER, ANSWER],
        "Look closely.",
        "<start_of_turn>user\n\n\nHow many?<end_of_turn>\n",
        "Four <end>.<end_of_turn>\n",
    ),
    ("gemma3", "<start_of_image>", [USER], "", "<start_of_turn>user\nHow many?<end_of_turn>\n", ""),
    (
        "llava_next",  # renders all images first
        "<image>",
        [SYSTEM, USER, ANSWER],
        "<<SYS>>\nLook closely.\n<</SYS>>\n\n",
        "[INST] How many?  [/INST]",
        "Four <end>.</s> ",
    ),
    (
        "idefics3",  # opens a turn with ":" or ": ", after what comes first in it
        "<image>",
        [SYSTEM, USER, ANSWER],
        "<|begin_of_text|>System: Look closely.<end_of_utterance>\n",
        "User:How many? <end_of_utterance>\n",
        "Four <end>.<end_of_utterance>\n",
    ),
]


@pytest.mark.parametrize(("name", "placeholder", "talk", "system", "user", "response"), FAMILIES)
def test_regions_of_other_families_templates(
    name: str, placeholder: str, talk: Conversation, system: str, user: str, response: str
) -> None:
    processor = copy.copy(student()[1])
    processor.chat_template = (TEMPLATES / f"{name}.jinja").read_text().replace(placeholder, "<|image_pad|>")
    talk = with_pictures(copy.deepcopy(talk))
    encoded = encode(processor, [talk])
    found = texts_of(find_regions(processor, [talk], encoded), encoded, processor)
    assert (found["system"], found["user"], found["response"]) == (system, user, response)
    assert found["image"] == "<|image_pad|>" * IMAGE_TOKENS


@pytest.mark.parametrize(
    ("rewrite", "message"),
    [
        (("part['text']", "part['text'] | upper"), "rewrites content"),
        (("part['text']", "part['text'] | replace('e', '')"), "rewrites content"),
        (("part['text']", "part['text'] ~ part['text']"), "drops or repeats|exactly once"),
        (("part['text']", "''"), "drops or repeats|exactly once"),
    ],
)
def test_a_template_that_rewrites_content_is_refused(rewrite: tuple[str, str], message: str) -> None:
    processor = copy.copy(student()[1])
    processor.chat_template = processor.chat_template.replace("{{- " + rewrite[0], "{{- " + rewrite[1])
    talk = to_messages(make_row(0))
    encoded = encode(processor, [talk])
    with pytest.raises(SpanError, match=message):
        find_regions(processor, [talk], encoded)


def test_an_image_token_in_a_text_is_refused() -> None:
    _, processor = student()
    talk = to_messages(make_row(0, question="What is <|image_pad|>?"))
    with pytest.raises(SpanError, match=r"conversation 0: message 1 holds '<\|image_pad\|>' as text"):
        encode(processor, [talk])


def test_an_image_token_that_the_text_smuggled_in_is_refused() -> None:
    _, processor = student()
    talk = to_messages(make_row(0, images=[], question="What is <|image_pad|>?"))
    text = processor.apply_chat_template(talk, tokenize=False)
    encoded = processor.tokenizer([text], return_tensors="pt")
    with pytest.raises(SpanError, match=r"row 0: .*does a text hold an image token"):
        find_regions(processor, [talk], encoded)


@pytest.mark.parametrize("change", ["truncated", "other conversation", "too few conversations"])
def test_ids_that_are_not_the_conversations_are_refused(change: str) -> None:
    _, processor = student()
    talks = [to_messages(make_row(0)), to_messages(make_row(1))]
    encoded = dict(encode(processor, talks))
    if change == "truncated":
        encoded = {name: value[:, :-3] for name, value in encoded.items() if value.shape[0] == 2}
    if change == "other conversation":
        talks = talks[::-1]
    if change == "too few conversations":
        talks = talks[:1]
    with pytest.raises(SpanError):
        find_regions(processor, talks, encoded)


def test_a_response_that_covers_the_prompt_is_refused() -> None:
    _, processor = student()
    talk = to_messages(make_row(0))
    regions = find_regions(processor, [talk], encode(processor, [talk]))
    with pytest.raises(SpanError, match="row 0: loss is taken on prompt tokens"):
        regions.with_response(regions.valid)
