"""A few real steps of TRL's trainer on the tiny student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.config import GuidedLossSettings, TrainSettings
from schemas.errors import AttentionError, ConfigError, SpanError
from tests.tiny import SETTINGS, make_dataset, make_row, new_student
from tests.train_in_processes import rows as uneven_rows
from trainer.attention import is_prepared, prepared, start_recording
from trainer.data import REGION_LABELS, RegionCollator, sft_dataset, to_messages
from trainer.losses import attention_guided_loss
from trainer.messages import SYSTEM_PROMPT, encode
from trainer.regions import Regions, find_regions
from trainer.sft import GuidedSFTTrainer, SftReport, _arguments, train_sft
from trainer.student import load_model
from trainer.vas import measure_vas

# What does not depend on how a step's rows are dealt out over micro-batches and processes.
FIGURES = {
    *("loss", "loss_lm", "enhance", "suppress", "image_share", "system_share", "grad_norm"),
    *("sequences", "without_queries", "without_image", "without_system"),
    *("user_image_share", "user_system_share", "response_image_share", "response_system_share"),
    "effective_image_tokens",
}
TRAIN = TrainSettings(student=SETTINGS, steps=12, batch_size=4, learning_rate=3e-3)


def settings_with(guided_loss: dict[str, Any] | None = None, **changes: Any) -> TrainSettings:
    return TrainSettings.model_validate(TRAIN.model_dump() | changes | {"guided": guided_loss or {}})


def trained(
    tmp_path: Path, guided: bool, rows: Any = None, held_out: Any = None, **changes: Any
) -> tuple[Any, SftReport]:
    """A new student after a training on `rows`, 16 ordinary ones by default, and the report."""
    model, processor = new_student()
    report = train_sft(
        model,
        processor,
        make_dataset(16) if rows is None else rows,
        settings_with(**changes),
        seed=3,
        out_dir=tmp_path / str(guided),
        guided=guided,
        held_out=held_out,
    )
    return model, report


def make_trainer(tmp_path: Path, **changes: Any) -> Any:
    model, processor = new_student()
    settings = settings_with(**changes)
    return GuidedSFTTrainer(
        model=model,
        args=_arguments(settings, 0, tmp_path),
        train_dataset=sft_dataset(make_dataset(8)),
        processing_class=processor,
        guided=settings.guided,
        diagnostics_every=settings.diagnostics_every,
    )


def test_training_learns_and_the_guided_loss_moves_attention(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[int, int]] = []
    model, processor = new_student()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = [make_row(100 + index) for index in range(4)]
    start = measure_vas(model, processor, rows, gains=False)
    report = train_sft(
        model,
        processor,
        make_dataset(16),
        TRAIN,
        seed=3,
        out_dir=tmp_path / "guided",
        guided=True,
        progress=lambda step, total, metrics: steps.append((step, total)),
    )
    assert steps == [(step, 12) for step in range(1, 13)]
    assert "".join(capfd.readouterr()) == "", "the caller shows progress, not TRL"
    assert report.steps == 12 and len(report.history) == 12
    assert report.loss_last < 0.8 * report.loss_first
    first, last = report.history[0], report.history[-1]
    assert last["enhance"] + last["suppress"] < first["enhance"] + first["suppress"]
    assert last["image_share"] > first["image_share"]
    assert first["loss"] == pytest.approx(
        first["loss_lm"] + 0.15 * first["enhance"] + 0.15 * first["suppress"], rel=1e-3
    )
    after = measure_vas(model, processor, rows, gains=False)
    assert after.user_shares["image"] > start.user_shares["image"]
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert len(changed) > 0.9 * len(before)
    assert not is_prepared(model) and "forward" not in model.__dict__
    saved, _ = load_model(report.model_path)
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_control_sees_the_same_batches_without_the_guided_loss(tmp_path: Path) -> None:
    _, control = trained(tmp_path, guided=False, steps=6)
    _, guided = trained(tmp_path, guided=True, steps=6)
    first, first_guided = control.history[0], guided.history[0]
    assert first["loss_lm"] == pytest.approx(first_guided["loss_lm"], rel=1e-5)
    assert first["num_tokens"] == first_guided["num_tokens"]
    assert "enhance" not in first and first["loss"] == first["loss_lm"]
    assert control.history[-1]["loss_lm"] != pytest.approx(guided.history[-1]["loss_lm"], rel=1e-6)


def test_weights_of_zero_train_the_control(tmp_path: Path) -> None:
    control, _ = trained(tmp_path / "a", guided=False, steps=4)
    unweighted, _ = trained(tmp_path / "b", guided=True, steps=4, guided_loss={"alpha": 0, "beta": 0})
    for name, value in control.state_dict().items():
        torch.testing.assert_close(unweighted.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_the_same_seed_trains_the_same_model(tmp_path: Path) -> None:
    first, report = trained(tmp_path / "a", guided=True, steps=3)
    again, report_again = trained(tmp_path / "b", guided=True, steps=3)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert [entry["loss"] for entry in report.history] == [entry["loss"] for entry in report_again.history]


def test_a_step_is_the_lm_loss_plus_the_term_of_one_forward(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(4)])
    regions = Regions.from_labels(batch[REGION_LABELS])
    model: Any = trainer.model
    model.eval()
    loss = trainer.compute_loss(model, dict(batch))
    inputs = {name: value for name, value in batch.items() if name != REGION_LABELS}
    recorder = start_recording(model, regions)
    loss_lm = model(**inputs, **recorder.keywords).loss
    term, parts = attention_guided_loss(recorder.masses, regions, 0.15, 0.15, visible=recorder.visible)
    assert loss.item() == pytest.approx((loss_lm + term).item(), rel=1e-5)
    assert parts.without_image == 0
    loss.backward()
    largest = [p.grad.abs().max() for p in model.parameters() if p.grad is not None]
    assert max(largest) > 0


def test_accumulating_gradients_changes_no_step(tmp_path: Path) -> None:
    """Four rows at once, or two and two: the same step, though the halves differ in tokens and in images."""
    changes: dict[str, Any] = {
        "rows": uneven_rows(),
        "steps": 4,
        "diagnostics_every": 2,
        "learning_rate": 1e-3,
    }
    model, whole = trained(tmp_path / "a", guided=True, **changes)
    other, halves = trained(tmp_path / "b", guided=True, **changes, batch_size=2, gradient_accumulation=2)
    assert {entry["without_image"] for entry in whole.history} == {0, 1}
    for one, two in zip(whole.history, halves.history, strict=True):
        assert one.keys() == two.keys()
        for name in FIGURES & one.keys():
            assert two[name] == pytest.approx(one[name], rel=1e-4, abs=1e-6), (
                f"step {one['step']:.0f}: {name}"
            )
    for name, value in model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_the_control_accumulates_gradients_alike(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"rows": uneven_rows(), "steps": 2}
    _, whole = trained(tmp_path / "a", guided=False, **changes)
    _, halves = trained(tmp_path / "b", guided=False, **changes, batch_size=2, gradient_accumulation=2)
    for one, two in zip(whole.history, halves.history, strict=True):
        assert two["loss_lm"] == pytest.approx(one["loss_lm"], rel=1e-5)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)


def test_evaluation_logs_the_parts_under_their_own_names(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, diagnostics_every=1)
    metrics = trainer.evaluate(sft_dataset(make_dataset(8)))
    logged = trainer.state.log_history[-1]
    terms = logged["eval_loss_lm"] + 0.15 * (logged["eval_enhance"] + logged["eval_suppress"])
    assert metrics["eval_loss"] == pytest.approx(terms, rel=1e-4)
    assert logged["eval_sequences"] == 8
    assert not any("grad" in name or "user" in name for name in logged)


def test_checkpointing_changes_no_step(tmp_path: Path) -> None:
    plain, _ = trained(tmp_path / "a", guided=True, steps=2)
    again, _ = trained(tmp_path / "b", guided=True, steps=2, gradient_checkpointing=True)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_a_step_without_masses_is_an_error(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    model: Any = trainer.model
    model.set_attn_implementation({"text_config": "sdpa"})  # as a library that resets it behind our back
    with pytest.raises(AttentionError, match=r"layers \[0, 1\] recorded nothing"):
        trainer.train()


def test_a_batch_without_regions_is_an_error(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.data_collator = trainer.data_collator.collate
    with pytest.raises(SpanError, match="region_labels"):
        trainer.train()


def test_a_row_that_holds_an_image_token_is_named(tmp_path: Path) -> None:
    model, processor = new_student()
    rows = make_dataset(4).map(lambda row: {"trace": row["trace"] + "<|image_pad|>"})
    with pytest.raises(SpanError, match=r"row 0+[0-3]: message 2 holds"):
        train_sft(model, processor, rows, TRAIN, seed=0, out_dir=tmp_path, guided=False)
    assert "forward" not in model.__dict__


@pytest.mark.parametrize("count", [1, 3])
def test_collated_regions_are_those_of_the_whole_conversation(tmp_path: Path, count: int) -> None:
    trainer = make_trainer(tmp_path)
    collator = trainer.data_collator
    assert isinstance(collator, RegionCollator)
    batch = collator([trainer.train_dataset[index] for index in range(count)])
    talks = [to_messages(make_dataset(8)[index]) for index in range(count)]
    encoded = encode(collator.processor, talks)
    expected = find_regions(collator.processor, talks, encoded)
    assert torch.equal(encoded["input_ids"], batch["input_ids"])
    assert torch.equal(Regions.from_labels(batch[REGION_LABELS]).columns, expected.columns)
    assert torch.equal(expected.response, batch["labels"] != -100)


def test_choices_are_lines_below_the_question() -> None:
    talk = to_messages(make_row(0, question="Which?", choices=["red", "blue"]), with_response=False)
    assert [message["role"] for message in talk] == ["system", "user"]
    assert talk[0]["content"][0]["text"] == SYSTEM_PROMPT
    assert talk[1]["content"][1]["text"] == "Which?\nChoices:\nA. red\nB. blue"
    assert talk[1]["content"][0]["image"].size == (112, 112)


def test_left_padded_batches_give_the_same_loss(tmp_path: Path) -> None:
    model, processor = new_student()
    talks = [to_messages(make_row(0)), to_messages(make_row(1, question="How many discs?"))]
    found = []
    with torch.no_grad(), prepared(model):
        for side in ("left", "right"):
            encoded = encode(processor, talks, padding_side=side)  # type: ignore[arg-type]
            regions = find_regions(processor, talks, encoded)
            recorder = start_recording(model, regions)
            model(**encoded, use_cache=False, **recorder.keywords)
            settings = GuidedLossSettings(form="paper")
            loss, _ = attention_guided_loss(
                recorder.masses, regions, settings.alpha, settings.beta, form=settings.form
            )
            found.append(loss.item())
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_label_smoothing_is_refused(tmp_path: Path) -> None:
    """TRL would run two passes a step, and the recorded one would be without gradients."""
    model, processor = new_student()
    arguments = _arguments(TRAIN, 0, tmp_path)
    arguments.label_smoothing_factor = 0.1
    with pytest.raises(ConfigError, match="label_smoothing_factor and compute_loss_func"):
        GuidedSFTTrainer(
            model=model,
            args=arguments,
            train_dataset=sft_dataset(make_dataset(4)),
            processing_class=processor,
            guided=TRAIN.guided,
        )
