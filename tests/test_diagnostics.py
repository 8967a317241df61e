"""What a run says about itself, against slow and obvious ways to work out the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from schemas.errors import AttentionError, ConfigError
from tests.test_sft import make_trainer, trained
from tests.tiny import make_row, new_student, student
from trainer.attention import full_attention_layers, prepared, start_recording
from trainer.data import REGION_LABELS
from trainer.diagnostics import Figures, attention_shares, gradient_norms, refuse_sharded, region_shares
from trainer.losses import attention_guided_loss
from trainer.messages import encode, to_messages
from trainer.regions import Regions, find_regions
from trainer.sft import _arguments

READINGS = {
    *("user_image_share", "user_system_share", "response_image_share", "response_system_share"),
    "effective_image_tokens",
}
PULLS = {
    *("grad_norm_lm", "grad_norm_enhance", "grad_norm_suppress"),
    *("grad_ratio_enhance", "grad_ratio_suppress"),
}


def batch_of(rows: list[dict[str, Any]], side: Any = "right") -> tuple[dict[str, Any], Regions]:
    _, processor = student()
    talks = [to_messages(row) for row in rows]
    encoded = encode(processor, talks, padding_side=side)
    return dict(encoded), find_regions(processor, talks, encoded)


# ---------------------------------------------------------------------------------------------- shares


def slow_shares(maps: list[Tensor], regions: Regions, queries_BS: Tensor) -> tuple[float, float]:
    """Image and system share out of full maps, one query at a time."""
    rows = []
    for row in range(len(queries_BS)):
        image_keys, system_keys = regions.image[row].nonzero()[:, 0], regions.system[row].nonzero()[:, 0]
        pairs = []
        for map_BHSS in maps:
            for query in queries_BS[row].nonzero()[:, 0].tolist():
                if (image_keys > query).all():  # a causal mask: it sees no image
                    continue
                heads_HS = map_BHSS[row, :, query]
                pairs.append(
                    (heads_HS[:, image_keys].sum(-1).mean(), heads_HS[:, system_keys].sum(-1).mean())
                )
        if pairs:
            rows.append(torch.tensor(pairs).mean(dim=0))
    image, system = torch.stack(rows).mean(dim=0).tolist()
    return image, system


@pytest.mark.parametrize("side", ["left", "right"])
def test_shares_are_those_of_full_attention_maps(side: str) -> None:
    rows = [
        make_row(0, question="Which discs are there, and how many of them?"),
        make_row(1),
        make_row(2, images=[], trace="<answer>none</answer>"),  # sees no image: out of every mean
    ]
    inputs, regions = batch_of(rows, side)
    model, _ = new_student()
    with torch.no_grad(), prepared(model):
        queries_BS = regions.select("user+response")
        recorder = start_recording(model, regions, queries=queries_BS)
        model(**inputs, use_cache=False, **recorder.keywords)
    found = region_shares(recorder.masses, recorder.visible, regions)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model(**inputs, use_cache=False, output_attentions=True).attentions
    for name, shares in found.items():
        image, system = slow_shares(list(maps), regions, regions.select(name))
        assert (shares.image, shares.system) == pytest.approx((image, system), rel=1e-4)
        assert shares.rows == 2
    assert found["user"].image != pytest.approx(found["response"].image, rel=0.05)


def test_shares_of_nothing_are_not_a_number() -> None:
    mass_BHSC, visible_BSC = torch.zeros(1, 2, 3, 4), torch.zeros(1, 3, 4, dtype=torch.bool)
    shares = attention_shares({0: mass_BHSC}, {0: visible_BSC}, torch.ones(1, 3, dtype=torch.bool))
    assert math.isnan(shares.image) and shares.rows == 0


# ----------------------------------------------------------------------------------------------- pulls


def freeze_all_but(model: Any, kept: str) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(kept in name)


SETUPS: dict[str, Callable[[Any], None]] = {
    "all parameters": lambda model: None,
    "checkpointing": lambda model: model.gradient_checkpointing_enable({"use_reentrant": False}),
    "queries and keys only": lambda model: freeze_all_but(model, "k_proj"),
    "nothing that a mass depends on": lambda model: freeze_all_but(model, "language_model.layers.1.mlp"),
}


def slow_norm(model: Any, loss: Tensor) -> float:
    model.zero_grad()
    if loss.requires_grad:
        loss.backward()
    squares = [p.grad.double().pow(2).sum() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return math.sqrt(sum(squares))


@pytest.mark.parametrize("setup", SETUPS)
def test_a_step_logs_the_norm_of_each_weighted_term(setup: str, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, diagnostics_every=1, guided_loss={"alpha": 0.3, "form": "paper"})
    model = trainer.model.train()
    SETUPS[setup](model)
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(4)])
    loss = trainer.compute_loss(model, dict(batch))
    assert all(parameter.grad is None for parameter in model.parameters())
    found = trainer.figures.take(lambda sums: sums)

    inputs = {name: value for name, value in batch.items() if name != REGION_LABELS}
    regions = Regions.from_labels(batch[REGION_LABELS])

    def terms() -> Iterator[tuple[str, Tensor]]:
        for name in ("lm", "enhance", "suppress"):
            recorder = start_recording(model, regions)
            loss_lm = model(**inputs, **recorder.keywords).loss
            _, parts = attention_guided_loss(
                recorder.masses, regions, 1, 1, form="paper", visible=recorder.visible
            )
            yield (
                name,
                {"lm": loss_lm, "enhance": 0.3 * parts.enhance, "suppress": 0.15 * parts.suppress}[name],
            )

    norms = {name: slow_norm(model, term) for name, term in terms()}
    for name, norm in norms.items():
        assert found[f"grad_norm_{name}"] == pytest.approx(norm, rel=1e-3, abs=1e-7), name
    assert found["grad_ratio_enhance"] == pytest.approx(norms["enhance"] / norms["lm"], rel=1e-3)
    # The step's own graph is whole: its gradient is that of the three terms together.
    total = sum(term for _, term in terms())
    assert isinstance(total, Tensor)
    assert slow_norm(model, loss) == pytest.approx(slow_norm(model, total), rel=1e-3)


def test_norms_in_mixed_precision_are_those_of_the_step(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, diagnostics_every=1)
    model = trainer.model.train()
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(4)])
    norms = []
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            trainer._step_of_norms = -1
            trainer.compute_loss(model, dict(batch)).backward()
        norms.append(trainer.figures.take(lambda sums: sums))
    for name in PULLS:
        assert norms[1][name] == pytest.approx(norms[0][name], rel=0.1), name


def test_norms_are_of_the_gradient_averaged_over_processes() -> None:
    weight, unused = torch.tensor([3.0, 4.0], requires_grad=True), torch.zeros(2, requires_grad=True)
    seen: list[Tensor] = []

    def average(gradient: Tensor) -> Tensor:
        seen.append(gradient.clone())
        return gradient / 2

    losses = {"a": (weight**2).sum() / 2, "none": torch.tensor(1.0)}
    assert gradient_norms(losses, [weight, unused, torch.zeros(1)], average) == {"a": 2.5, "none": 0.0}
    # Every process must average every parameter, also where its own rows do not reach it.
    assert [gradient.tolist() for gradient in seen] == [[3, 4], [0, 0], [0, 0], [0, 0]]


# ---------------------------------------------------------------------------------------- which steps


def test_readings_are_taken_on_the_first_step_and_on_every_nth(tmp_path: Path) -> None:
    for guided, names in ((True, READINGS | PULLS), (False, READINGS)):
        _, report = trained(tmp_path, guided=guided, steps=5, diagnostics_every=2)
        steps = [entry["step"] for entry in report.history if names <= entry.keys()]
        assert steps == [1, 2, 4]
        assert not any(names & report.history[step].keys() for step in (2, 4))


def test_both_arms_read_the_same_of_the_same_model(tmp_path: Path) -> None:
    readings = []
    for guided in (True, False):
        _, report = trained(tmp_path, guided=guided, steps=1, diagnostics_every=1)
        readings.append({name: report.history[0][name] for name in READINGS})
    assert readings[0] == pytest.approx(readings[1], rel=1e-4)
    assert 1 <= readings[0]["effective_image_tokens"] <= 16


@pytest.mark.parametrize("guided", [True, False])
def test_readings_change_no_step(guided: bool, tmp_path: Path) -> None:
    silent, _ = trained(tmp_path / "a", guided=guided, steps=4, diagnostics_every=0)
    read, report = trained(tmp_path / "b", guided=guided, steps=4, diagnostics_every=1)
    assert report.history[3].keys() >= READINGS
    for name, value in silent.state_dict().items():
        torch.testing.assert_close(read.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_the_user_share_of_a_reading_is_the_guided_one(tmp_path: Path) -> None:
    _, report = trained(tmp_path, guided=True, steps=1, diagnostics_every=1)
    entry = report.history[0]
    assert entry["user_image_share"] == pytest.approx(entry["image_share"], rel=1e-5)
    assert entry["user_system_share"] == pytest.approx(entry["system_share"], rel=1e-5)


# -------------------------------------------------------------------------------------------- refusals


class DTensorLike(torch.Tensor):
    ds_id = 3


@pytest.mark.parametrize(
    ("kind", "parameters", "refused"),
    [
        ("NO", [torch.zeros(2)], False),
        ("MULTI_GPU", [torch.zeros(2)], False),
        ("FSDP", [torch.zeros(2)], True),
        ("DEEPSPEED", [torch.zeros(2)], True),
        ("NO", [torch.zeros(2).as_subclass(DTensorLike)], True),
    ],
)
def test_sharded_parameters_are_refused(kind: str, parameters: list[Tensor], refused: bool) -> None:
    if not refused:
        refuse_sharded(kind, parameters, ["train.diagnostics_every"])
        return
    with pytest.raises(ConfigError, match=r"set train\.diagnostics_every=0"):
        refuse_sharded(kind, parameters, ["train.diagnostics_every"])


def test_a_trainer_refuses_what_it_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "accelerate.Accelerator.distributed_type", SimpleNamespace(value="FSDP"), raising=True
    )
    with pytest.raises(ConfigError, match="FSDP"):
        make_trainer(tmp_path, diagnostics_every=1)
    make_trainer(tmp_path, diagnostics_every=0)


def test_offloaded_activations_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offloading(*of: Any) -> Any:
        arguments: Any = _arguments(*of)
        arguments.activation_offloading = True
        return arguments

    monkeypatch.setattr("tests.test_sft._arguments", offloading)
    monkeypatch.setattr("trl.trainer.sft_trainer.get_act_offloading_ctx_manager", lambda model: nullcontext())
    with pytest.raises(ConfigError, match=r"activation_offloading.*train\.diagnostics_every=0"):
        make_trainer(tmp_path, diagnostics_every=1)


def test_a_control_that_cannot_be_recorded_says_how_to_train_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = new_student()
    monkeypatch.setattr(type(model.config.text_config), "attn_logit_softcapping", 30.0, raising=False)
    with pytest.raises(AttentionError, match=r"soft cap.*train\.diagnostics_every=0"):
        trained(tmp_path, guided=False, steps=1, diagnostics_every=1)
    _, report = trained(tmp_path, guided=False, steps=1, diagnostics_every=0)
    assert report.steps == 1


# --------------------------------------------------------------------------------------------- figures


def test_a_mean_counts_each_thing_once_and_counts_add_up() -> None:
    figures = Figures()
    figures.add_mean("share", 0.2, 3)
    figures.add_mean("share", torch.tensor(0.6), 1)
    figures.add_mean("share", math.nan, 2)
    figures.add_mean("nobody", 0.5, 0)
    figures.add_sum("loss", torch.tensor(6.0), torch.tensor(3))
    figures.add_count("rows", 4)
    figures.add_count("rows", 2)
    assert figures.take(lambda sums: sums) == pytest.approx({"share": 0.3, "loss": 2.0, "rows": 6.0})
    assert figures.take(lambda sums: sums) == {}


def test_figures_of_two_processes_are_weighed_by_what_they_count() -> None:
    mine, theirs = Figures(), Figures()
    for figures, loss, tokens, rows in ((mine, 2.0, 10, 1), (theirs, 1.0, 30, 3)):
        figures.add_mean("loss", loss, tokens)
        figures.add_count("rows", rows)
    sums: list[Tensor] = []
    theirs.take(lambda own: sums.append(own) or own)
    assert mine.take(lambda own: own + sums[0]) == pytest.approx({"loss": 1.25, "rows": 4.0})


def test_layers_read_are_the_guided_ones(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    assert trainer.layers == full_attention_layers(trainer.model)
