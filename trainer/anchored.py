"""TRL's GRPO trainer with the visual-anchored reward: it reads its own policy's attention once a rollout.

N completions of all processes, G of each prompt, F reward functions.
Source: AVAR, arXiv 2603.03825, "visual-anchored reward"; docs/method.md.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from trl.trainer.grpo_trainer import GRPOTrainer

from schemas.config import RewardSettings
from schemas.errors import AttentionError, ConfigError
from trainer.attention import full_attention_layers, prepared
from trainer.diagnostics import refuse_sharded
from trainer.measuring import MeasuringTrainer
from trainer.messages import Conversation, iterate_parts
from trainer.rewards import ACCURACY, AccuracyReward, deciding_rewards, reward_functions
from trainer.rollouts import Reading, read_completions

VISUAL_RATIO = "visual_ratio"  # the column that the trainer adds for `VisualReward`
_SAME = 1e-6  # rewards of a group that differ by less teach nothing


class VisualGRPOTrainer(MeasuringTrainer, GRPOTrainer):
    """TRL's GRPOTrainer with r = r_accuracy + 0.3 r_visual + 0.1 r_format.

    Before rewards are computed, the right completions (with an image) go through the policy once more,
    recorded and without a gradient, and their ratios through `VisualReward`. Logs what docs/training.md
    lists; the rewards logged are the true ones, whatever `rewards.all_correct` lets decide.

    Args:
        rewards: weights and forms. The functions are made here, and `args.reward_weights` are theirs.
    Raises: AttentionError: a model that cannot be recorded. ConfigError: its parameters are sharded, or the
        tokenizer pads on the right.
    """

    def __init__(self, *args: Any, rewards: RewardSettings, **keywords: Any) -> None:
        functions, _ = reward_functions(rewards)
        super().__init__(*args, reward_funcs=functions, **keywords)  # type: ignore[arg-type]
        self.rewards = rewards
        self._true: dict[bool, dict[str, list[float]]] = {True: defaultdict(list), False: defaultdict(list)}
        tokenizer: Any = self._tokenizer
        if tokenizer.padding_side != "left":
            raise ConfigError(
                "the tokenizer pads on the right: TRL pads prompts on the left, but token types and images' "
                "places as the tokenizer does; set processor.tokenizer.padding_side = 'left'"
            )
        if rewards.visual_weight:
            self._refuse_unreadable()

    def _refuse_unreadable(self) -> None:
        kind = self.accelerator.distributed_type.value
        refuse_sharded(kind, self.bare_model.parameters(), ["grpo.rewards.visual_weight"])
        try:
            with prepared(self.bare_model):
                if full_attention_layers(self.bare_model):
                    return
                raise AttentionError("every layer has a sliding window, which does not see the whole prompt")
        except AttentionError as error:
            raise AttentionError(
                f"{error}; to train without r_visual: grpo.rewards.visual_weight=0"
            ) from error

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], Any, dict[str, Any]]:
        """TRL's; a row without an image among others has an empty list, not a None that processors refuse."""
        prompt_ids, images, fields = super()._tokenize_prompts(prompts)
        return prompt_ids, images and [row or [] for row in images], fields

    def _calculate_rewards(
        self,
        inputs: list[dict[str, Any]],
        prompts: list[Any],
        completions: list[Any],
        completion_ids_list: list[list[int]],
    ) -> Tensor:
        """TRL's, with the ratios of right completions as a column. Returns: [N, F], what decides."""
        # A tokenizer with a response schema would have taken the tags out of the messages.
        texts = self._tokenizer.batch_decode(completion_ids_list, skip_special_tokens=True)
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        if self.rewards.visual_weight:
            ratios = self._measure_ratios(inputs, prompts, completions, completion_ids_list)
            inputs = [row | {VISUAL_RATIO: ratio} for row, ratio in zip(inputs, ratios, strict=True)]
        rewards_NF: Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        generations: Any = self.num_generations if self._training else self.num_generations_eval
        decisive_NF = deciding_rewards(rewards_NF, generations, self.rewards.all_correct)
        self._note_rewards(rewards_NF, decisive_NF, generations)
        return decisive_NF

    def _measure_ratios(
        self,
        inputs: Sequence[Mapping[str, Any]],
        prompts: Sequence[Conversation],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]],
    ) -> list[float | None]:
        """The ratio of each right completion with an image, None for the others."""
        columns = {name: [row[name] for row in inputs] for name in ("answer", "choices")}
        right = AccuracyReward()(completions=completions, **columns)
        seen = [any(part["type"] == "image" for _, part in iterate_parts(prompt)) for prompt in prompts]
        wanted = [row for row, (ok, image) in enumerate(zip(right, seen, strict=True)) if ok and image]
        ratios: list[float | None] = [None] * len(prompts)
        for rows in _chunks(wanted, self.args.per_device_train_batch_size):
            chosen = [prompts[row] for row in rows]
            readings = self._read(chosen, [completion_ids[row] for row in rows])
            for row, reading in zip(rows, readings, strict=True):
                ratios[row] = reading.ratio
            self._note_readings(readings)
        self._note_readings([])  # every process logs the same names
        self.figures.add_count("right_without_image", sum(map(bool, right)) - len(wanted))
        return ratios

    def _read(
        self, prompts: Sequence[Conversation], completion_ids: Sequence[Sequence[int]]
    ) -> list[Reading]:
        """The policy's attention on these rows, tokenized as they were for sampling."""
        prompt_ids, _, fields = self._tokenize_prompts(list(prompts))
        processor: Any = self.processing_class
        with self.accelerator.autocast():
            return read_completions(self.bare_model, processor, prompts, (prompt_ids, fields), completion_ids)

    def _note_readings(self, readings: Sequence[Reading]) -> None:
        number = len(readings)
        means = {
            "response_vas": "ratio",
            "response_image_share": "image_share",
            "response_system_share": "system_share",
        }
        for name, part in means.items():
            self.figures.add_sum(name, math.fsum(getattr(reading, part) for reading in readings), number)
        self.figures.add_count("read", number)
        self.figures.add_count("pairs_below_eps", sum(reading.pairs_below_eps for reading in readings))

    def _note_rewards(self, rewards_NF: Tensor, decisive_NF: Tensor, generations: int) -> None:
        """Mean and spread of the true rewards, of all processes, and shares of groups."""
        weights_F = self.reward_weights.to(rewards_NF.device)
        columns = dict(zip(self.reward_func_names, rewards_NF.unbind(dim=1), strict=True))
        noted = self._true[self._training]
        for name, values_N in columns.items():
            noted[f"rewards/{name}/mean"].append(values_N.mean().item())
            noted[f"rewards/{name}/std"].append(values_N.std().item())
        total_N = rewards_NF @ weights_F
        noted["reward"].append(total_N.mean().item())
        noted["reward_std"].append(total_N.std().item())
        spread_G = (decisive_NF @ weights_F).view(-1, generations).aminmax(dim=1)
        right_GN = rewards_NF[:, ACCURACY].view(-1, generations) == 1
        shares = {
            "groups_without_spread": spread_G.max - spread_G.min < _SAME,
            "groups_all_right": right_GN.all(dim=1),
            "groups_all_wrong": ~right_GN.any(dim=1),
        }
        for name, group_G in shares.items():
            noted[name].append(group_G.float().mean().item())

    def _take_metrics(self) -> dict[str, list[float]]:
        # The rewards in place of TRL's own, which are of what decides.
        true = self._true[self._training]
        self._true[self._training] = defaultdict(list)
        return super()._take_metrics() | true


def _chunks(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
