"""The tiny student: built alike each time, saved whole, opened anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from schemas.config import StudentSettings
from schemas.errors import ConfigError
from tests.tiny import SETTINGS, make_row, new_student, picture, student, texts
from trainer.messages import encode, to_messages
from trainer.student import build_student, load_model, save_student


def test_the_same_seed_gives_the_same_student() -> None:
    (first, processor), (again, processor_again) = new_student(), new_student()
    (other, _) = new_student(seed=1)
    state = first.state_dict()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    assert any(not torch.equal(value, other.state_dict()[name]) for name, value in state.items())
    assert processor.tokenizer.get_vocab() == processor_again.tokenizer.get_vocab()


def test_building_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    build_student(SETTINGS, texts(), seed=0)
    assert torch.equal(torch.rand(1), expected)


def test_the_default_student_has_about_a_million_parameters() -> None:
    model, processor = build_student(StudentSettings(), [*texts(), *map(str, range(3000))], seed=0)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 0.8e6 < parameters < 1.6e6
    assert len(processor.tokenizer) <= StudentSettings().vocab_size
    text: Any = model.config.text_config
    vision: Any = model.config.vision_config
    sizes = {text.hidden_size // text.num_attention_heads, vision.hidden_size // vision.num_heads}
    assert sizes == {32}, "a head size that every served kernel knows"


def test_a_saved_student_answers_as_before(tmp_path: Path) -> None:
    model, processor = student()
    folder = save_student(model, processor, tmp_path / "student")
    loaded, loaded_processor = load_model(folder)
    talks = [to_messages(make_row(index), with_response=False) for index in range(2)]
    inputs, inputs_again = (
        encode(one, talks, add_generation_prompt=True) for one in (processor, loaded_processor)
    )
    assert all(torch.equal(inputs[name], inputs_again[name]) for name in inputs)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, loaded(**inputs_again).logits)
    again = save_student(loaded, loaded_processor, tmp_path / "again")
    files = sorted(file.name for file in folder.iterdir())
    assert files == sorted(file.name for file in again.iterdir())
    differ = [name for name in files if (folder / name).read_bytes() != (again / name).read_bytes()]
    assert set(differ) <= {"tokenizer_config.json"}, "which notes that it was loaded from a folder"


def test_a_saved_folder_is_complete_and_names_only_what_others_know(tmp_path: Path) -> None:
    folder = save_student(*student(), tmp_path)
    needed = {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "processor_config.json",
        "preprocessor_config.json",
        "video_preprocessor_config.json",
    }
    assert needed <= {file.name for file in folder.iterdir()}
    settings = json.loads((folder / "processor_config.json").read_text())
    assert settings["processor_class"] == "Qwen2_5_VLProcessor"
    assert settings["image_processor"]["image_processor_type"] == "Qwen2VLImageProcessor"
    assert settings["video_processor"]["video_processor_type"] == "Qwen2VLVideoProcessor"
    config = json.loads((folder / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_ids_to_tokens(config["image_token_id"]) == "<|image_pad|>"
    stop = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.convert_ids_to_tokens(stop) == "<|im_end|>"


def test_trace_marks_survive_decoding_and_special_tokens_do_not() -> None:
    tokenizer = student()[1].tokenizer
    text = "<think>Zwölf 🙂 中文\n</think><answer>12</answer>"
    ids = tokenizer(text + "<|im_end|>")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(tokenizer("<think></think><answer></answer>")["input_ids"]) == 4


@pytest.mark.parametrize("size", [(112, 112), (640, 320), (30, 50)])
def test_any_image_becomes_about_sixteen_tokens(size: tuple[int, int]) -> None:
    _, processor = student()
    row = make_row(0, images=[picture("red").resize(size)])
    encoded = encode(processor, [to_messages(row)])
    assert 8 <= int((encoded["mm_token_type_ids"] == 1).sum()) <= 24


def test_a_student_writes_an_answer(tmp_path: Path) -> None:
    model, processor = load_model(save_student(*student(), tmp_path))
    inputs = encode(processor, [to_messages(make_row(0), with_response=False)], add_generation_prompt=True)
    with torch.no_grad():
        written = model.generate(**inputs, max_new_tokens=4)  # type: ignore[operator]
    assert written.shape[1] > inputs["input_ids"].shape[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 100, "heads": 3}, "no even head size"),
        ({"kv_heads": 3}, "does not divide"),
        ({"image_side": 100}, "no multiple of 28"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_student(StudentSettings(**changes), texts(), seed=0)


@pytest.mark.parametrize("name", ["/nowhere/at/all", "no-such-model"])
def test_a_model_that_is_not_there_is_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be loaded") as caught:
        load_model(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "config.json", "processor_config.json"]
)
def test_a_folder_that_is_not_whole_is_one_error(tmp_path: Path, name: str) -> None:
    folder = save_student(*build_student(StudentSettings(), ["text"], seed=0), tmp_path / "m")
    (folder / name).write_bytes(b"{")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_model(folder)
