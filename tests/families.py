"""Tiny models of six vision-language families, built from their configs, and batches made by hand for them.

Every batch has a row with two images, one with none, one without a system turn and an ordinary one, all of
different lengths. Token ids carry no meaning, and no processor or chat template is involved. What differs by
family is how images go in and how many tokens they take; that follows each family's own processor.

B rows, S tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    MllamaConfig,
    MllamaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from trainer.attention import prepared, start_recording
from trainer.layouts import Label
from trainer.recorder import Recorder
from trainer.regions import Regions

PAD_ID, IMAGE_ID, VIDEO_ID, START_ID, END_ID, FREE_IDS = 0, 60, 61, 62, 63, (5, 50)
SIDES = ("left", "right", "none")  # of the padding; "none": rows of one length, so that no mask is built
TWO_IMAGES, NO_IMAGE, NO_SYSTEM, ORDINARY = range(4)  # rows
IMAGES_B = (2, 0, 1, 1)
WINDOW = 8  # tokens that a sliding layer sees

TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": PAD_ID,
}
VISION: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "patch_size": 14}
TOWER = VISION | {"num_hidden_layers": 1, "num_attention_heads": 2}
SIGLIP = TOWER | {"model_type": "siglip_vision_model", "vision_use_head": False}
QWEN_TOWER = VISION | {"depth": 2, "num_heads": 2, "out_hidden_size": 64}
QWEN_IDS: dict[str, Any] = {
    "image_token_id": IMAGE_ID,
    "video_token_id": VIDEO_ID,
    "vision_start_token_id": START_ID,
    "vision_end_token_id": END_ID,
}
MROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}


class Case(NamedTuple):
    """A model with a batch of its own and that batch's regions."""

    model: Any
    inputs: dict[str, Any]
    regions: Regions


@dataclass(frozen=True, kw_only=True)
class Family:
    """A tiny model, and the four images of its batch.

    Attributes:
        image_tokens: tokens of each image, in the order of the rows.
        images: the model's image inputs.
        kinds: the input that marks image tokens, where the family has one.
    """

    model: Any
    image_tokens: tuple[int, ...]
    images: dict[str, Tensor]
    kinds: str | None = None


def qwen2_5_vl(**text: Any) -> Family:
    """Images of several sizes in one batch, positions in three directions."""
    config = Qwen2_5_VLConfig(
        text_config=TEXT | {"rope_parameters": MROPE} | text,
        vision_config=QWEN_TOWER | {"window_size": 56, "fullatt_block_indexes": [1]},
        **QWEN_IDS,
    )
    return Family(model=build(Qwen2_5_VLForConditionalGeneration, config), **qwen_images())


def qwen3_vl() -> Family:
    """As Qwen2.5-VL, with normed queries and keys, and image features added again after the first layer."""
    config = Qwen3VLConfig(
        text_config=TEXT | {"head_dim": 16, "rope_parameters": MROPE},
        vision_config=QWEN_TOWER | {"deepstack_visual_indexes": [0], "num_position_embeddings": 16},
        **QWEN_IDS,
    )
    return Family(model=build(Qwen3VLForConditionalGeneration, config), **qwen_images())


def qwen_images() -> dict[str, Any]:
    """Grids of patches, four of which make a token."""
    grids = torch.tensor([[1, 4, 4], [1, 2, 4], [1, 4, 6], [1, 6, 4]])
    tokens = grids.prod(dim=1) // 4
    pixels = noise(int(grids.prod(dim=1).sum()), 3 * 2 * 14 * 14)
    images = {"pixel_values": pixels, "image_grid_thw": grids}
    return {"image_tokens": tuple(tokens.tolist()), "images": images, "kinds": "mm_token_type_ids"}


def llava_onevision() -> Family:
    """Any resolution: an image alone in its row is read whole and in tiles, one of several only whole."""
    tile, side = 28, 2  # pixels of a tile, features across it
    config = LlavaOnevisionConfig(
        text_config=TEXT | {"model_type": "qwen2"},
        vision_config=SIGLIP | {"image_size": tile},
        image_token_index=IMAGE_ID,
        video_token_index=VIDEO_ID,
        image_grid_pinpoints=[[tile, tile], [tile, 2 * tile], [2 * tile, tile]],
    )
    whole, newline = side * side, 1
    beside = whole + side * (2 * side + newline)  # two tiles beside one another, a newline after each line
    above = whole + 2 * side * (side + newline)
    return Family(
        model=build(LlavaOnevisionForConditionalGeneration, config),
        image_tokens=(whole + newline, whole + newline, beside, above),
        images={
            "pixel_values": noise(4, 3, 3, tile, tile),
            "image_sizes": torch.tensor([[28, 28], [20, 28], [28, 56], [56, 28]]),
            "batch_num_images": torch.tensor(IMAGES_B),
        },
    )


def internvl() -> Family:
    """One key/value head, and heads so small that the widened values need no rounding up."""
    config = InternVLConfig(
        text_config=TEXT | {"model_type": "qwen2", "hidden_size": 48, "num_key_value_heads": 1},
        vision_config=TOWER | {"image_size": 56},
        image_token_id=IMAGE_ID,
        image_seq_length=4,
    )
    model = build(InternVLForConditionalGeneration, config)
    return Family(model=model, image_tokens=(4,) * 4, images={"pixel_values": noise(4, 3, 56, 56)})


def idefics3() -> Family:
    """Pixels by row, filled up with empty images; one image covers only the upper half of its pixels."""
    config = Idefics3Config(
        text_config=TEXT | {"model_type": "llama"},
        vision_config=TOWER | {"image_size": 56},
        image_token_id=IMAGE_ID,
        scale_factor=2,
    )
    there = torch.arange(2) < torch.tensor(IMAGES_B)[:, None]
    seen = there[:, :, None, None].expand(-1, -1, 56, 56).clone()
    seen[ORDINARY, :, 28:] = False
    model = build(Idefics3ForConditionalGeneration, config)
    images = {"pixel_values": noise(4, 2, 3, 56, 56) * seen[:, :, None], "pixel_attention_mask": seen}
    return Family(model=model, image_tokens=(4,) * 4, images=images)


def gemma3() -> Family:
    """Sliding windows in two of three layers, normed queries and keys, images seen both ways within."""
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    windows = {"sliding_window": WINDOW, "layer_types": kinds, "query_pre_attn_scalar": 12, "head_dim": 16}
    config = Gemma3Config(
        text_config=TEXT | windows,
        vision_config=TOWER | {"image_size": 28},
        mm_tokens_per_image=4,
        image_token_index=IMAGE_ID,
    )
    model = build(Gemma3ForConditionalGeneration, config, norm=0.3)  # its norms scale by 1 + weight
    projection = model.model.multi_modal_projector.mm_input_projection_weight
    with torch.no_grad():
        projection.copy_(0.02 * noise(*projection.shape))  # it starts at zero: all images would be the same
        for layer in model.get_decoder().layers:  # written at full size, rounding would grow with depth
            layer.post_attention_layernorm.weight.fill_(-0.8)
            layer.post_feedforward_layernorm.weight.fill_(-0.8)
    images = {"pixel_values": noise(4, 3, 28, 28)}
    return Family(model=model, image_tokens=(4,) * 4, images=images, kinds="token_type_ids")


FAMILIES: dict[str, Callable[[], Family]] = {
    "qwen2.5-vl": qwen2_5_vl,
    "qwen3-vl": qwen3_vl,
    "llava-onevision": llava_onevision,
    "internvl": internvl,
    "idefics3": idefics3,
    "gemma3": gemma3,
}
# The same with a sliding window in the last two of three layers.
VARIANTS: dict[str, Callable[[], Family]] = {
    "qwen2.5-vl sliding": lambda: qwen2_5_vl(
        use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
}


@cache
def family(name: str) -> Family:
    """A family that no test may change."""
    return (FAMILIES | VARIANTS)[name]()


@cache
def case(name: str, side: str, *, long: bool = False) -> Case:
    """A family's batch with its padding on one side.

    Args:
        long: with a system turn beside which the question and the response are few queries.
    """
    own = family(name)
    labels_BS, ids_BS = rows(own.image_tokens, side, long=long)
    inputs = {"input_ids": ids_BS, "attention_mask": (labels_BS != Label.PAD).long()} | own.images
    if own.kinds:
        inputs[own.kinds] = (labels_BS == Label.IMAGE).long()
    return Case(own.model, inputs, Regions.from_labels(labels_BS))


def rows(image_tokens: tuple[int, ...], side: str, *, long: bool) -> tuple[Tensor, Tensor]:
    """(labels, token ids) of the batch, each [B, S]."""
    first, second, third, fourth = image_tokens
    talks = [
        [system(6), user(1), image(first), user(2), image(second), user(3), response(5)],
        [system(10), user(5), response(3)],
        [user(1), image(third), user(4), response(6)],
        [system(180 if long else 8), image(fourth), user(6), response(4)],
    ]
    labels = [[Label.OTHER, *chain(*talk)] for talk in talks]  # a BOS before the first turn
    longest = max(map(len, labels))
    for row in labels:
        fill = [Label.OTHER if side == "none" else Label.PAD] * (longest - len(row))
        row[:] = [*fill, *row] if side == "left" else [*row, *fill]
    labels_BS = torch.tensor(labels, dtype=torch.int8)
    ids_BS = torch.randint(*FREE_IDS, labels_BS.shape, generator=torch.Generator().manual_seed(0))
    ids_BS[labels_BS == Label.IMAGE], ids_BS[labels_BS == Label.PAD] = IMAGE_ID, PAD_ID
    return labels_BS, ids_BS


def system(tokens: int) -> list[int]:
    return [Label.SYSTEM] * tokens


def user(tokens: int) -> list[int]:
    return [Label.USER] * tokens


def image(tokens: int) -> list[int]:
    """An image between its markers."""
    return [Label.OTHER, *[Label.IMAGE] * tokens, Label.OTHER]


def response(tokens: int) -> list[int]:
    """A response after the marker of its turn."""
    return [Label.OTHER, *[Label.RESPONSE] * tokens]


def build(model_class: Any, config: Any, norm: float = 2.0) -> Any:
    """The model with seeded weights, its attention far from uniform.

    Args:
        norm: weight of the norms of queries and keys where it has them: they undo the projections' scale.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_class(config).eval()
    with torch.no_grad():
        for name, parameter in model.get_decoder().named_parameters():
            if name.endswith(("q_norm.weight", "k_norm.weight")):
                parameter.fill_(norm)
            elif name.endswith(("q_proj.weight", "k_proj.weight")):
                parameter.mul_(10.0)
    return model


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def mllama() -> Any:
    """A model that reads images in cross-attention layers."""
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    tower = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_global_layers": 1,
        "attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "vision_output_dim": 64,
        "intermediate_layers_indices": [0],
    }
    config = MllamaConfig(
        text_config=TEXT | {"cross_attention_layers": [1], "rope_parameters": rope},
        vision_config=tower,
        image_token_index=IMAGE_ID,
    )
    return build(MllamaForConditionalGeneration, config)


def run_recorded(model: Any, inputs: Mapping[str, Any], regions: Regions, **options: Any) -> Recorder:
    """One recorded forward pass of the whole model."""
    with prepared(model):
        recorder = start_recording(model, regions, **options)
        model(**inputs, use_cache=False, **recorder.keywords)
        recorder.check()
    return recorder


def implementations(model: Any) -> dict[str, str]:
    """The attention implementation of every part of a model."""
    modules = model.named_modules()
    return {path: own.config._attn_implementation for path, own in modules if hasattr(own, "config")}
