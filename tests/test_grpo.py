"""GRPO on the tiny student: rewards held to full attention maps, advantages, logs, and real steps.

Where a test needs right answers at will, `Scripted` says them instead of sampling; prompts, padding,
rewards, advantages and losses are the trainer's own.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from trl.trainer.grpo_trainer import GRPOTrainer

from schemas.config import GrpoSettings, RewardSettings, TrainSettings
from schemas.errors import AttentionError, ConfigError, SpanError
from schemas.records import sample_features
from tests.tiny import SETTINGS, make_dataset, make_row, new_student, texts
from trainer import anchored, grpo, rollouts
from trainer.attention import is_prepared
from trainer.grpo import RunOptions, VisualGRPOTrainer, _arguments, grpo_dataset, train_grpo
from trainer.messages import encode, to_messages
from trainer.regions import Regions
from trainer.rollouts import Reading
from trainer.sft import train_sft
from trainer.student import build_student, load_model, save_student

Line = tuple[str, bool]  # what is said, and whether it ends by itself
Script = Callable[[int, str], Line]


class Scripted(VisualGRPOTrainer):
    """Its completions are a script's: (place in the group, right answer) -> what is said."""

    script: Script

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        self.answers = [row["answer"] for row in inputs]
        return super()._generate_and_score_completions(inputs)

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **keywords: Any) -> Any:
        ids, group = [], self.num_generations or 1
        first = self.accelerator.process_index * len(self.answers)  # processes share a group
        for number, answer in enumerate(self.answers, start=first):
            text, ended = self.script(number % group, answer)
            line = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            ids.append([*line, self._tokenizer.eos_token_id] if ended else line)
        return ids, None


def right(answer: str, extra: str = "") -> str:
    return f"<think>I look at the image{extra}.</think><answer>{answer}</answer>"


def various(place: int, answer: str) -> Line:
    """Right, right and long, right without form, right but cut off after the answer, and wrong ones."""
    lines = [
        (right(answer), True),
        (right(answer, " again and again, and count the discs"), True),
        (f"I see <answer>{answer}</answer>", True),
        (right(answer, " once") + " and", False),
        (right("99"), True),
        (f"<think>{answer}", False),
        (right("98", " with care"), True),
        (right(answer, " twice"), True),
    ]
    return lines[place]


EXPECTED = [  # accuracy and format of `various`
    *((1, 1), (1, 1), (1, 0), (1, 0)),
    *((0, 1), (0, 0), (0, 1), (1, 1)),
]


def ragged_rows() -> datasets.Dataset:
    """Questions of different lengths, and two images in one row."""
    made = [make_row(index) for index in range(4)]
    made[1]["question"] += " Look twice, and then look at every corner of the image again."
    made[2]["images"] = made[2]["images"] * 2
    return datasets.Dataset.from_list(made, features=sample_features())


def settings_with(**changes: Any) -> GrpoSettings:
    given = {"steps": 1, "batch_size": 8, "generations": 8, "max_new_tokens": 32, "learning_rate": 1e-3}
    return GrpoSettings.model_validate(given | changes)


def make_trainer(
    tmp_path: Path, script: Script = various, rows: datasets.Dataset | None = None, **changes: Any
) -> Scripted:
    model, processor = new_student()
    processor.tokenizer.padding_side = "left"
    settings = settings_with(**changes)
    trainer = Scripted(
        model=model,
        args=_arguments(settings, 0, tmp_path),
        train_dataset=grpo_dataset(ragged_rows() if rows is None else rows, processor),
        processing_class=processor,
        rewards=settings.rewards,
    )
    trainer.script = script
    trainer.bare_model.train()
    return trainer


def score(trainer: Scripted, rows: Sequence[int]) -> dict[str, Any]:
    """One generation batch: a group of each of these rows of the dataset."""
    dataset: Any = trainer.train_dataset
    batch = [dataset[row] for row in rows for _ in range(trainer.num_generations or 1)]
    return trainer._generate_and_score_completions(batch)


def ratio_by_hand(trainer: Scripted, row: Mapping[str, Any], line: Line) -> dict[str, float]:
    """From the full attention maps of one row without any padding; positions are read off the ids."""
    processor: Any = trainer.processing_class
    tokenizer = processor.tokenizer
    encoded = encode(processor, [to_messages(row, with_response=False)], add_generation_prompt=True)
    prompt = encoded["input_ids"][0].tolist()
    said = tokenizer(line[0], add_special_tokens=False)["input_ids"]
    said += [tokenizer.eos_token_id] if line[1] else []
    encoded["input_ids"] = torch.tensor([prompt + said])
    encoded["attention_mask"] = torch.ones_like(encoded["input_ids"])
    kinds = torch.zeros_like(encoded["input_ids"])
    kinds[0, : len(prompt)] = encoded["mm_token_type_ids"][0]
    encoded["mm_token_type_ids"] = kinds
    system = list(range(prompt.index(tokenizer.convert_tokens_to_ids("<|im_end|>")) + 2))  # and its newline
    image = [place for place, token in enumerate(prompt) if token == processor.image_token_id]
    model = copy.deepcopy(trainer.bare_model).eval()
    model.__dict__.pop("forward", None)  # TRL's head
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model(**encoded, output_attentions=True, use_cache=False).attentions
    ratios, shares = [], []
    for map_HSS in (layer[0] for layer in maps):
        for token in range(len(prompt), len(prompt) + len(said)):
            mean_S = map_HSS[:, token].mean(dim=0)
            on_image, on_system = mean_S[image].sum().item(), mean_S[system].sum().item()
            ratios.append(on_image / (on_system + 1e-6))
            shares.append(on_image)
    return {"ratio": sum(ratios) / len(ratios), "share": sum(shares) / len(shares)}


@cache
def hand() -> tuple[list[dict[str, float]], ...]:
    """What full maps say of `various` on rows 0 and 1 of `ragged_rows`."""
    trainer = make_trainer(Path("/nowhere"))
    rows = ragged_rows()
    return tuple(
        [ratio_by_hand(trainer, rows[row], various(place, rows[row]["answer"])) for place in range(8)]
        for row in (0, 1)
    )


@pytest.mark.parametrize("form", ["bounded", "raw"])
def test_a_reward_is_accuracy_plus_visual_plus_format_by_full_maps(form: str, tmp_path: Path) -> None:
    """Two groups at once: prompts padded on the left, completions on the right, some cut off."""
    trainer = make_trainer(tmp_path, rewards={"visual": form}, batch_size=16)
    output = score(trainer, [0, 1])
    assert (output["prompt_mask"][:, 0] == 0).any() and (output["completion_mask"][:, -1] == 0).any()
    expected = []
    for group in hand():
        for (accuracy, formed), found in zip(EXPECTED, group, strict=True):
            visual = found["ratio"] if form == "raw" else found["ratio"] / (found["ratio"] + 10.0)
            expected.append(accuracy + 0.3 * accuracy * visual + 0.1 * formed)
    groups = torch.tensor(expected).view(2, 8)
    wanted = (groups - groups.mean(dim=1, keepdim=True)).flatten()
    torch.testing.assert_close(output["advantages"], wanted, rtol=1e-4, atol=1e-5)
    assert groups.max() - groups.min() > 1.1 and len({*expected}) > 10


def test_the_log_says_what_the_step_did(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, batch_size=16)
    score(trainer, [0, 1])
    trainer.log({})
    logged = trainer.state.log_history[-1]
    found = [
        reading
        for group in hand()
        for (accuracy, _), reading in zip(EXPECTED, group, strict=True)
        if accuracy
    ]
    visual = torch.tensor([r["ratio"] / (r["ratio"] + 10) for r in found] + [0.0] * 6)
    close: Any = lambda value: pytest.approx(float(value), rel=1e-4)  # noqa: E731
    assert logged["read"] == 10 and logged["right_without_image"] == 0
    assert logged["response_vas"] == close(sum(r["ratio"] for r in found) / 10)
    assert logged["response_image_share"] == close(sum(r["share"] for r in found) / 10)
    assert 0 < logged["response_system_share"] < 1
    assert logged["rewards/accuracy/mean"] == close(10 / 16)
    assert logged["rewards/format/mean"] == close(10 / 16)
    assert logged["rewards/visual/mean"] == close(visual.mean())
    assert logged["rewards/visual/std"] == close(visual.std())
    assert logged["reward"] == close(10 / 16 + 0.1 * 10 / 16 + 0.3 * visual.mean())
    assert logged["completions/clipped_ratio"] == close(4 / 16)
    lengths = [len(trainer._tokenizer(various(place, "3")[0])["input_ids"]) for place in range(8)]
    assert logged["completions/max_length"] == max(lengths) + 1
    assert logged["groups_without_spread"] == logged["groups_all_right"] == logged["groups_all_wrong"] == 0


def test_wrong_answers_get_no_visual_reward_and_no_forward_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **keywords: Any) -> Any:
        raise AssertionError("a wrong completion was recorded")

    monkeypatch.setattr(anchored, "read_completions", never)
    trainer = make_trainer(tmp_path, lambda place, answer: (right(f"9{place}"), True))
    assert score(trainer, [0])["advantages"].abs().max() < 1e-7
    trainer.log({})
    logged = trainer.state.log_history[-1]
    assert logged["rewards/visual/mean"] == logged["read"] == 0
    assert logged["groups_all_wrong"] == logged["groups_without_spread"] == 1
    assert "response_vas" not in logged, "nothing was measured"


def test_only_right_completions_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real, record = anchored.read_completions, rollouts.record

    def looking(model: Any, *given: Any, **options: Any) -> Any:
        assert not model.training and not torch.is_grad_enabled(), "no dropout, no gradient"
        return record(model, *given, **options)

    monkeypatch.setattr(rollouts, "record", looking)

    def spy(model: Any, processor: Any, prompts: Any, *rest: Any) -> Any:
        seen.append(len(prompts))
        return real(model, processor, prompts, *rest)

    monkeypatch.setattr(anchored, "read_completions", spy)
    trainer = make_trainer(tmp_path, batch_size=4, gradient_accumulation=4)
    score(trainer, [0, 1])
    assert seen == [4, 4, 2], "ten right ones, never more at once than a micro-batch"
    assert trainer.bare_model.training and not is_prepared(trainer.bare_model)


def test_a_reading_counts_the_pairs_that_the_epsilon_decides() -> None:
    """One layer, two heads, two response tokens behind two of the prompt; the second sees no system turn."""
    response_BS = torch.tensor([[False, False, True, True]])
    none_BS = torch.zeros_like(response_BS)
    regions = Regions(none_BS, none_BS, none_BS, response_BS, torch.ones_like(response_BS))
    mass_BHSC = torch.full((1, 2, 4, 4), 7.0)  # the prompt's do not count
    mass_BHSC[0, :, 2, :2] = torch.tensor([[0.1, 0.5], [0.3, 0.7]])
    mass_BHSC[0, :, 3, :2] = torch.tensor([[0.0, 0.2], [0.0, 0.4]])
    [found] = rollouts._take_readings({0: mass_BHSC}, {0: torch.ones(1, 4, 4, dtype=torch.bool)}, regions)
    assert found.ratio == pytest.approx((0.6 / (0.2 + 1e-6) + 0.3 / 1e-6) / 2, rel=1e-5)
    assert (found.image_share, found.system_share) == (pytest.approx(0.45), pytest.approx(0.1))
    assert (found.pairs, found.pairs_below_eps) == (2, 1)


def all_right(place: int, answer: str) -> Line:
    return (right(answer, " again" * place), True)


@pytest.mark.parametrize("all_correct", ["accuracy", "visual"])
def test_a_group_of_right_answers_is_not_decided_by_r_visual_by_default(
    all_correct: str, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, all_right, rewards={"all_correct": all_correct})
    advantages = score(trainer, [0])["advantages"]
    trainer.log({})
    logged = trainer.state.log_history[-1]
    assert logged["rewards/visual/std"] > 1e-3, "the true rewards are logged either way"
    assert logged["reward_std"] == pytest.approx(0.3 * logged["rewards/visual/std"], rel=1e-3)
    assert logged["groups_all_right"] == 1
    if all_correct == "accuracy":
        assert advantages.abs().max() < 1e-6 and logged["groups_without_spread"] == 1
    else:
        assert advantages.abs().max() > 1e-4 and logged["groups_without_spread"] == 0


@pytest.mark.parametrize("form", ["bounded", "raw"])
def test_an_outlier_leaves_other_right_answers_their_advantage(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def outlying(model: Any, processor: Any, prompts: Sequence[Any], *rest: Any) -> list[Reading]:
        ratios = [1e6, *[0.5] * (len(prompts) - 1)]
        shares = {"image_share": 0.1, "system_share": 0.1, "pairs": 1, "pairs_below_eps": 0}
        return [Reading(ratio=ratio, **shares) for ratio in ratios]

    monkeypatch.setattr(anchored, "read_completions", outlying)
    script: Script = lambda place, answer: (right(answer if place < 7 else "99"), True)  # noqa: E731
    advantages = score(make_trainer(tmp_path, script, rewards={"visual": form}), [0])["advantages"]
    assert (advantages[1:7].min() >= 0) == (form == "bounded")
    assert advantages[0] > 0 > advantages[7]


def test_rows_without_an_image_count_nothing_and_are_counted(tmp_path: Path) -> None:
    made = [make_row(0, images=[]), make_row(1)]
    rows = datasets.Dataset.from_list(made, features=sample_features())
    trainer = make_trainer(tmp_path, various, rows, batch_size=16)
    advantages = score(trainer, [0, 1])["advantages"]
    trainer.log({})
    logged = trainer.state.log_history[-1]
    assert (logged["right_without_image"], logged["read"]) == (5, 5)
    rewards = torch.tensor([accuracy + 0.1 * formed for accuracy, formed in EXPECTED])
    torch.testing.assert_close(advantages[:8], rewards - rewards.mean(), rtol=1e-5, atol=1e-6)
    assert score(trainer, [0])["advantages"].shape == (8,), "a batch without any image"


def test_a_prompt_without_a_system_turn_is_an_error_with_the_mend(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    dataset: Any = trainer.train_dataset
    batch = [dict(dataset[0]) for _ in range(8)]
    for row in batch:
        row["prompt"] = row["prompt"][1:]
    with pytest.raises(SpanError, match=r"no system token.*give the rows a `system`"):
        trainer._generate_and_score_completions(batch)


def test_the_rows_own_system_prompt_is_used(tmp_path: Path) -> None:
    rows = make_dataset(2).add_column("system", ["Be brief.", ""])  # type: ignore[call-arg]
    _, processor = new_student()
    prompts = [row["prompt"] for row in grpo_dataset(rows, processor)]  # type: ignore[index]
    system = [prompt[0]["content"][0]["text"] for prompt in prompts]
    assert system[0] == "Be brief." and system[1].startswith("You solve problems")


def test_log_probabilities_of_a_ragged_batch_are_those_of_each_row_alone(tmp_path: Path) -> None:
    """Token types must be padded on the side that ids are: a processor's default is the other one."""
    trainer = make_trainer(tmp_path, batch_size=16)
    output = score(trainer, [0, 1])
    alone = score(trainer, [0])
    whole, single = (per_token(trainer, part, slice(0, 8)) for part in (output, alone))
    width = single.shape[1]
    mask = alone["completion_mask"].bool()
    torch.testing.assert_close(whole[:, :width][mask], single[mask], rtol=1e-4, atol=1e-4)


def per_token(trainer: Scripted, output: Mapping[str, Any], rows: slice) -> torch.Tensor:
    count = len(output["prompt_ids"])
    with torch.no_grad():
        found, *_ = trainer._get_per_token_logps_and_entropies(
            trainer.bare_model,
            torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1),
            torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1),
            output["completion_ids"].shape[1],
            batch_size=count,
            **{
                name: output[name]
                for name in ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")
            },
        )
    return found[rows]


def test_a_processor_that_pads_on_the_right_is_refused(tmp_path: Path) -> None:
    model, processor = new_student()
    with pytest.raises(ConfigError, match="padding_side = 'left'"):
        VisualGRPOTrainer(
            model=model,
            args=_arguments(settings_with(), 0, tmp_path),
            train_dataset=grpo_dataset(ragged_rows(), processor),
            processing_class=processor,
            rewards=RewardSettings(),
        )


def test_a_model_that_cannot_be_recorded_is_refused_with_the_mend(tmp_path: Path) -> None:
    model, processor = new_student()
    model.config.text_config.layer_types = ["sliding_attention"] * 2
    with pytest.raises(AttentionError, match=r"sliding window.*grpo.rewards.visual_weight=0"):
        train_grpo(model, processor, ragged_rows(), settings_with(), seed=0, out_dir=tmp_path / "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"save_every": 3, "iterations": 2}, "grpo.save_every: 3 .*multiple of grpo.iterations=2"),
        ({"beta": 0.1}, "grpo.beta"),
        ({"batch_size": 5}, "no whole groups"),
        ({"vllm": "http://127.0.0.1:9"}, "grpo.vllm.*vllm 0.22 to 0.31"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    model, processor = new_student()
    with pytest.raises(ConfigError, match=message):
        train_grpo(model, processor, ragged_rows(), settings_with(**change), seed=0, out_dir=tmp_path / "x")
    assert processor.tokenizer.padding_side == "right" and not (tmp_path / "x").exists()


def test_training_changes_the_model_and_leaves_it_as_it_was_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Scripted, "script", staticmethod(various), raising=False)
    monkeypatch.setattr(grpo, "VisualGRPOTrainer", Scripted)
    model, processor = new_student()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    steps: list[tuple[int, int]] = []
    report = train_grpo(
        model,
        processor,
        ragged_rows(),
        settings_with(steps=2, warmup_ratio=0, iterations=2),
        seed=3,
        out_dir=tmp_path / "model",
        progress=lambda step, total, metrics: steps.append((step, total)),
    )
    assert steps == [(1, 2), (2, 2)] and report.steps == 2
    assert "".join(capfd.readouterr()) == "", "the caller shows progress, not TRL"
    assert report.accuracy_first == pytest.approx(5 / 8)
    assert report.reward_first == report.history[0]["reward"] > 5 / 8
    assert "reward" not in report.history[1], "the second step goes on with the same completions"
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, before[name])]
    assert len(changed) > 0.9 * len(before)
    assert not is_prepared(model) and "forward" not in model.__dict__ and not model.training
    assert processor.tokenizer.padding_side == "right"
    saved, _ = load_model(report.model_path)
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in model.state_dict().items())
    assert report.to_dict()["history"][0]["step"] == 1


def test_a_kl_term_and_checkpointing_run_on_a_saved_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scripted, "script", staticmethod(various), raising=False)
    monkeypatch.setattr(grpo, "VisualGRPOTrainer", Scripted)
    start = save_student(*new_student(), tmp_path / "start")
    histories = [
        train_grpo(
            *load_model(start),
            ragged_rows(),
            settings_with(steps=2, warmup_ratio=0, **changes),
            seed=3,
            out_dir=tmp_path / str(number),
        ).history
        for number, changes in enumerate(({}, {"beta": 0.5, "gradient_checkpointing": True}))
    ]
    plain, bound = histories
    assert "kl" not in plain[0] and bound[0]["kl"] == pytest.approx(0, abs=1e-5) and bound[1]["kl"] > 1e-6
    assert bound[0]["response_vas"] == pytest.approx(plain[0]["response_vas"], rel=1e-4)
    assert bound[0]["grad_norm"] == pytest.approx(plain[0]["grad_norm"], rel=1e-2)


@pytest.mark.long
def test_a_student_samples_ends_and_becomes_right_more_often(tmp_path: Path) -> None:
    """Nothing scripted: a student that has learned to write traces learns one problem's answer by reward."""
    model, processor = build_student(SETTINGS, texts(), 0)
    sft = TrainSettings(student=SETTINGS, steps=60, batch_size=4, learning_rate=5e-3, diagnostics_every=0)
    train_sft(model, processor, make_dataset(12), sft, seed=0, out_dir=tmp_path / "sft", guided=False)
    settings = settings_with(
        steps=18, batch_size=16, generations=16, learning_rate=2e-3, warmup_ratio=0, temperature=0.7
    )
    report = train_grpo(model, processor, make_dataset(1), settings, seed=0, out_dir=tmp_path / "grpo")
    assert report.accuracy_last > report.accuracy_first + 0.15
    assert report.reward_last > report.reward_first + 0.15
    for step in report.history:
        right = step["rewards/accuracy/mean"]
        assert step["completions/clipped_ratio"] < 1, "some end by themselves"
        assert step["read"] == 16 * right and (right == 0) == ("response_vas" not in step)
        assert (step["rewards/visual/mean"] > 0) == (right > 0)


def test_weights_and_clips_reach_trl(tmp_path: Path) -> None:
    settings = settings_with(
        rewards={"visual_weight": 0.5}, epsilon=0.1, iterations=3, scale_rewards="batch", loss_type="dapo"
    )
    arguments = _arguments(settings, 7, tmp_path)
    assert arguments.reward_weights == [1.0, 0.1, 0.5]
    assert (arguments.epsilon, arguments.num_iterations, arguments.num_generations) == (0.1, 3, 8)
    assert (arguments.scale_rewards, arguments.loss_type, arguments.beta) == ("batch", "dapo", 0.0)
    assert (arguments.max_completion_length, arguments.seed, arguments.use_vllm) == (32, 7, False)
    told = _arguments(settings, 7, tmp_path, RunOptions(report_to=("tensorboard",)))
    assert (told.report_to, arguments.report_to) == (["tensorboard"], [])
    plain = _arguments(settings_with(), 7, tmp_path)
    assert (plain.scale_rewards, plain.loss_type, plain.epsilon) == ("none", "grpo", 0.2)
    assert not plain.mask_truncated_completions, "what is cut off counts, as wrong"


def test_a_server_samples_where_one_is_named(tmp_path: Path) -> None:
    arguments = _arguments(settings_with(vllm="http://127.0.0.1:8000/"), 0, tmp_path)
    assert arguments.use_vllm and arguments.vllm_mode == "server"
    assert arguments.vllm_server_base_url == "http://127.0.0.1:8000"


def test_trl_still_calls_what_is_overridden() -> None:
    """Both methods are private: the pin on trl is for them."""
    rewards = inspect.signature(GRPOTrainer._calculate_rewards)
    assert list(rewards.parameters) == ["self", "inputs", "prompts", "completions", "completion_ids_list"]
    assert list(inspect.signature(GRPOTrainer._tokenize_prompts).parameters) == ["self", "prompts"]
    caller = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    assert (
        "rewards_per_func = self._calculate_rewards(inputs, prompts, completions, completion_ids_list)"
        in caller
    )
    generate = inspect.getsource(GRPOTrainer._generate)
    assert "prompt_ids, images, multimodal_fields = self._tokenize_prompts(prompts)" in generate
    for name in ("_calculate_rewards", "_tokenize_prompts"):
        ours = inspect.signature(getattr(VisualGRPOTrainer, name)).parameters
        assert list(ours) == list(inspect.signature(getattr(GRPOTrainer, name)).parameters)
