"""GRPO with the visual-anchored reward: TRL's trainer, which reads its own policy's attention once a rollout.

N completions of all processes, F reward functions. Source: AVAR, arXiv 2603.03825; docs/method.md.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProcessorMixin,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from schemas.config import GrpoSettings, RewardSettings
from schemas.errors import AttentionError, ConfigError
from trainer.arguments import common_arguments
from trainer.attention import full_attention_layers, prepared
from trainer.checkpoints import save_student
from trainer.diagnostics import Figures, refuse_sharded
from trainer.messages import Conversation, iterate_parts, plain, refuse_placeholder, to_messages
from trainer.rewards import ACCURACY, AccuracyReward, deciding_rewards, reward_functions
from trainer.rollouts import Reading, read_completions
from trainer.sft import WINDOW, Progress, _quiet, _restore_forward

if TYPE_CHECKING:
    import datasets

VISUAL_RATIO = "visual_ratio"  # the column that the trainer adds for `VisualReward`
_SAME = 1e-6  # rewards of a group that differ by less teach nothing


@dataclass(frozen=True, kw_only=True)
class GrpoReport:
    """What a training did.

    Attributes:
        steps: optimizer steps done.
        reward_first, reward_last: mean reward of a completion over the first and the last five steps that
            sampled; accuracy_first, accuracy_last: the same of r_accuracy.
        history: one mapping per step, what docs/training.md lists.
        model_path: folder of the trained model.
    """

    steps: int
    reward_first: float
    reward_last: float
    accuracy_first: float
    accuracy_last: float
    history: tuple[Mapping[str, float], ...]
    model_path: Path

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self) | {"model_path": str(self.model_path), "history": [dict(h) for h in self.history]}


def train_grpo(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    train_rows: datasets.Dataset,
    settings: GrpoSettings,
    *,
    seed: int,
    out_dir: str | Path,
    progress: Progress | None = None,
) -> GrpoReport:
    """Train `model` in place on the rows' problems and save it in `out_dir`.

    Args:
        train_rows: columns as in `schemas.records.sample_features`, of which question, choices, images and
            answer are read; a `system` column replaces avar's own system prompt.
        seed: of the order of the rows and of what is sampled.
        progress: called with (step, steps, metrics) after each step.
    Raises: ConfigError: groups that are not whole, too few rows, or settings that this model cannot have.
        SpanError, AttentionError: a prompt or a model on which r_visual would not be exact.
    """
    check_groups(settings, len(train_rows))
    _refuse_unbuilt(settings)
    _refuse_missing_vllm(settings)
    _refuse_reference(model, settings)
    forward = model.__dict__.get("forward")
    log = _StepLog(settings.steps, progress)
    with _quiet(), _left_padding(processor):
        try:
            trainer = VisualGRPOTrainer(
                model=model,
                args=_arguments(settings, seed, Path(out_dir)),
                train_dataset=grpo_dataset(train_rows, processor),
                processing_class=processor,
                rewards=settings.rewards,
            )
            trainer.remove_callback(PrinterCallback)
            trainer.add_callback(log)
            trainer.train()
        finally:
            _restore_forward(model, forward)
    if trainer.is_world_process_zero():
        save_student(model.eval(), processor, out_dir)
    trainer.accelerator.wait_for_everyone()
    return GrpoReport(
        steps=int(trainer.state.global_step),
        reward_first=log.mean("reward", first=True),
        reward_last=log.mean("reward", first=False),
        accuracy_first=log.mean("rewards/accuracy/mean", first=True),
        accuracy_last=log.mean("rewards/accuracy/mean", first=False),
        history=tuple(log.history),
        model_path=Path(out_dir),
    )


class VisualGRPOTrainer(GRPOTrainer):
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
        self._figures = {True: Figures(), False: Figures()}  # training, evaluation
        self._true: dict[bool, dict[str, list[float]]] = {True: defaultdict(list), False: defaultdict(list)}
        tokenizer: Any = self._tokenizer
        if tokenizer.padding_side != "left":
            raise ConfigError(
                "the tokenizer pads on the right: TRL pads prompts on the left, but token types and images' "
                "places as the tokenizer does; set processor.tokenizer.padding_side = 'left'"
            )
        if rewards.visual_weight:
            self._refuse_unreadable()

    @property
    def bare_model(self) -> Any:
        """The model itself, out of whatever accelerate put around it."""
        return self.accelerator.unwrap_model(self.model)

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

    @property
    def figures(self) -> Figures:
        """What the next log will say."""
        return self._figures[self._training]

    @property
    def _training(self) -> bool:
        return self.model is not None and self.model.training

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

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As TRL's, with the figures of all processes: every process must call it."""
        found = self.figures.take(self._sum_over_processes, self.accelerator.device)
        metrics = self._metrics["train" if self._training else "eval"]
        metrics.update({name: [value] for name, value in found.items()})
        # In place of TRL's own, which are of what decides.
        metrics.update(self._true[self._training])
        self._true[self._training] = defaultdict(list)
        super().log(logs, start_time)

    def _sum_over_processes(self, values: Tensor) -> Tensor:
        total: Any = self.accelerator.reduce(values)
        return total


def grpo_dataset(dataset: datasets.Dataset, processor: ProcessorMixin) -> datasets.Dataset:
    """Sample rows as prompts with images, answer and choices, made when a row is read: nothing is copied.

    A row whose text holds an image token is a SpanError that names the row.
    """
    return dataset.with_transform(partial(_to_columns, processor))


def _to_columns(processor: ProcessorMixin, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    names = list(batch)
    rows = [dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    columns: dict[str, list[Any]] = {name: [] for name in ("prompt", "images", "answer", "choices")}
    for row in rows:
        prompt = to_messages(row, with_response=False)
        refuse_placeholder(processor, prompt, f"row {row['id']}")
        images = [part["image"] for _, part in iterate_parts(prompt) if part["type"] == "image"]
        for name, value in zip(columns, (plain(prompt), images, row["answer"], row["choices"]), strict=True):
            columns[name].append(value)
    return columns


def check_groups(settings: GrpoSettings, rows: int) -> None:
    """Raises: ConfigError: a step does not hold whole groups, or there are fewer rows than it needs."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    completions = settings.batch_size * settings.gradient_accumulation * processes
    prompts, rest = divmod(completions, settings.generations)
    if rest:
        raise ConfigError(
            f"grpo.batch_size: {settings.batch_size} x gradient_accumulation "
            f"{settings.gradient_accumulation} x {processes} processes = {completions} completions are no "
            f"whole groups of {settings.generations}: set grpo.batch_size={settings.generations}, or another "
            "grpo.generations"
        )
    if rows < prompts:
        raise ConfigError(
            f"{rows} rows for {prompts} prompts a step: fewer completions a step (grpo.batch_size, "
            "grpo.gradient_accumulation), or more rows"
        )


def _refuse_unbuilt(settings: GrpoSettings) -> None:
    """Settings that SFT has and GRPO has not yet: an error, not a run without them."""
    for name, asked in (("lora", settings.lora is not None), ("save_every", settings.save_every > 0)):
        if asked:
            raise ConfigError(f"grpo.{name}: not available in GRPO; leave it out")


def _refuse_missing_vllm(settings: GrpoSettings) -> None:
    """TRL's client of a vLLM server imports vllm itself, to send it the weights."""
    if settings.vllm is not None and not any(distributions(name="vllm")):
        raise ConfigError(
            "grpo.vllm: TRL's client needs the package vllm 0.22 to 0.31 in the trainer's own environment, "
            "which then cannot hold Prefect (docs/training.md); without it the trainer samples itself"
        )


def _refuse_reference(model: PreTrainedModel, settings: GrpoSettings) -> None:
    """TRL loads the reference model by the policy's own name, which a model built on the spot has not."""
    if settings.beta and not model.config.name_or_path:
        raise ConfigError(
            "grpo.beta: the KL term needs the model a second time, from its folder: save it and name the "
            "folder as grpo.model, or set grpo.beta=0"
        )


def _arguments(settings: GrpoSettings, seed: int, out_dir: Path) -> GRPOConfig:
    _, weights = reward_functions(settings.rewards)
    server: dict[str, Any] = {"use_vllm": False}
    if settings.vllm is not None:
        server = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": settings.vllm.rstrip("/")}
    return GRPOConfig(
        **common_arguments(settings, seed, out_dir),
        **server,
        reward_weights=weights,
        multi_objective_aggregation="sum_then_normalize",
        num_generations=settings.generations,
        num_iterations=settings.iterations,
        max_completion_length=settings.max_new_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        beta=settings.beta,
        epsilon=settings.epsilon,
        loss_type=settings.loss_type,
        scale_rewards=settings.scale_rewards,
        importance_sampling_level="token",
        mask_truncated_completions=False,
        remove_unused_columns=False,  # rows are turned into prompts as they are read
    )


class _StepLog(TrainerCallback):
    """Keeps what the trainer logs at each step, and passes it on."""

    def __init__(self, steps: int, progress: Progress | None) -> None:
        self.steps, self.progress = steps, progress
        self.history: list[dict[str, float]] = []

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        if logs is None or "loss" not in logs:  # the closing summary
            return
        metrics = {name: float(value) for name, value in logs.items() if isinstance(value, int | float)}
        self.history.append({"step": float(state.global_step), **metrics})
        if self.progress is not None:
            self.progress(state.global_step, self.steps, metrics)

    def mean(self, name: str, *, first: bool) -> float:
        """Over the first or the last steps that have this figure."""
        values = [entry[name] for entry in self.history if name in entry]
        chosen = values[:WINDOW] if first else values[-WINDOW:]
        return math.fsum(chosen) / len(chosen)


def _chunks(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@contextmanager
def _left_padding(processor: ProcessorMixin) -> Iterator[None]:
    """Prompts padded on the left, as sampling needs; the processor is saved as it was."""
    tokenizer: Any = getattr(processor, "tokenizer")  # noqa: B009
    before, tokenizer.padding_side = tokenizer.padding_side, "left"
    try:
        yield
    finally:
        tokenizer.padding_side = before
