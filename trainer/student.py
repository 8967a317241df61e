"""The tiny student: a Qwen2.5-VL of about a million parameters, built from its config.

Everything is made on the spot (tokenizer, processor, weights), so that the whole loop runs without a
download. The saved folder is an ordinary Hugging Face folder: transformers and vLLM open it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from schemas.config import StudentSettings
from schemas.errors import ConfigError
from trainer.checkpoints import image_text_class, keep_video_settings, load_model, save_student

__all__ = ["CHAT_TEMPLATE", "build_student", "load_model", "save_student"]

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (
    END_OF_TEXT,
    TURN_START,
    TURN_END,
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Ordinary tokens, not special ones: they must survive `skip_special_tokens` when an answer is decoded.
TRACE_TOKENS = ("<think>", "</think>", "<answer>", "</answer>")
PATCH_SIDE = 14  # pixels
MERGE_SIDE = 2  # patches merged into one token, each way
VISION_HEAD_SIZE = 32
CONTEXT_TOKENS = 8192

CHAT_TEMPLATE = """\
{%- for message in messages -%}
    {{- '<|im_start|>' + message['role'] + '\\n' -}}
    {%- if message['content'] is string -%}
        {{- message['content'] -}}
    {%- else -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'image' or part['type'] == 'image_url' -%}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
            {%- elif part['type'] == 'text' -%}
                {{- part['text'] -}}
            {%- else -%}
                {{- raise_exception('this model reads text and images, not ' + part['type']) -}}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def build_student(
    settings: StudentSettings, texts: Iterable[str], seed: int
) -> tuple[Qwen2_5_VLForConditionalGeneration, ProcessorMixin]:
    """A tiny Qwen2.5-VL with random weights and a tokenizer trained on `texts`.

    Args:
        texts: what the student will read and write; the more alike, the shorter its sequences.
        seed: of the weights. The same settings, texts and seed give the same model, bit for bit.
    Returns: (model in float32 on the CPU, processor).
    Raises: ConfigError: head or image sizes that do not fit together.
    """
    _check_sizes(settings)
    tokenizer = train_tokenizer(texts, settings.vocab_size)
    config = _model_config(settings, tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
        if settings.initializer == "fan_in":
            _spread_by_fan_in(model)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=False
    )
    return model.eval(), _processor(settings, tokenizer)


@torch.no_grad()
def _spread_by_fan_in(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Every matrix anew, with standard deviation 1 / sqrt(its inputs); embeddings stay as they are."""
    for name, weights in model.named_parameters():
        if weights.ndim > 1 and "embed_tokens" not in name:
            weights.normal_(0.0, weights[0].numel() ** -0.5)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with Qwen's special tokens; any text round-trips (after NFC).

    Args:
        vocab_size: upper bound, all special tokens included; little text gives fewer.
    """
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS) - len(TRACE_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    backend.add_tokens([AddedToken(token, special=False, normalized=False) for token in TRACE_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        model_max_length=CONTEXT_TOKENS,
        clean_up_tokenization_spaces=False,
    )


def _check_sizes(settings: StudentSettings) -> None:
    head_size, rest = divmod(settings.hidden_size, settings.heads)
    if rest or head_size % 2:
        raise ConfigError(
            f"student.hidden_size: {settings.hidden_size} over {settings.heads} heads is no even head size: "
            "choose a multiple of twice the heads"
        )
    if settings.heads % settings.kv_heads:
        raise ConfigError(
            f"student.kv_heads: {settings.kv_heads} does not divide {settings.heads} heads: choose a divisor"
        )
    unit = PATCH_SIDE * MERGE_SIDE
    if settings.image_side % unit:
        raise ConfigError(f"student.image_side: {settings.image_side} pixels is no multiple of {unit}")


def _model_config(settings: StudentSettings, tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    vocabulary = tokenizer.get_vocab()
    ids = {token: vocabulary[token] for token in SPECIAL_TOKENS}
    return Qwen2_5_VLConfig(
        text_config=_text_config(settings, len(tokenizer), ids),
        vision_config=_vision_config(settings),
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        dtype="float32",
    )


def _text_config(settings: StudentSettings, vocab_size: int, ids: dict[str, int]) -> dict[str, Any]:
    rotary = settings.hidden_size // settings.heads // 2
    temporal = rotary // 4
    height = (rotary - temporal) // 2
    return {
        "dtype": "float32",
        "vocab_size": -(-vocab_size // 64) * 64,  # padded, as every served model's is
        "hidden_size": settings.hidden_size,
        "intermediate_size": 3 * settings.hidden_size,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": settings.rope_theta,
            "mrope_section": [temporal, height, rotary - temporal - height],
        },
        "bos_token_id": None,
        "eos_token_id": ids[TURN_END],
        "pad_token_id": ids[END_OF_TEXT],
        "tie_word_embeddings": True,
    }


def _vision_config(settings: StudentSettings) -> dict[str, Any]:
    depth = 2
    hidden_size = 2 * VISION_HEAD_SIZE
    return {
        "dtype": "float32",
        "depth": depth,
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_heads": hidden_size // VISION_HEAD_SIZE,
        "patch_size": PATCH_SIDE,
        "spatial_merge_size": MERGE_SIDE,
        "temporal_patch_size": 2,
        "window_size": settings.image_side,
        "fullatt_block_indexes": [depth - 1],
        "out_hidden_size": settings.hidden_size,
    }


def _processor(settings: StudentSettings, tokenizer: PreTrainedTokenizerFast) -> ProcessorMixin:
    pixels = settings.image_side**2
    layout = {
        "size": {"shortest_edge": pixels, "longest_edge": pixels},
        "patch_size": PATCH_SIDE,
        "merge_size": MERGE_SIDE,
        "temporal_patch_size": 2,
    }
    processor = image_text_class(Qwen2_5_VLProcessor)(
        image_processor=Qwen2VLImageProcessorPil(**layout), tokenizer=tokenizer, chat_template=CHAT_TEMPLATE
    )
    return keep_video_settings(processor, {"video_processor_type": "Qwen2VLVideoProcessor", **layout})
