"""The visual-anchored reward: accuracy, format, and where a right answer looked.

    r = r_accuracy + 0.3 * r_visual + 0.1 * r_format

N completions, G of each prompt, F reward functions. Reward functions as TRL calls them: picklable, and
without a model: `VisualReward` reads ratios that the trainer has measured (trainer/rollouts.py).
Source: AVAR, arXiv 2603.03825, "visual-anchored reward"; the bounds are ours (docs/method.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from torch import Tensor

from filters.answers import extract_answer, is_correct
from filters.extract import after_thoughts
from filters.format import find_fault
from schemas.config import RewardSettings

Completion = Sequence[dict[str, Any]]  # one assistant message
ACCURACY, FORMAT, VISUAL = range(3)  # columns of the rewards
EPS = 1e-6  # beside the system mass; the paper gives no value


@dataclass(frozen=True)
class AccuracyReward:
    """1 for a right answer, else 0.

    The answer is what the last closed `<answer>` holds, or the last box where there are no tags, behind the
    thoughts: what is tried in them is no answer, and thoughts that never end have none. It is compared by
    `filters.answers`, which leaves nothing to likeness: undecided is not right.

    Range: {0, 1}.
    Example: gold "4": `<think>I count.</think><answer>4</answer>` is 1, `... <answer>5</answer>`, a bare
        `4` and `<think>I count.<answer>4</answer>` are 0.
    """

    __name__ = "accuracy"  # what TRL logs it as

    def __call__(
        self,
        *,
        completions: Sequence[Completion],
        answer: Sequence[str],
        choices: Sequence[Sequence[str] | None],
        **columns: Any,
    ) -> list[float]:
        del columns
        rows = zip(completions, answer, choices, strict=True)
        return [float(_is_right(_text(said), gold, tuple(options or ()))) for said, gold, options in rows]


@dataclass(frozen=True)
class FormatReward:
    """1 for exactly one filled `<think>` block followed by one filled `<answer>` block, else 0.

    Nothing but white space may stand before, between and behind them (`filters.format`).

    Range: {0, 1}.
    Example: `<think>I count.</think> <answer>4</answer>` is 1; the same without `<think>`, with a second
        `<answer>` block or with a word behind is 0.
    """

    __name__ = "format"

    def __call__(self, *, completions: Sequence[Completion], **columns: Any) -> list[float]:
        del columns
        return [float(find_fault(_text(said)) is None) for said in completions]


@dataclass(frozen=True)
class VisualReward:
    """How much a right answer looked at the image, 0 for a wrong one. Once per completion.

    With A^l the attention of layer l averaged over heads, T the response's tokens:

        ratio    = mean over T and layers of  sum_image A^l_tk / (sum_system A^l_tk + 1e-6)
        raw      = ratio                        as published, in [0, inf): the scale is that of VAS, 5 to 20
        bounded  = ratio / (ratio + half)       in [0, 1): 0.5 at `half`, rises with the ratio

    Range: [0, 1) bounded, [0, inf) raw.
    Example: two tokens with image .6 and .2, system .1 and .2, one layer: ratio = (6 + 1) / 2 = 3.5; with
        half = 10 that is 3.5 / 13.5 = .259. The same completion with a wrong answer: 0.
    Source: AVAR, arXiv 2603.03825.
    """

    form: Literal["bounded", "raw"] = "bounded"
    half: float = 10.0

    __name__ = "visual"

    def __call__(
        self,
        *,
        completions: Sequence[Completion],
        answer: Sequence[str],
        choices: Sequence[Sequence[str] | None],
        visual_ratio: Sequence[float | None],
        **columns: Any,
    ) -> list[float]:
        """`visual_ratio`: None where there is no image, or where nothing was measured: a wrong answer."""
        right = AccuracyReward()(completions=completions, answer=answer, choices=choices)
        rows = zip(right, visual_ratio, strict=True)
        return [self.bound(ratio) if ok and ratio is not None else 0.0 for ok, ratio in rows]

    def bound(self, ratio: float) -> float:
        """The reward of a right answer with this ratio."""
        return ratio if self.form == "raw" else ratio / (ratio + self.half)


RewardFunction = AccuracyReward | FormatReward | VisualReward


def reward_functions(settings: RewardSettings) -> tuple[list[RewardFunction], list[float]]:
    """The functions, in the order of the columns, and their weights; no visual one where its weight is 0."""
    functions: list[RewardFunction] = [AccuracyReward(), FormatReward()]
    weights = [1.0, settings.format_weight]
    if settings.visual_weight:
        functions.append(VisualReward(settings.visual, settings.half))
        weights.append(settings.visual_weight)
    return functions, weights


def deciding_rewards(
    rewards_NF: Tensor, generations: int, all_correct: Literal["accuracy", "visual"]
) -> Tensor:
    """The rewards that advantages are made of: in `accuracy`, r_visual decides in no group of right answers.

    There its column is the group's mean, the same for all, so that only format can still differ. Among
    right and wrong answers it stays as it is.

    Args:
        rewards_NF: rows of a group stand together.
        generations: G, completions per group.
    Example: a group of two right answers with r_visual .2 and .6: both count .4; a right one with .6 beside
        a wrong one: .6 and 0.
    """
    if all_correct == "visual" or rewards_NF.shape[1] <= VISUAL:
        return rewards_NF
    deciding_GNF = rewards_NF.view(-1, generations, rewards_NF.shape[1]).clone()
    settled_G = (deciding_GNF[..., ACCURACY] == 1).all(dim=1)
    deciding_GNF[settled_G, :, VISUAL] = deciding_GNF[settled_G, :, VISUAL].mean(dim=1, keepdim=True)
    return deciding_GNF.view_as(rewards_NF)


def _text(completion: Completion) -> str:
    return completion[0]["content"]


def _is_right(text: str, gold: str, choices: tuple[str, ...]) -> bool:
    answer = extract_answer(after_thoughts(text))
    return answer is not None and _same_answer(answer, gold, choices)


@lru_cache(maxsize=4096)
def _same_answer(answer: str, gold: str, choices: tuple[str, ...]) -> bool:
    """Remembered, so that all rewards of a step agree on an answer that computer algebra had to decide."""
    return is_correct(answer, gold, choices or None)
