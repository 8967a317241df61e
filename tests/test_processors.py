"""Token regions with the real processors of other families: what they write in place of an image."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import trl
from transformers import LlamaTokenizer
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

from schemas.errors import SpanError
from tests.formats import say
from tests.tiny import student
from trainer.messages import Conversation, encode
from trainer.regions import find_regions

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
REGIONS = ("system", "user", "response", "other")


def tokenizer_with(bos: str, *specials: str, **named: str) -> Any:
    """The student's tokenizer with another family's special tokens; `named` ones as its attributes."""
    tokenizer = copy.deepcopy(student()[1].tokenizer)
    extra = [*specials, *named.values()]
    tokenizer.add_special_tokens({"bos_token": bos, "additional_special_tokens": extra})
    for name, token in named.items():
        setattr(tokenizer, name, token)
        setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    return tokenizer


def sentencepiece(legacy: bool) -> LlamaTokenizer:
    """Letters only, whitespace as in Llama: the legacy form puts a space after every special token."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    for letter in map(chr, [0x2581, *range(0x21, 0x7F)]):
        vocabulary.setdefault(letter, len(vocabulary))
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=[], legacy=legacy, pad_token="<unk>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return tokenizer


def gemma3() -> Any:
    images = {name: f"<{word}_of_image>" for name, word in (("boi_token", "start"), ("eoi_token", "end"))}
    turns = ("<start_of_turn>", "<end_of_turn>")
    tokenizer = tokenizer_with("<bos>", *turns, image_token="<image_soft_token>", **images)
    resize = Gemma3ImageProcessorPil(size={"height": 56, "width": 56})
    return Gemma3Processor(resize, tokenizer, image_seq_length=4)


def idefics3() -> Any:
    tokenizer = tokenizer_with("<|begin_of_text|>", "<end_of_utterance>")
    tile = Idefics3ImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    return Idefics3Processor(tile, tokenizer, image_seq_len=4)


def llava_next(tokenizer: Any = None) -> Any:
    tile = LlavaNextImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, image_grid_pinpoints=[[56, 112]]
    )
    tokenizer = tokenizer or tokenizer_with("<s>", "</s>", image_token="<image>")
    return LlavaNextProcessor(
        tile,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


TALK = [
    say("system", "Look.\n"),
    say("user", None, "How many? ", None, "And\n1 here?"),
    say("assistant", "<think>I see.</think>\n<answer>4</answer>"),
]
FAKE = "<fake_token_around_image>"
ROWS = "".join(f"{FAKE}<row_{row}_col_1>{FAKE}<row_{row}_col_2>\n" for row in (1, 2))
TILES = f"{ROWS}\n{FAKE}<global-img>{FAKE}"
REAL = [  # processor, image tokens, expected system, user, response and other
    (
        gemma3,
        2 * 4,
        "Look.\n",
        "<start_of_turn>user\n\n\nHow many?And\n1 here?<end_of_turn>\n",
        "<think>I see.</think>\n<answer>4</answer><end_of_turn>\n",
        "<bos>" + "\n\n<start_of_image><end_of_image>\n\n" * 2 + "<start_of_turn>model\n",
    ),
    (
        idefics3,
        2 * 5 * 4,
        "System: Look.\n<end_of_utterance>\n",
        "User:How many? And\n1 here?<end_of_utterance>\n",
        "<think>I see.</think>\n<answer>4</answer><end_of_utterance>\n",
        f"<|begin_of_text|>{TILES}{TILES}Assistant: ",
    ),
    (
        llava_next,
        2 * (16 + 4 * 4 + 4),
        "<<SYS>>\nLook.\n\n<</SYS>>\n\n",
        "[INST] How many? And\n1 here? [/INST]",
        "<think>I see.</think>\n<answer>4</answer></s> ",
        "\n\n ",
    ),
]


def find_texts(processor: Any, name: str, talk: Conversation) -> tuple[int, list[str]]:
    """The number of image tokens, and the other regions decoded."""
    processor.chat_template = (TEMPLATES / f"{name}.jinja").read_text()
    encoded = encode(processor, [talk])
    regions = find_regions(processor, [talk], encoded)
    ids = encoded["input_ids"][0]
    decoded = [processor.tokenizer.decode(ids[getattr(regions, region)[0]]) for region in REGIONS]
    return int(regions.image.sum()), decoded


@pytest.mark.parametrize(
    ("build", "images", "system", "user", "response", "other"), REAL, ids=[case[0].__name__ for case in REAL]
)
def test_regions_with_the_processors_of_other_families(
    build: Any, images: int, system: str, user: str, response: str, other: str
) -> None:
    found = find_texts(build(), build.__name__, TALK)
    assert found == (images, [system, user, response, other])


@pytest.mark.parametrize("legacy", [True, False])
def test_regions_with_a_tokenizer_that_adds_spaces(legacy: bool) -> None:
    images, (system, user, response, _) = find_texts(llava_next(sentencepiece(legacy)), "llava_next", TALK)
    assert images == 2 * (16 + 4 * 4 + 4)
    assert system.strip() == "<<SYS>>\nLook.\n\n<</SYS>>"
    assert " ".join(user.split()) == "[INST] How many? And 1 here? [/INST]"
    assert response.strip() == "<think>I see.</think>\n<answer>4</answer></s>"


@pytest.mark.parametrize(("before", "after"), [("Here: ", ""), ("", "Now: ")])
@pytest.mark.parametrize("build", [gemma3, idefics3, llava_next])
def test_words_of_another_conversation_beside_an_image_are_refused(
    build: Any, before: str, after: str
) -> None:
    processor = build()
    processor.chat_template = (TEMPLATES / f"{build.__name__}.jinja").read_text()
    words = [before + "Look."] if before else []
    encoded = encode(processor, [[say("user", *words, None, after + "How many?")]])
    talk = [say("user", *(["Here"] if before else []), None, "How many?")]
    with pytest.raises(SpanError, match="row 0: "):
        find_regions(processor, [talk], encoded)


@pytest.mark.parametrize("words", ["\n", "1"])
def test_a_text_that_may_be_the_processors_own_is_refused(words: str) -> None:
    talk = [say("user", None, words, None, "How many?"), say("assistant", "Four.")]
    with pytest.raises(SpanError, match=r"row 0: a text between two images .* put more words between"):
        find_texts(idefics3(), "idefics3", talk)
