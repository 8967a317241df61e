"""Token regions on every chat template that trl ships, against formats written down by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

from schemas.errors import SpanError
from tests.formats import (
    FORMATS,
    IMAGE_TOKENS,
    NAMES,
    STRENGTH,
    Format,
    base,
    label_by_hand,
    processor_for,
    say,
    words_of,
)
from tests.tiny import student
from trainer.data import REGION_LABELS, RegionCollator
from trainer.messages import Conversation, encode
from trainer.regions import Regions, find_regions

REGIONS = ("system", "image", "user", "response", "other")
LABELS = ("pad", "other", "system", "image", "user", "response")
WITH_IMAGES = [name for name in NAMES if base(name) in FORMATS]

REFUSES, WRITES, DROPS = "refuses a list of parts", "writes the list as it is", "drops the image"
TEXT_ONLY = {
    REFUSES: "cohere deepseek_r1_distill deepseekv3 gptoss phi3 phi3_5 qwen2_5",
    WRITES: "cohere2 gemma lfm2 lfm2_v2 llama3 llama3_1 llama3_2 nemotron_3_5_lightning nemotron_3_nano "
    "nemotron_3_super nemotron_3_ultra",
    DROPS: "glm4moe qwen3 qwen3_instruct_2507",
}
# On texts alone: what keeps a template from being cut into turns.
UNCUT = {
    "does not tell where the turn ends": "phi3 phi3_5",
    "where the turn begins cannot be told": "gptoss",
    "give its content as a list of parts": "idefics3 smolvlm",
    "refuses the conversation: 'str object' has no attribute 'text'": "llava_next",
}


COMMON = [
    *("<|im_start|>", "<|im_end|>\n", "<start_of_turn>", "<|turn>user\n", "[INST]", "<image>", "User:"),
    *("<think>", "</think>", "</answer>", "\n", " ", "\t", "🙂", "e\u0301", "中文", "How many?"),
    *("\ue0f00\ue0f1", "\ue0f1", "\ue0f2", "\u2008\u2000\u200a", "{{ messages }}", "word " * 300),
]  # fmt: skip

EDGES = [  # system text, other messages: blank and empty texts, whitespace where regions meet
    ("", say("user", "How many?"), say("assistant", "")),
    (" \n", say("user", "\n", None, "How many? ", " ")),
    ("a\n", say("user", "\n b\n", None, "\n", None, "c"), say("assistant", "\n<think>\nb </think>\n\n c\n")),
    ("a", say("user", "\n"), say("assistant", "<think> </think> ")),
    ("a", say("user", ""), say("assistant", "a</think>b")),
    ("a", say("user", None, None), say("assistant", "<think></think>")),
]


def texts_of(processor: Any, talk: Conversation) -> dict[str, str]:
    """The tokens of each region, decoded."""
    encoded = encode(processor, [talk])
    regions = find_regions(processor, [talk], encoded)
    return {
        name: processor.tokenizer.decode(encoded["input_ids"][getattr(regions, name)]) for name in REGIONS
    }


def check(processor: Any, form: Format, talks: list[Conversation], prompt: bool, side: Any = "right") -> None:
    encoded = encode(processor, talks, padding_side=side, add_generation_prompt=prompt)
    regions = find_regions(processor, talks, encoded)
    labels = regions.to_labels()
    for row, talk in enumerate(talks):
        valid = regions.valid[row]
        ids, names = label_by_hand(form, talk, prompt, processor.tokenizer)
        assert encoded["input_ids"][row][valid].tolist() == ids
        assert [LABELS[label] for label in labels[row][valid].tolist()] == names


@st.composite
def talks(draw: st.DrawFn, form: Format) -> Conversation:
    """A conversation of hostile texts, some of them equal."""
    own = [*form.system, *form.user, *form.assistant, form.prompt, form.added[:30], *form.specials]
    fragments = st.sampled_from([*COMMON, *(text for text in own if text)])
    letters = st.text(st.characters(exclude_categories=["Cs", "Mn", "Mc", "Me"]), max_size=6)
    fresh = st.lists(fragments, max_size=4).map("".join) | letters
    shared = draw(fresh)
    text = fresh | st.just(shared)
    parts = draw(st.lists(st.none() | text, min_size=1, max_size=4))
    talk = [say("user", *parts)]
    if draw(st.booleans()):
        words = draw(text)
        content = say("system", words)["content"] if form.system_parts else words or "."
        talk.insert(0, {"role": "system", "content": content})
    if draw(st.booleans()):
        thought = st.tuples(text, text).map("<think>{0[0]}</think>{0[1]}".format)
        talk.append(say("assistant", draw(text | thought)))
    return talk


def is_rewritten(form: Format, talk: Conversation) -> bool:
    """Whether the template changes more of a text than its edges and the tags of one thought."""
    if STRENGTH in form.system and any(STRENGTH in (text or "") for text in words_of(talk[0])):
        return True  # what it would add to the system turn is there already
    text = talk[-1]["content"][-1].get("text") or ""
    if talk[-1]["role"] != "assistant":
        return False
    if "<|channel>" in form.specials and ("<|channel>" in text or "<channel|>" in text):
        return True
    before, found, after = text.partition("</think>")
    stray = "</think>" in after or "<think>" in after or before.count("<think>") > 1
    lead = before.partition("<think>")[0].strip() if "<think>" in before else ""
    return form.thinks and bool(found) and (stray or bool(lead))


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_regions_are_those_of_the_format_whatever_the_texts_hold(name: str) -> None:
    form, processor = FORMATS[base(name)], processor_for(name)
    for words, *rest in EDGES:
        content = say("system", words)["content"] if form.system_parts else words or "."
        talk = [{"role": "system", "content": content}, *rest]
        check(processor, form, [talk], prompt=len(rest) == 1)

    @settings(max_examples=12, deadline=None)
    @given(st.lists(talks(form), min_size=1, max_size=2), st.sampled_from(["left", "right"]))
    def compare(batch: list[Conversation], side: str) -> None:
        prompt = batch[0][-1]["role"] == "user"
        batch = [talk for talk in batch if (talk[-1]["role"] == "user") is prompt]
        try:
            check(processor, form, batch, prompt, side)
        except SpanError as error:
            assert any(is_rewritten(form, talk) for talk in batch), error

    compare()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITH_IMAGES])
def test_a_template_is_tested_or_known_to_render_no_image(name: str) -> None:
    known = [reason for reason, names in TEXT_ONLY.items() if base(name) in names.split()]
    assert known == [reason_without_images(processor_for(name))], "a new template: write its Format down"
    talk = [say("user", None, "How many?"), say("assistant", "Four.")]
    messages = {
        REFUSES: "refuses the conversation",
        WRITES: "give its content as one string|0 image placeholders for 1 images",
        DROPS: "0 image placeholders for 1 images|a text of it 0 times",
    }
    with pytest.raises(SpanError, match=f"row 0: .*({messages[known[0]]})"):
        find_regions(processor_for(name), [talk], encode(student()[1], [talk]))


def reason_without_images(processor: Any) -> str:
    talks = [say("user", None, "How many?")], [say("user", "How many?")]
    try:
        shown, plain = (processor.apply_chat_template(talk, tokenize=False) for talk in talks)
    except (TemplateError, TypeError):
        return REFUSES
    if "'type'" in shown or '"type"' in shown:
        return WRITES
    return DROPS if shown == plain else "renders it"


SAID = {
    "system": "Look closely.",
    "user": "How many?",
    "assistant": "<think>I see.</think><answer>4</answer>",
}


@pytest.mark.parametrize("name", NAMES)
def test_conversations_of_texts_alone_have_regions_too(name: str) -> None:
    lacks_system = base(name) in ("gemma", "gptoss")  # it has none, or refuses only what follows
    talk: Conversation = [{"role": role, "content": text} for role, text in SAID.items()][lacks_system:]
    refused = [message for message, names in UNCUT.items() if base(name) in names.split()]
    if refused:
        with pytest.raises(SpanError, match=refused[0]):
            find_regions(processor_for(name), [talk], encode(student()[1], [talk]))
        return
    found = texts_of(processor_for(name), talk)
    said = SAID | {"system": ""} if lacks_system else SAID
    for region, words in zip(("system", "user", "response"), said.values(), strict=True):
        words = words.removeprefix("<think>I see.</think>")  # some write the tags themselves
        assert words in found[region]
        assert not any(words and words in found[other] for other in REGIONS if other != region)


TRACE = "<think>I see four.</think>\n<answer>4</answer>"
REPLIES = [  # template, reply, expected response, expected last tokens before it
    ("qwen2_5_vl", TRACE, f"{TRACE}<|im_end|>\n", "<|im_start|>assistant\n"),
    ("qwen3_vl", TRACE, f"{TRACE}<|im_end|>\n", "<|im_start|>assistant\n"),
    (
        "qwen3_5_think",  # writes the tags itself, as its generation prompt does
        TRACE,
        "I see four.\n</think>\n\n<answer>4</answer><|im_end|>\n",
        "<|im_start|>assistant\n<think>\n",
    ),
    ("qwen3_5_think_training", "Four.", "Four.<|im_end|>\n", "assistant\n<think>\n\n</think>\n\n"),
    ("qwen3_8_training", TRACE, f"{TRACE}<|im_end|>\n", "assistant\n<think>\n\n</think>\n\n"),
    ("gemma3_training", TRACE, f"{TRACE}<end_of_turn>\n", "<start_of_turn>model\n"),
    ("gemma4_v5", TRACE, f"{TRACE}<turn|>\n", "<|turn>model\n"),
    ("llava_next", TRACE, f"{TRACE}</s> ", "\n "),
    ("idefics3_training", TRACE, f"{TRACE}<end_of_utterance>\n", "Assistant: "),
    ("smolvlm", TRACE, f"{TRACE}<end_of_utterance>\n", "Assistant: "),
    ("lfm2_2_5_vl", TRACE, f"{TRACE}<|im_end|>\n", "<|im_start|>assistant\n"),
    ("muse_glimmer", TRACE, f"{TRACE}<|eot|>", "<|start|>assistant to=user<|message|>"),
]


@pytest.mark.parametrize(("name", "reply", "response", "before"), REPLIES)
def test_a_trace_is_the_response(name: str, reply: str, response: str, before: str) -> None:
    found = texts_of(processor_for(name), [say("user", None, "How many?"), say("assistant", reply)])
    assert found["response"] == response
    assert found["other"].endswith(before)


EARLIER = [  # template, expected responses of two turns; the first thought is dropped or kept
    ("qwen3_vl", "<think>a</think> b<|im_end|>\n<think>c</think>d<|im_end|>\n"),
    ("qwen3_5_think", " b<|im_end|>\nc\n</think>\n\nd<|im_end|>\n"),
    ("qwen3_5_think_training", "a\n</think>\n\n b<|im_end|>\nc\n</think>\n\nd<|im_end|>\n"),
    ("lfm2_2_5_vl", "b<|im_end|>\n<think>c</think>d<|im_end|>\n"),
    ("gemma3", "<think>a</think> b<end_of_turn>\n<think>c</think>d<end_of_turn>\n"),
]


@pytest.mark.parametrize(("name", "response"), EARLIER)
def test_thoughts_of_earlier_turns_may_be_dropped(name: str, response: str) -> None:
    replies = [say("assistant", "<think>a</think> b"), say("assistant", "<think>c</think>d")]
    talk = [say("user", None, "One?"), replies[0], say("user", "Two?"), replies[1]]
    found = texts_of(processor_for(name), talk)
    assert found["response"] == response
    assert [found["user"].count(word) for word in ("One?", "Two?")] == [1, 1]


CHANNEL = "<|channel>thought\na<channel|>Four."
REWRITTEN = [  # template, system text, reply, message
    ("gemma4", "Look.", CHANNEL, "rewrites content: it renders 'Four."),
    ("qwen3_5_think", "Look.", "<think>a</think>b</think>c", "one <think>...</think> at the start"),
    ("muse_glimmer", "Reasoning effort: low", "b", "rewrites content: it renders 'strength: low"),
    ("gemma4_v3", "Look.", "b", r"message 0 \(system\): .* give its content as one string"),
]


@pytest.mark.parametrize(("name", "system", "reply", "message"), REWRITTEN)
def test_a_text_that_the_template_rewrites_is_refused(
    name: str, system: str, reply: str, message: str
) -> None:
    talk = [say("system", system), say("user", None, "How many?"), say("assistant", reply)]
    with pytest.raises(SpanError, match=f"row 0: .*{message}"):
        find_regions(processor_for(name), [talk], encode(student()[1], [talk]))


@pytest.mark.parametrize("name", [name for name in WITH_IMAGES if FORMATS[base(name)].system_parts])
@pytest.mark.parametrize("reply", [TRACE, "Four."])
def test_trl_batches_have_regions_on_every_template(name: str, reply: str) -> None:
    """TRL tokenizes prompt and completion apart, and cuts where the generation prompt ends."""
    processor = processor_for(name)
    collator: Any = DataCollatorForVisionLanguageModeling
    collate = RegionCollator(collator(processor, max_length=None, completion_only_loss=True), processor)
    user = say("user", None, "How many?")
    images = [part.pop("image") for part in user["content"] if part["type"] == "image"]
    prompt, completion = [say("system", "Look closely."), user], [say("assistant", reply)]
    batch = collate([{"images": images, "prompt": prompt, "completion": completion}])
    regions, ids = Regions.from_labels(batch[REGION_LABELS]), batch["input_ids"][0]
    assert torch.equal(regions.response, batch["labels"] != -100)
    assert int(regions.image.sum()) == IMAGE_TOKENS
    decode = processor.tokenizer.decode
    assert reply.removeprefix("<think>I see four.</think>").strip() in decode(ids[regions.response[0]])
    assert "How many?" in decode(ids[regions.user[0]])
    assert "Look closely." in decode(ids[regions.system[0]])
