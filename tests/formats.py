"""What each chat template of trl writes around an image and texts, written down by hand.

`label_by_hand` is the slow oracle for `trainer.regions`: the conversation character by character.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import trl

from tests.tiny import picture, student
from trainer.messages import Conversation, Message

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
NAMES = sorted(path.stem for path in TEMPLATES.glob("*.jinja"))
PAD, IMAGE_TOKENS = "<|image_pad|>", 16
Pair = tuple[str, str]


@dataclass(frozen=True)
class Format:
    """What a template writes around the texts of system, user and assistant; `*_training` writes the same.

    Attributes:
        placeholder: marks an image in the template, `image` stands before and after it.
        added: the system turn that the template adds by itself.
        empty: in place of a system turn without words, None where it is written like any other.
        trims: "" nothing, "texts" each text, "content" the whole content of a turn.
        thinks: the template writes the tags of a thought itself.
        folds: the system text stands in the user's turn.
        colon: a space after the opening, unless an image follows.
        system_parts: the system's content may be a list.
    """

    system: Pair
    user: Pair
    assistant: Pair
    prompt: str
    bos: str = ""
    placeholder: str = PAD
    image: Pair = ("<|vision_start|>", "<|vision_end|>")
    added: str = ""
    empty: str | None = None
    trims: str = ""
    specials: tuple[str, ...] = ()
    thinks: bool = False
    folds: bool = False
    images_first: bool = False
    colon: bool = False
    system_parts: bool = True


CHATML = Format(
    ("<|im_start|>system\n", "<|im_end|>\n"),
    ("<|im_start|>user\n", "<|im_end|>\n"),
    ("<|im_start|>assistant\n", "<|im_end|>\n"),
    "<|im_start|>assistant\n",
)
LFM = replace(CHATML, empty="", bos="<s>", placeholder="<image>", image=("", ""))
QWEN3_5 = replace(CHATML, trims="content", thinks=True, prompt="<|im_start|>assistant\n<think>\n")
EFFORT = (
    "Reasoning effort is set to xhigh. Please think carefully through the task, validate key assumptions, "
    "consider plausible alternatives, and prioritize correctness, consistency, and clarity in the final "
    "answer."
)
GEMMA3 = Format(
    ("", "\n\n"),
    ("<start_of_turn>user\n", "<end_of_turn>\n"),
    ("<start_of_turn>model\n", "<end_of_turn>\n"),
    "<start_of_turn>model\n",
    bos="<bos>",
    placeholder="<start_of_image>",
    image=("", ""),
    trims="texts",
    specials=("<start_of_turn>", "<end_of_turn>"),
    folds=True,
)
GEMMA4 = Format(
    ("<|turn>system\n", " <turn|>\n"),
    ("<|turn>user\n", "<turn|>\n"),
    ("<|turn>model\n", "<turn|>\n"),
    "<|turn>model\n",
    bos="<bos>",
    placeholder="<|image|>",
    image=("", ""),
    trims="texts",
    specials=("<|turn>", "<turn|>", "<|channel>", "<channel|>"),
)
IDEFICS = Format(
    ("System:", "<end_of_utterance>\n"),
    ("User:", "<end_of_utterance>\n"),
    ("Assistant:", "<end_of_utterance>\n"),
    "Assistant:",
    bos="<|begin_of_text|>",
    placeholder="<image>",
    image=("", ""),
    specials=("<end_of_utterance>",),
    colon=True,
)
STRENGTH = '\n\nReasoning strength: high.\n\n# Valid recipients: "self", "user".<|eot|>'
MUSE_SYSTEM = "<|start|>system<|message|>"
MUSE_ADDED = "You are a helpful AI assistant.\nKnowledge cutoff: 2026-01-04.\nCurrent date: "
FORMATS = {
    "qwen2_5_vl": replace(CHATML, added="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"),
    "qwen3_vl": CHATML,
    "qwen3_5_think": QWEN3_5,
    "qwen3_5_nothink": replace(QWEN3_5, prompt="<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    "qwen3_6": QWEN3_5,
    "qwen3_8": replace(
        QWEN3_5,
        thinks=False,
        added=f"<|im_start|>system\n{EFFORT}<|im_end|>\n",
        empty=f"<|im_start|>system\n{EFFORT}<|im_end|>\n",
        system=(f"<|im_start|>system\n{EFFORT}\n\n", "<|im_end|>\n"),
        assistant=("<|im_start|>assistant\n<think>\n\n</think>\n\n", "<|im_end|>\n"),
    ),
    "lfm2_2_5": LFM,
    "lfm2_2_5_v2": LFM,
    "lfm2_2_5_vl": LFM,
    "gemma3": GEMMA3,
    "gemma4": GEMMA4,
    "gemma4_v2": replace(
        GEMMA4, system=("<|turn>system\n", "<turn|>\n"), system_parts=False, image=("\n\n", "\n\n")
    ),
    "gemma4_v3": replace(GEMMA4, system=("<|turn>system\n", "<turn|>\n"), system_parts=False),
    "gemma4_v4": GEMMA4,
    "gemma4_v5": GEMMA4,
    "diffusion_gemma": GEMMA4,
    "idefics3": IDEFICS,
    "smolvlm": replace(IDEFICS, bos="<|im_start|>"),
    "llava_next": Format(
        ("<<SYS>>\n", "\n<</SYS>>\n\n"),
        ("[INST] ", " [/INST]"),
        (" ", "</s> "),
        "",
        placeholder="<image>",
        image=("", "\n"),
        specials=("</s>",),
        images_first=True,
    ),
    "muse_glimmer": Format(
        (MUSE_SYSTEM, STRENGTH),
        ("<|start|>user<|message|>", "<|eot|>"),
        ("<|start|>assistant to=user<|message|>", "<|eot|>"),
        "<|start|>assistant",
        bos="<s>",
        placeholder="<|patch|>",
        image=("", ""),
        added=f"{MUSE_SYSTEM}{MUSE_ADDED}{time.strftime('%Y-%m-%d')}.{STRENGTH}",
        specials=("<|start|>", "<|message|>", "<|eot|>"),
    ),
}
WITH_IMAGES = [name for name in NAMES if name.removesuffix("_training") in FORMATS]


def base(name: str) -> str:
    return name.removesuffix("_training")


@cache
def processor_for(name: str) -> Any:
    """The student's processor with this template; the student's image token stands for the template's."""
    processor = copy.copy(student()[1])
    form = FORMATS.get(base(name), CHATML)
    processor.chat_template = (TEMPLATES / f"{name}.jinja").read_text().replace(form.placeholder, PAD)
    processor.tokenizer = copy.deepcopy(processor.tokenizer)
    special = {"bos_token": form.bos or "<s>", "additional_special_tokens": list(form.specials)}
    processor.tokenizer.add_special_tokens(special)
    return processor


def say(role: str, *texts: str | None) -> Message:
    """A message of several parts; None stands for an image."""
    image = {"type": "image", "image": picture("red", size=56)}
    parts = [image if text is None else {"type": "text", "text": text} for text in texts]
    return {"role": role, "content": parts}


def words_of(message: Message) -> list[str | None]:
    content = message["content"]
    return [content] if isinstance(content, str) else [part.get("text") for part in content]


def trim(form: Format, words: list[str | None]) -> list[str | None]:
    if form.trims == "texts":
        return [text and text.strip() for text in words]
    if form.trims == "content":
        for strip, order in ((str.lstrip, range(len(words))), (str.rstrip, reversed(range(len(words))))):
            for index in order:
                words[index] = text = words[index] and strip(words[index] or "")
                if text or text is None:
                    break
    return words


def write(form: Format, talk: Conversation, prompt: bool) -> Iterator[tuple[str, str, bool]]:
    """The conversation as (text, region, whether it is the conversation's own), written down by hand."""
    yield form.bos, "other", False
    if talk[0]["role"] != "system":
        yield form.added, "system", False
    for message in talk:
        words = words_of(message)
        space = " " if form.colon and words[0] is not None else ""
        if message["role"] == "system":
            yield from write_system(form, words, space)
        elif message["role"] == "user":
            opened = form.folds and talk[0]["role"] == "system"
            yield "" if opened else form.user[0] + space, "user", False
            yield from write_question(form, words)
            yield form.user[1], "user", False
        else:
            yield form.assistant[0] + space, "other", False
            yield from write_reply(form, "".join(text or "" for text in trim(form, words)))
            yield form.assistant[1], "response", False
    if prompt:
        yield form.prompt, "other", False


def write_system(form: Format, words: list[str | None], space: str) -> Iterator[tuple[str, str, bool]]:
    if form.folds:
        yield form.user[0], "user", False
        yield words[0] or "", "system", True
        yield form.system[1], "user", False
        return
    text = trim(form, words)[0] or ""
    if not text and form.empty is not None:
        yield form.empty, "system", False
        return
    yield form.system[0] + space, "system", False
    yield text, "system", True
    yield form.system[1], "system", False


def write_question(form: Format, words: list[str | None]) -> Iterator[tuple[str, str, bool]]:
    ordered = sorted(words, key=lambda text: text is not None) if form.images_first else words
    for text in trim(form, ordered):
        if text is not None:
            yield text, "user", True
            continue
        yield form.image[0], "other", False
        yield PAD * IMAGE_TOKENS, "image", False
        yield form.image[1], "other", False


def write_reply(form: Format, text: str) -> Iterator[tuple[str, str, bool]]:
    if form.thinks:
        before, found, after = text.partition("</think>")
        thought = before.split("<think>")[-1].strip() if found else ""
        yield "<think>\n", "other", False
        yield thought, "response", True
        yield "\n</think>\n\n", "response" if thought else "other", False
        text = after.lstrip("\n") if found else text
    yield text, "response", True


def label_by_hand(
    form: Format, talk: Conversation, prompt: bool, tokenizer: Any
) -> tuple[list[int], list[str]]:
    """Token ids and regions: a token goes with the last own character it holds, else with its last one."""
    runs = list(write(form, talk, prompt))
    characters = [(region, own) for text, region, own in runs for _ in text]
    encoded = tokenizer("".join(text for text, _, _ in runs), return_offsets_mapping=True)
    names = []
    for start, end in encoded["offset_mapping"]:
        held = characters[start:end]
        names.append(next((region for region, own in reversed(held) if own), held[-1][0]))
    return encoded["input_ids"], names
