"""Adapters alone are trained, the guided loss and the watch see through them, the saved model is plain."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel

from schemas.config import LoraSettings, TrainSettings
from schemas.errors import ConfigError
from tests import families
from tests.families import Family
from tests.test_sft import settings_with, trained
from tests.tiny import make_dataset, make_row, new_student
from trainer.attention import bare_model, prepared, record
from trainer.checkpoints import load_model
from trainer.lora import ADAPTER_FOLDER, add_adapters, merge_adapters, refuse_adapters, require_peft
from trainer.messages import encode, to_messages
from trainer.regions import find_regions
from trainer.sft import GuidedSFTTrainer, _arguments, sft_dataset

LORA: dict[str, Any] = {"rank": 4, "alpha": 8.0}


def trained_adapters(tmp_path: Path) -> tuple[Any, Any, Any, dict[str, Any]]:
    """(wrapped, model, processor, weights before) after four guided steps, not merged."""
    model, processor = new_student()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = settings_with(steps=4, lora=LORA, learning_rate=1e-2, diagnostics_every=2)
    assert settings.lora is not None
    wrapped: Any = add_adapters(model, settings.lora, 0)
    trainer = GuidedSFTTrainer(
        model=wrapped,
        args=_arguments(settings, 0, tmp_path),
        train_dataset=sft_dataset(make_dataset(16)),
        processing_class=processor,
        guided=settings.guided,
        diagnostics_every=2,
    )
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["grad_norm_enhance"] > 0 and logged["effective_image_tokens"] > 1
    return wrapped, model, processor, before


def test_only_adapters_change_and_merging_changes_no_output(tmp_path: Path) -> None:
    wrapped, model, processor, before = trained_adapters(tmp_path)
    assert bare_model(wrapped) is model
    after = {name.replace(".base_layer", ""): value for name, value in model.state_dict().items()}
    adapters = {name: value for name, value in after.items() if "lora_" in name}
    assert len(adapters) == 2 * 7 * 2, "two matrices for each of seven linear layers in two decoder layers"
    assert all("language_model.layers" in name for name in adapters)
    assert all(value.abs().max() > 0 for value in adapters.values()), "an adapter was not trained"
    assert before.keys() == after.keys() - adapters.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())

    encoded = encode(processor, [to_messages(make_row(index)) for index in range(2)])
    model.eval()
    with torch.no_grad():
        adapted = model(**encoded).logits
        merge_adapters(wrapped, model)
        merged = model(**encoded).logits
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-4)
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert len(changed) == 14 and all("language_model.layers" in name for name in changed)
    assert model.state_dict().keys() == before.keys()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_masses_are_recorded_through_peft() -> None:
    model, processor = new_student()
    talks = [to_messages(make_row(index)) for index in range(2)]
    encoded = encode(processor, talks)
    regions = find_regions(processor, talks, encoded)
    with prepared(model), torch.no_grad():
        plain = record(model, encoded, regions)
        wrapped: Any = add_adapters(model, LoraSettings(), 0)
        through = record(wrapped, encoded, regions)
    assert plain.keys() == through.keys()
    for layer, mass in plain.items():
        assert torch.equal(through[layer], mass), "a new adapter changes nothing"


def test_a_training_leaves_a_plain_model_and_the_adapter(tmp_path: Path) -> None:
    held_out = [make_row(100 + index) for index in range(4)]
    model, report = trained(
        tmp_path, guided=True, steps=6, lora=LORA, learning_rate=1e-2, held_out=held_out, watch_every=3
    )
    assert [point.step for point in report.watch] == [0, 3, 6]
    assert report.watch[-1].image_share != report.watch[0].image_share
    assert (
        report.loss_last < report.loss_first or report.history[-1]["loss_lm"] < report.history[0]["loss_lm"]
    )
    saved, _ = load_model(report.model_path)
    assert saved.state_dict().keys() == new_student()[0].state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(saved.state_dict()[name], value), name
    assert not any("lora" in name for name, _ in model.named_modules())

    adapter = report.model_path / ADAPTER_FOLDER
    reopened: Any = PeftModel.from_pretrained(new_student()[0], str(adapter))
    merged = reopened.merge_and_unload().state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(merged[name], value, rtol=1e-5, atol=1e-6, msg=name)
    with pytest.raises(ConfigError, match="holds adapters alone"):
        load_model(adapter)


def test_checkpointing_trains_the_same_adapters(tmp_path: Path) -> None:
    plain, _ = trained(tmp_path / "a", guided=True, steps=2, lora=LORA)
    again, _ = trained(tmp_path / "b", guided=True, steps=2, lora=LORA, gradient_checkpointing=True)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "family",
    [families.qwen3_vl, families.llava_onevision, families.internvl, families.idefics3, families.gemma3],
)
def test_the_decoder_of_other_families_is_found(family: Callable[[], Family]) -> None:
    model = family().model
    add_adapters(model, LoraSettings(rank=2), 0)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert names and all("lora_" in name for name in names)
    assert not [
        name for name in names if any(word in name for word in ("vis", "connector", "project", "head"))
    ]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (["nope"], "lora.targets: Target modules"),
        (["q_proj", "lm_head"], "lora.targets: lm_head is the embedding or the language-model head"),
        (["embed_tokens"], "lora.targets: embed_tokens is the embedding"),
    ],
)
def test_targets_that_do_not_fit_are_one_line(targets: list[str], words: str) -> None:
    model, _ = new_student()
    with pytest.raises(ConfigError, match=words) as error:
        add_adapters(model, LoraSettings(targets=tuple(targets)), 0)
    assert "\n" not in str(error.value)


def test_named_targets_are_peft_s(tmp_path: Path) -> None:
    model, _ = new_student()
    add_adapters(model, LoraSettings(targets=("q_proj",)), 0)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(names) == 4 and all(".q_proj." in name for name in names)


def test_without_peft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"pip install 'avar\[lora\]'"):
        require_peft()


def test_adapters_come_from_the_recipe() -> None:
    given = TrainSettings.model_validate({"lora": {"rank": 8, "targets": ["q_proj"]}})
    assert given.lora == LoraSettings(rank=8, targets=("q_proj",))
    assert TrainSettings().lora is None


@pytest.mark.parametrize(("kind", "sharded"), [("FSDP", True), ("DEEPSPEED", True), ("MULTI_GPU", False)])
def test_sharded_weights_take_no_adapters(kind: str, sharded: bool) -> None:
    trainer: Any = SimpleNamespace(
        accelerator=SimpleNamespace(distributed_type=SimpleNamespace(value=kind)),
        is_fsdp_enabled=kind == "FSDP",
        is_deepspeed_enabled=kind == "DEEPSPEED",
    )
    with pytest.raises(ConfigError, match=f"lora.*{kind} shards them") if sharded else nullcontext():
        refuse_adapters(trainer)
