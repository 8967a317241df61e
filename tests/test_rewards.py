"""The rewards of GRPO as functions: their worked examples, their bounds, and what decides in a group."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from schemas.config import GrpoSettings, Recipe, RewardSettings, parse_recipe
from schemas.errors import ConfigError
from tests.conftest import ROOT
from trainer.grpo import check_groups
from trainer.rewards import (
    ACCURACY,
    FORMAT,
    VISUAL,
    AccuracyReward,
    FormatReward,
    VisualReward,
    deciding_rewards,
    reward_functions,
)

GOOD = "<think>I count.</think> <answer>4</answer>"
WEIGHTS = torch.tensor([1.0, 0.1, 0.3])  # accuracy, format, visual


def said(*texts: str) -> list[list[dict[str, Any]]]:
    return [[{"role": "assistant", "content": text}] for text in texts]


def columns(count: int, answer: str = "4", choices: list[str] | None = None) -> dict[str, Any]:
    return {"answer": [answer] * count, "choices": [choices or []] * count}


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        (GOOD, 1.0),
        ("<think>I count.</think><answer>5</answer>", 0.0),
        ("4", 0.0),
        ("so \\boxed{4}", 1.0),
        ("<answer>5</answer><answer>four</answer>", 1.0),
        ("<answer></answer>", 0.0),
        ("<think>I count.<answer>4</answer>", 0.0),
        ("<think>I count \\boxed{4}.</think> done", 0.0),
        ("<think><answer>4</answer></think><answer>5</answer>", 0.0),
        ("", 0.0),
    ],
)
def test_accuracy_is_the_answer_checkers_word(text: str, reward: float) -> None:
    assert AccuracyReward()(completions=said(text), **columns(1)) == [reward]


def test_accuracy_reads_choices() -> None:
    options = columns(2, answer="B", choices=["red", "blue"])
    texts = ("<answer>blue</answer>", "<answer>A</answer>")
    assert AccuracyReward()(completions=said(*texts), **options) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        (GOOD, 1.0),
        (f"\n{GOOD}\n", 1.0),
        ("I count.</think> <answer>4</answer>", 0.0),
        (f"{GOOD}<answer>4</answer>", 0.0),
        (f"{GOOD} So 4.", 0.0),
        (f"Well. {GOOD}", 0.0),
        ("<think>I count.</think> thus <answer>4</answer>", 0.0),
        ("<answer>4</answer><think>I count.</think>", 0.0),
        ("<think>I count. <answer>4</answer></think>", 0.0),
        ("<think>I count.</think><answer>4", 0.0),
        ("<think> </think><answer>4</answer>", 0.0),
    ],
)
def test_format_is_one_block_of_each_and_nothing_outside(text: str, reward: float) -> None:
    assert FormatReward()(completions=said(text), **columns(1)) == [reward]


def test_the_visual_reward_of_the_docstring() -> None:
    ratio = (0.6 / 0.1 + 0.2 / 0.2) / 2
    texts = said(GOOD, GOOD.replace("4<", "5<"), GOOD)
    given: dict[str, Any] = {"completions": texts, "visual_ratio": [ratio, 1e9, None], **columns(3)}
    assert VisualReward()(**given) == [pytest.approx(0.259, abs=5e-4), 0.0, 0.0]
    assert VisualReward(half=1.0)(**given)[0] == pytest.approx(3.5 / 4.5)
    assert VisualReward("raw")(**given) == [pytest.approx(3.5), 0.0, 0.0]


def test_the_bounded_form_rises_from_0_to_1_and_is_half_at_half() -> None:
    ratios = [0.0, 1e-3, 1.0, 7.5, 10.0, 18.9, 1e3, 1e6]
    bounded = [VisualReward().bound(ratio) for ratio in ratios]
    assert bounded == sorted(set(bounded)) and bounded[0] == 0.0 and bounded[-1] < 1.0
    assert VisualReward().bound(10.0) == 0.5 and VisualReward(half=3.0).bound(3.0) == 0.5


def test_reward_functions_are_picklable_and_hold_no_model() -> None:
    functions, weights = reward_functions(RewardSettings())
    assert weights == [1.0, 0.1, 0.3]
    given: dict[str, Any] = {"completions": said(GOOD), "visual_ratio": [7.0], **columns(1)}
    for function in functions:
        packed = pickle.dumps(function)
        assert len(packed) < 200
        assert pickle.loads(packed)(**given) == function(**given)
    names = [getattr(function, "__name__") for function in functions]  # noqa: B009 what TRL reads
    assert names == ["accuracy", "format", "visual"]
    assert [names.index(name) for name in ("accuracy", "format", "visual")] == [ACCURACY, FORMAT, VISUAL]


def test_a_weight_of_zero_leaves_the_visual_reward_out() -> None:
    functions, weights = reward_functions(RewardSettings(visual_weight=0))
    assert [type(function) for function in functions] == [AccuracyReward, FormatReward]
    assert weights == [1.0, 0.1]


def advantages(rewards_NF: Tensor, all_correct: Any = "accuracy") -> Tensor:
    """Of one group, not divided by its spread."""
    total = deciding_rewards(rewards_NF, len(rewards_NF), all_correct) @ WEIGHTS
    return total - total.mean()


def rewards_of(right: list[bool], visual: list[float], well_formed: list[bool] | None = None) -> Tensor:
    formed = well_formed or [True] * len(right)
    rows = zip(right, formed, visual, strict=True)
    return torch.tensor([[float(ok), float(form), ok * value] for ok, form, value in rows])


def test_r_visual_does_not_decide_among_right_answers_alone() -> None:
    group = rewards_of([True] * 4, [0.1, 0.9, 0.5, 0.3])
    assert advantages(group).abs().max() < 1e-6
    assert advantages(group, "visual")[1] > 0.1, "the paper's form lets it decide"
    formed = rewards_of([True] * 4, [0.1, 0.9, 0.5, 0.3], [True, False, True, True])
    assert advantages(formed).argmin() == 1, "format still counts"
    mean = group[:, VISUAL].mean().item()
    assert deciding_rewards(group, 4, "accuracy")[:, VISUAL].tolist() == pytest.approx([mean] * 4)


def test_among_right_and_wrong_answers_every_reward_stays() -> None:
    groups = torch.cat([rewards_of([True, False], [0.6, 0.9]), rewards_of([True, True], [0.2, 0.6])])
    decided = deciding_rewards(groups, 2, "accuracy")
    assert torch.equal(decided[:2], groups[:2])
    assert decided[2:, VISUAL].tolist() == pytest.approx([0.4, 0.4])
    assert groups[2:, VISUAL].tolist() == pytest.approx([0.2, 0.6]), "what is logged stays as it was"


def test_a_group_of_wrong_answers_gives_no_visual_reward() -> None:
    group = rewards_of([False] * 8, [0.9] * 8)
    assert group[:, VISUAL].sum() == 0 and advantages(group).abs().max() < 1e-6


@pytest.mark.parametrize("right", range(2, 9))
def test_one_outlier_cannot_turn_another_right_answer_negative(right: int) -> None:
    """Groups of 8, one ratio anywhere in [0, 1e9], the other right ones alike, any formats."""
    dice = random.Random(right)
    bound = VisualReward().bound
    for _ in range(300):
        usual, outlier = (10 ** dice.uniform(-3, 9) * dice.choice((0, 1)) for _ in range(2))
        visual = [bound(outlier)] + [bound(usual)] * 7
        correct = [place < right for place in range(8)]
        same = rewards_of(correct, visual)
        mixed = rewards_of(correct, visual, [place % 2 == 0 for place in range(8)])
        mixed[:, FORMAT] = torch.tensor([dice.random() < 0.5 for _ in range(8)]).float()
        assert advantages(same)[1:right].min() >= -1e-6
        if right < 8:  # among right answers alone format decides, as it should
            assert advantages(mixed)[1:right].min() >= -1e-6


def test_the_published_form_lets_an_outlier_do_that() -> None:
    raw = VisualReward("raw").bound
    group = rewards_of([True] * 4 + [False] * 4, [raw(100.0)] + [raw(5.0)] * 7)
    assert advantages(group, "visual")[1] < -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generations": 1}, "`grpo.generations`: Input should be greater than or equal to 2"),
        ({"rewards": {"half": 0}}, "`grpo.rewards.half`"),
        ({"rewards": {"visual": "squashed"}}, "`grpo.rewards.visual`"),
        ({"rewards": {"visual_wait": 1}}, "did you mean `visual_weight`"),
        ({"scale_rewards": True}, "`grpo.scale_rewards`"),
        ({"temperature": 0}, "`grpo.temperature`"),
        ({"vllm": "localhost:8000"}, "vllm: 'localhost:8000' is no http"),
        ({"vllm": "http://me:secret@host"}, "no http"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, Any], message: str) -> None:
    data = {"name": "r", "source": {"kind": "scenes"}, "grpo": change}
    with pytest.raises(ConfigError, match=message):
        parse_recipe(data, where="r.yaml")


def test_defaults_are_the_papers_but_for_what_makes_them_safe() -> None:
    recipe = parse_recipe({"name": "r", "source": {"kind": "scenes"}}, where="r.yaml")
    grpo = recipe.grpo
    assert (grpo.generations, grpo.learning_rate, grpo.beta) == (8, 1e-6, 0.0)
    assert (grpo.rewards.visual_weight, grpo.rewards.format_weight) == (0.3, 0.1)
    assert (grpo.scale_rewards, grpo.rewards.visual, grpo.rewards.all_correct) == (
        "none",
        "bounded",
        "accuracy",
    )
    other = Recipe.model_validate(recipe.model_dump() | {"grpo": {"steps": 5}})
    assert other.synthesis_key() == recipe.synthesis_key(), "training changes no draft"


def test_the_published_form_on_the_page_is_a_recipe() -> None:
    page = (ROOT / "docs" / "training.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```yaml\n")[1:]]
    [block] = [yaml.safe_load(text) for text in blocks if "visual: raw" in text]
    grpo = parse_recipe({"name": "r", "source": {"kind": "scenes"}} | block, where="page").grpo
    assert (grpo.scale_rewards, grpo.rewards.visual, grpo.rewards.all_correct) == ("group", "raw", "visual")


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "rows", "message"),
    [
        (6, 1, 10, "batch_size: 6 .* no whole groups of 8: set grpo.batch_size=8"),
        (8, 4, 3, "3 rows for 4 prompts a step"),
    ],
)
def test_a_step_holds_whole_groups(batch_size: int, accumulation: int, rows: int, message: str) -> None:
    settings = GrpoSettings(batch_size=batch_size, gradient_accumulation=accumulation)
    with pytest.raises(ConfigError, match=message):
        check_groups(settings, rows)


def test_groups_may_be_spread_over_processes_and_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    check_groups(GrpoSettings(batch_size=4, gradient_accumulation=2), 1)
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_groups(GrpoSettings(batch_size=2), 1)
    with pytest.raises(ConfigError, match="x 4 processes = 12 completions"):
        check_groups(GrpoSettings(batch_size=3), 10)
