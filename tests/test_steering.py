"""Steering against full attention maps whose columns are multiplied one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from schemas.errors import AttentionError
from tests.families import FAMILIES, VARIANTS, case
from tests.tiny import make_row, new_student, student
from trainer.attention import is_prepared, prepared, record, start_recording, steering
from trainer.messages import encode, to_messages
from trainer.recorder import IMAGE, SYSTEM
from trainer.regions import Regions, find_regions

IMAGE_BY, SYSTEM_BY = 0.5, 0.6  # far stronger than the paper's, so that a mistake shows
ORACLE = "test_steered_maps"
_asked: dict[str, Any] = {}


def factors(regions: Regions, keys: int) -> Tensor:
    """What each key's weight is multiplied by, key by key; keys after the prompt count once. [B, N]."""
    rows, tokens = regions.valid.shape
    factor = torch.ones(rows, keys)
    for row in range(rows):
        for key in range(min(keys, tokens)):
            if regions.image[row, key]:
                factor[row, key] = 1 + IMAGE_BY
            if regions.system[row, key]:
                factor[row, key] = 1 - SYSTEM_BY
    return factor


def steered_maps(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **keywords: Any,
) -> tuple[Tensor, Tensor]:
    """Attention as written on paper, its columns multiplied."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    logits = query @ key.transpose(2, 3) * (keywords.get("scaling") or query.shape[-1] ** -0.5)
    if attention_mask is not None:
        logits = logits + attention_mask
    maps = logits.softmax(-1)
    if getattr(module, "layer_idx", None) is not None and _asked:
        maps = maps * factors(_asked["regions"], maps.shape[-1])[:, None, None]
        if _asked["renormalise"]:
            maps = maps / maps.sum(-1, keepdim=True)
    return (maps @ value).transpose(1, 2).contiguous(), maps


@contextmanager
def oracle(model: Any, regions: Regions, renormalise: bool) -> Iterator[None]:
    AttentionInterface.register(ORACLE, steered_maps)
    AttentionMaskInterface.register(ORACLE, eager_mask)
    before = model.config._attn_implementation
    model.set_attn_implementation({"text_config": ORACLE})
    _asked.update(regions=regions, renormalise=renormalise)
    try:
        yield
    finally:
        _asked.clear()
        model.set_attn_implementation(before)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("side", ["left", "right", "none"])
@pytest.mark.parametrize("name", [*FAMILIES, *VARIANTS])
def test_steering_multiplies_the_columns_of_the_maps(name: str, side: str, renormalise: bool) -> None:
    model, inputs, regions = case(name, side)
    with torch.no_grad():
        plain = model(**inputs, use_cache=False).logits[regions.valid]
        with steering(model, IMAGE_BY, SYSTEM_BY, renormalise, regions=regions):
            found = model(**inputs, use_cache=False).logits[regions.valid]
        with oracle(model, regions, renormalise):
            expected = model(**inputs, use_cache=False).logits[regions.valid]
        after = model(**inputs, use_cache=False).logits[regions.valid]
    close(found, expected)
    assert (plain - expected).abs().max() > 0.01 * plain.abs().max(), "steering changes the output"
    assert torch.equal(after, plain) and not is_prepared(model)


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize("name", ["qwen2.5-vl", "gemma3", "qwen2.5-vl sliding"])
def test_masses_under_steering_are_those_of_the_steered_maps(name: str, renormalise: bool) -> None:
    model, inputs, regions = case(name, "left")
    for queries in (None, regions.user):
        with torch.no_grad(), steering(model, IMAGE_BY, SYSTEM_BY, renormalise):
            recorder = start_recording(model, regions, queries=queries)
            model(**inputs, use_cache=False, **recorder.keywords)
            recorder.check()
            masses = record(model, inputs, regions, queries=queries)
        wanted = regions.valid if queries is None else queries
        assert recorder.ceiling == (1 if renormalise else 1 + IMAGE_BY)
        seen: dict[int, Tensor] = {}
        with torch.no_grad(), oracle(model, regions, renormalise):
            maps = model(**inputs, use_cache=False, output_attentions=True).attentions
        for layer, map_BHSS in enumerate(maps):
            seen[layer] = map_BHSS @ regions.columns.float()[:, None] * wanted[:, None, :, None]
            torch.testing.assert_close(recorder.masses[layer], seen[layer], rtol=0, atol=1e-5)
            torch.testing.assert_close(masses[layer], seen[layer], rtol=0, atol=1e-5)
        assert renormalise or max(mass.sum(-1).max() for mass in seen.values()) > 1, "factors are included"


def prompts(side: str = "left") -> tuple[dict[str, Any], Regions]:
    _, processor = student()
    talks = [to_messages(make_row(index), with_response=False) for index in range(3)]
    talks[1] = to_messages(make_row(1, question="Short?"), with_response=False)
    encoded = encode(processor, talks, padding_side=side, add_generation_prompt=True)  # type: ignore[arg-type]
    return dict(encoded), find_regions(processor, talks, encoded)


def generate(model: Any, inputs: dict[str, Any], **options: Any) -> Any:
    settings = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None} | options
    return model.generate(**inputs, **settings)


@pytest.mark.parametrize("renormalise", [False, True])
def test_generation_with_a_cache_is_steered_at_every_token(renormalise: bool) -> None:
    """Against the slow way: the whole text is read anew for each token, on multiplied maps."""
    model, _ = student()
    inputs, regions = prompts()
    with torch.no_grad(), steering(model, IMAGE_BY, SYSTEM_BY, renormalise, regions=regions):
        output = model.generate(
            **inputs, max_new_tokens=8, eos_token_id=None, output_logits=True, return_dict_in_generate=True
        )
    with torch.no_grad():
        unsteered = model(**inputs).logits[:, -1]
    assert (output.logits[0] - unsteered).abs().max() > 0.02, "steering reaches the last token"
    length = inputs["input_ids"].shape[1]
    with torch.no_grad(), oracle(model, regions, renormalise):
        for step in range(8):
            ids = output.sequences[:, : length + step]
            mask = torch.cat([inputs["attention_mask"], torch.ones(3, step, dtype=torch.long)], dim=1)
            kinds = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, step))
            read = inputs | {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": kinds}
            expected = model(**read, use_cache=False).logits[:, -1]
            close(output.logits[step], expected)
            assert torch.equal(output.sequences[:, length + step], expected.argmax(-1))


def test_several_answers_to_a_prompt_are_steered_alike() -> None:
    model, _ = student()
    inputs, regions = prompts()
    with torch.no_grad(), steering(model, IMAGE_BY, SYSTEM_BY, regions=regions):
        one = generate(model, inputs)
        beams = generate(model, inputs, num_beams=2, num_return_sequences=2)
        uncached = generate(model, inputs, use_cache=False)
    assert torch.equal(one, uncached)
    assert len(beams) == 2 * len(one)


@pytest.mark.parametrize("name", ["gemma3", "qwen2.5-vl sliding"])
def test_a_cache_that_forgets_is_steered_at_the_right_keys(name: str) -> None:
    """Windows of 8 keys: the cache holds the last ones, and the steered keys move out of it."""
    model, inputs, regions = case(name, "left")
    prompt = {key: value for key, value in inputs.items() if key != "labels"}
    with torch.no_grad(), steering(model, IMAGE_BY, SYSTEM_BY, regions=regions):
        cached = generate(model, prompt, max_new_tokens=6, output_logits=True, return_dict_in_generate=True)
        read = generate(
            model, prompt, max_new_tokens=6, output_logits=True, return_dict_in_generate=True, use_cache=False
        )
    assert torch.equal(cached.sequences, read.sequences)
    for with_cache, without in zip(cached.logits, read.logits, strict=True):
        close(with_cache, without)


def test_strengths_of_zero_change_nothing() -> None:
    model, inputs, regions = case("qwen2.5-vl", "left")
    with torch.no_grad():
        plain = model(**inputs).logits
        with steering(model, 0, 0, regions=regions):
            found = model(**inputs).logits
    assert torch.equal(found[regions.valid], plain[regions.valid])


def test_steering_raises_the_share_of_the_image_and_lowers_that_of_the_system() -> None:
    model, inputs, regions = case("internvl", "right")
    with torch.no_grad(), prepared(model):
        before = record(model, inputs, regions, layers=[0])[0]
        with steering(model, IMAGE_BY, SYSTEM_BY, renormalise=True):
            after = record(model, inputs, regions, layers=[0])[0]
        assert is_prepared(model), "a model that was prepared before stays so"
    user = regions.user & (before[:, 0, :, IMAGE] > 0)
    assert (after - before)[..., IMAGE].mean(1)[user].min() > 0
    assert (after - before)[..., SYSTEM].mean() < 0


def test_batches_take_turns_in_one_context() -> None:
    model, processor = student()
    talks = [to_messages(make_row(index), with_response=False) for index in range(2)]
    with torch.no_grad(), steering(model) as state:
        for talk in talks:
            encoded = encode(processor, [talk], add_generation_prompt=True)
            state.regions = find_regions(processor, [talk], encoded)
            together = model(**encoded).logits
            with pytest.raises(AttentionError, match="set the regions of this batch"):
                state.regions = find_regions(processor, *longer(processor, talk))
                model(**encoded)
            assert together.isfinite().all()


def longer(processor: Any, talk: Any) -> tuple[Any, Any]:
    talks = [[*talk, *talk[1:]]]
    talks[0].insert(2, {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]})
    return talks, encode(processor, talks, add_generation_prompt=True)


def no_regions(model: Any) -> None:
    inputs, _ = prompts()
    with steering(model):
        model(**inputs)


def other_rows(model: Any) -> None:
    inputs, regions = prompts()
    two = Regions.from_labels(regions.to_labels()[:2])
    with steering(model, regions=two):
        model(**inputs)


def one_region_for_all(model: Any) -> None:
    """Three different prompts are no copies of the first."""
    inputs, regions = prompts()
    with steering(model, regions=Regions.from_labels(regions.to_labels()[:1])):
        model(**inputs)


def other_padding(model: Any) -> None:
    inputs, _ = prompts("left")
    with steering(model, regions=prompts("right")[1]):
        model(**inputs)


def attention_set_anew(model: Any) -> None:
    inputs, regions = prompts()
    with steering(model, regions=regions):
        model.set_attn_implementation({"text_config": "sdpa"})
        try:
            model(**inputs)
        finally:
            model.set_attn_implementation({"text_config": "avar_recording"})


def static_cache(model: Any) -> None:
    inputs, regions = prompts()
    with steering(model, regions=regions):
        generate(model, inputs, cache_implementation="static")


def twice(model: Any) -> None:
    with steering(model), steering(model):
        pass


def strengths(image: float, system: float) -> Any:
    def misuse(model: Any) -> None:
        with steering(model, image, system):
            pass

    return misuse


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (no_regions, r"give it regions=find_regions\(processor, messages, encoded\)"),
        (other_rows, "3 rows of .* but the regions are of 2 rows"),
        (one_region_for_all, "of other texts or with other padding"),
        (other_padding, "of other texts or with other padding"),
        (attention_set_anew, r"did not reach layers \[0, 1\]"),
        (static_cache, "static caches cannot be steered"),
        (twice, "steered already"),
        (strengths(0.1, 1.0), r"system = 1.0, need 0 <= system < 1"),
        (strengths(0.1, -0.1), r"system = -0.1"),
        (strengths(-0.1, 0.1), r"image = -0.1, need a finite number"),
        (strengths(float("nan"), 0.1), r"image = nan"),
    ],
)
def test_what_cannot_be_steered_is_refused(misuse: Any, message: str) -> None:
    model, _ = new_student()
    with pytest.raises(AttentionError, match=message):
        misuse(model)
    assert not is_prepared(model), "the context cleans up"
    inputs, regions = prompts()
    with torch.no_grad(), steering(model, regions=regions):
        model(**inputs)


def test_a_model_that_steering_cannot_reach_is_refused() -> None:
    """Its layers take no further keywords: without a check nothing at all would be steered."""
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = AutoConfig.for_model("stablelm", vocab_size=64, hidden_size=32, intermediate_size=32, **sizes)
    model = AutoModelForCausalLM.from_config(config)
    labels_BS = torch.tensor([[2, 2, 3, 3, 4]], dtype=torch.int8)
    refused = pytest.raises(AttentionError, match=r"did not reach layers \[0, 1\]")
    with steering(model, regions=Regions.from_labels(labels_BS)), refused:
        model(input_ids=torch.arange(5)[None])


def test_checkpointed_gradients_are_those_of_the_pass_that_was_steered() -> None:
    """Another batch runs between a pass and its backward, which computes the layers anew."""
    model, processor = new_student()
    first, second = (to_messages(make_row(index)) for index in (0, 1))
    batches = []
    for talk in (first, second):
        encoded = encode(processor, [talk])
        batches.append((dict(encoded), find_regions(processor, [talk], encoded)))
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        model.zero_grad()
        with steering(model, IMAGE_BY, SYSTEM_BY) as state:
            state.regions = batches[0][1]
            loss = model(**batches[0][0], use_cache=False).logits.square().mean()
            state.regions = batches[1][1]
            with torch.no_grad():
                model(**batches[1][0], use_cache=False)
            loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    close(found[1], found[0], 1e-5)
