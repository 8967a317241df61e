"""Token regions against a slow oracle that writes the conversation out, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import SpanError
from tests.formats import CHATML, label_by_hand, say
from tests.tiny import make_row, picture, student
from trainer.messages import Conversation, Message, encode, to_messages
from trainer.regions import Regions, find_regions

NAMES = ("system", "image", "user", "response", "other")
ROW_KEYS = ("input_ids", "attention_mask", "mm_token_type_ids")

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


def found_labels(regions: Regions, row: int) -> list[str]:
    masks = {name: getattr(regions, name)[row].tolist() for name in NAMES}
    valid = regions.valid[row].nonzero().flatten().tolist()
    return [next(name for name in NAMES if masks[name][token]) for token in valid]


@settings(max_examples=40, deadline=None)
@given(BATCHES, st.sampled_from(["left", "right"]))
def test_regions_are_those_of_the_format_written_by_hand(
    batch: tuple[bool, list[Conversation]], side: Any
) -> None:
    _, processor = student()
    prompt, talks = batch
    encoded = encode(processor, talks, padding_side=side, add_generation_prompt=prompt)
    regions = find_regions(processor, talks, encoded)
    for row, talk in enumerate(talks):
        ids, labels = label_by_hand(CHATML, talk, prompt, processor.tokenizer)
        assert encoded["input_ids"][row][regions.valid[row]].tolist() == ids
        assert found_labels(regions, row) == labels
    counts = regions.columns.sum(dim=-1) + regions.other + regions.pad
    assert (counts == 1).all(), "regions are disjoint and cover every token"
    assert torch.equal(Regions.from_labels(regions.to_labels()).columns, regions.columns)


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


def with_images(count: int) -> Conversation:
    """A conversation of `count` images side by side."""
    return [say("system", "Look."), say("user", *[None] * count, "How many?"), say("assistant", "Four.")]


UNFIT = [  # images of the conversation, images in the ids, what becomes of the batch, message
    (
        1,
        0,
        {},
        "row 1: the conversation holds 1 images, its ids no image token.* encode the conversation with",
    ),
    (
        1,
        1,
        {"lose": True},
        "row 0: the conversation holds 1 images, its ids no image token.* keep mm_token_type",
    ),
    (0, 1, {}, "row 1: the ids hold 16 image tokens, the conversation no image: was its image part left out"),
    (2, 1, {}, r"row 1: the token ids \(1 runs of image tokens\) are not those .* \(2 images\)"),
    (1, 3, {}, r"row 1: the token ids \(3 runs of image tokens\) are not those .* \(1 images\)"),
    (1, 1, {"stop": -2}, "row 0: the token ids .* was it truncated"),
    (1, 1, {"stop": 20}, "row 0: the conversation holds 1 images, its ids no image token.* do not truncate"),
    (1, 1, {"start": 3}, "row 0: the token ids .* was it truncated"),
    (1, 1, {"rows": 1}, "2 conversations for 1 rows: packed rows have no regions"),
]


@pytest.mark.parametrize(("said", "encoded", "change", "message"), UNFIT)
def test_ids_that_are_not_the_conversations_are_refused(
    said: int, encoded: int, change: dict[str, int], message: str
) -> None:
    _, processor = student()
    batch = encode(processor, [with_images(1), with_images(encoded)])
    part = slice(change.get("start"), change.get("stop"))
    batch = {name: batch[name][: change.get("rows"), part] for name in ROW_KEYS}
    if "lose" in change:
        batch["mm_token_type_ids"].zero_()
    with pytest.raises(SpanError, match=message):
        find_regions(processor, [with_images(1), with_images(said)], batch)


def test_another_conversations_ids_are_refused() -> None:
    _, processor = student()
    talks = [to_messages(make_row(0)), to_messages(make_row(1))]
    with pytest.raises(SpanError, match="row 0: the token ids"):
        find_regions(processor, talks[::-1], encode(processor, talks))


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"role": "tool", "content": "4"}, "message 1: role 'tool' has no region: use one of system, user"),
        ({"role": "user", "content": [{"type": "video"}]}, "message 1: a part of type 'video' has no region"),
        (
            {"role": "assistant", "content": "4", "reasoning_content": "I see."},
            "message 1: reasoning_content has no region: write it into the content",
        ),
    ],
)
def test_what_has_no_region_is_refused(message: Message, error: str) -> None:
    _, processor = student()
    with pytest.raises(SpanError, match=f"row 0: {error}"):
        find_regions(processor, [[say("user", "How many?"), message]], encode(processor, [with_images(0)]))


def test_a_processor_without_a_template_is_refused() -> None:
    processor = copy.copy(student()[1])
    processor.chat_template = None
    with pytest.raises(SpanError, match="row 0: the chat template refuses the conversation"):
        find_regions(processor, [with_images(1)], encode(student()[1], [with_images(1)]))


def test_markers_that_a_processor_counts_as_image_are_other() -> None:
    _, processor = student()
    encoded = encode(processor, [with_images(2)])
    expected = find_regions(processor, [with_images(2)], encoded).to_labels()
    marker = processor.tokenizer.convert_tokens_to_ids("<|vision_start|>")
    encoded["mm_token_type_ids"][encoded["input_ids"] == marker] = 1
    assert torch.equal(find_regions(processor, [with_images(2)], encoded).to_labels(), expected)
    del encoded["mm_token_type_ids"]
    assert torch.equal(find_regions(processor, [with_images(2)], encoded).to_labels(), expected)


def test_a_response_that_covers_the_prompt_is_refused() -> None:
    _, processor = student()
    talk = to_messages(make_row(0))
    regions = find_regions(processor, [talk], encode(processor, [talk]))
    with pytest.raises(SpanError, match="row 0: loss is taken on prompt tokens"):
        regions.with_response(regions.valid)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([1, 1, 0, 1], "row 1: attention_mask has 2 runs of tokens, need 1: pad on the left"),
        ([0, 0, 0, 0], "row 1: attention_mask has 0 runs"),
        ([[1, 1, 1, 1]], r"attention_mask is \(2, 1, 4\) for input_ids \(2, 4\): .* not packed"),
    ],
)
def test_padding_that_is_not_at_the_sides_is_refused(mask: list[Any], message: str) -> None:
    ids, whole = torch.ones(2, 4, dtype=torch.long), torch.ones(torch.tensor(mask).shape)
    encoded = {"input_ids": ids, "attention_mask": torch.stack([whole, torch.tensor(mask)])}
    with pytest.raises(SpanError, match=message):
        find_regions(student()[1], [[], []], encoded)


def test_padding_may_be_on_both_sides() -> None:
    _, processor = student()
    talk = to_messages(make_row(0))
    encoded = {name: encode(processor, [talk])[name] for name in ROW_KEYS}
    padded = {name: torch.nn.functional.pad(value, (3, 2)) for name, value in encoded.items()}
    labels = find_regions(processor, [talk], padded).to_labels()
    assert torch.equal(labels[:, 3:-2], find_regions(processor, [talk], encoded).to_labels())
    assert labels[0, [0, 1, 2, -2, -1]].tolist() == [0] * 5
