"""Recipes: everything a run depends on, as frozen data.

`parse_recipe` turns a mapping (from YAML) into a `Recipe` and answers a mistake with one line that names
the key and the nearest right one. Secrets are never here: a recipe names the environment variable that
holds them.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import ConfigError

EMBEDDED = "embedded"
STAGE_NAMES = ("describe", "reason", "anchor")
_HOST = r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?$"
# What may differ between two runs that ask the same: where a teacher is, how it is asked, what it costs.
_ACCESS = (
    *("url", "api_key_env", "max_in_flight", "min_in_flight", "timeout_s", "max_attempts"),
    *("retry_budget_s", "outage_s", "stream", "reuse_images", "prices"),
)
# What says nothing about the drafts, but what they are called and what becomes of them.
_AFTERWARDS = {"name", "journal", "decontaminate", "dedup", "select", "validation", "train", "grpo"}
SceneFamily = Literal["count", "compare", "chart", "pattern"]


class Settings(BaseModel):
    """Base of every settings block: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ScenesSource(Settings):
    """Procedural problems with exact answers (synth/scenes.py)."""

    kind: Literal["scenes"] = "scenes"
    count: int = Field(default=200, ge=1, description="problems to draw")
    families: tuple[SceneFamily, ...] = Field(default=get_args(SceneFamily), min_length=1)
    difficulty: tuple[float, float] = Field(
        default=(0.0, 1.0), description="range each problem's difficulty is drawn from, within [0, 1]"
    )
    size: tuple[int, int] = Field(default=(224, 448), description="range of the square image's side, pixels")

    @model_validator(mode="after")
    def _ranges(self) -> ScenesSource:
        low, high = self.difficulty
        if not 0 <= low <= high <= 1:
            raise ValueError(f"difficulty: [{low}, {high}] must rise within [0, 1]")
        small, large = self.size
        if not 112 <= small <= large <= 1024:
            raise ValueError(f"size: [{small}, {large}] must rise within [112, 1024] pixels")
        return self


class Columns(Settings):
    """Which column of a table holds what. Image names are relative to the folder."""

    id: str = "id"
    question: str = "question"
    answer: str = "answer"
    choices: str = "choices"
    image: str = "image"
    category: str = "category"
    facts: str = "scene"


class FolderSource(Settings):
    """A local folder: a JSON-lines table beside its images (also `metadata.jsonl` with `file_name`)."""

    kind: Literal["folder"] = "folder"
    path: Path
    table: str | None = Field(
        default=None, description="the table's file name; by default items.jsonl or metadata.jsonl"
    )
    columns: Columns = Columns()
    name: str | None = Field(default=None, description="the source's name; by default the folder's")
    limit: int | None = Field(default=None, ge=1, description="read only the first rows")
    max_pixels: int = Field(default=40_000_000, ge=1, description="a larger image is a failed row, pixels")
    allowed_hosts: tuple[Annotated[str, Field(pattern=_HOST)], ...] = Field(
        default=(),
        description="hosts that images may be fetched from, by name, with :port where it is not the scheme's "
        "own; none by default",
    )
    licence: str = ""


Source = Annotated[ScenesSource | FolderSource, Field(discriminator="kind")]


class Prices(Settings):
    """What a teacher costs, per million tokens, in one currency."""

    prompt: float = Field(default=0.0, ge=0, description="tokens read")
    cached: float | None = Field(default=None, ge=0, description="tokens read from a cache; None: as prompt")
    completion: float = Field(default=0.0, ge=0, description="tokens written")


class TeacherSettings(Settings):
    """A model behind one or several OpenAI-compatible servers. `embedded` starts avar's own teacher."""

    url: str | tuple[str, ...] = Field(
        default=EMBEDDED,
        min_length=1,
        description="base URL, with or without /v1, or several of the same model; or `embedded`",
    )
    model: str | None = Field(default=None, description="served name; None: the one the server lists")
    revision: str = Field(
        default="", description="the model's revision: part of what an answer depends on, asked of nobody"
    )
    api_key_env: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        max_length=64,
        description="name of the environment variable that holds the key",
    )
    max_in_flight: int = Field(
        default=64, ge=1, le=4096, description="requests at one time at each server, all stages"
    )
    min_in_flight: int = Field(
        default=4, ge=1, le=4096, description="level that is kept however slow a server is, if max allows"
    )
    timeout_s: float = Field(default=600.0, gt=0, description="seconds one answer may take")
    max_attempts: int = Field(
        default=6, ge=1, description="failed requests per answer; a queue that is full counts by time instead"
    )
    retry_budget_s: float = Field(
        default=600.0, ge=0, description="seconds an answer is asked for again after its first failure"
    )
    outage_s: float = Field(
        default=300.0, ge=0, description="seconds without any server before the run stops, resumable"
    )
    stream: bool = Field(default=False, description="answers as event streams, for proxies that cut silence")
    reuse_images: bool = Field(
        default=True, description="send an image once per vLLM server and then refer to it by `uuid`"
    )
    prices: Prices | None = Field(default=None, description="for the run's account of costs")

    @property
    def urls(self) -> tuple[str, ...]:
        """The servers' base URLs, without /v1 and a trailing slash."""
        given = (self.url,) if isinstance(self.url, str) else self.url
        return tuple(url.rstrip("/").removesuffix("/v1") for url in given)

    @model_validator(mode="after")
    def _url(self) -> TeacherSettings:
        if len(set(self.urls)) < len(self.urls):
            raise ValueError("url: names a server twice")
        for url in self.urls:
            if url != EMBEDDED:
                _check_url(url)
            elif len(self.urls) > 1:
                raise ValueError("url: `embedded` stands alone")
        return self


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_ok = urlsplit(""), False
    if "@" in parts.netloc:
        raise ValueError("url: holds a user or a password; put the key's variable into api_key_env")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_ok:
        raise ValueError("url: neither `embedded` nor an http(s) URL")


Temperature = Annotated[float, Field(ge=0, le=2)]


class AskSettings(Settings):
    """Sampling of one kind of question; `teacher` gives it a server of its own."""

    temperature: Temperature | Annotated[tuple[Temperature, ...], Field(min_length=1)] = Field(
        default=0.7, description="in [0, 2]; a list gives one to each sample of a problem, in turns"
    )
    top_p: float = Field(default=0.95, gt=0, le=1)
    max_tokens: int = Field(default=2048, ge=1)
    chat_template_kwargs: dict[str, Any] = Field(
        default={}, description="for the model's chat template, e.g. {enable_thinking: false}"
    )
    teacher: TeacherSettings | None = None

    def temperature_of(self, sample_index: int) -> float:
        """The temperature of one sample of a problem."""
        if isinstance(self.temperature, tuple):
            return self.temperature[sample_index % len(self.temperature)]
        return self.temperature


class StageSettings(AskSettings):
    """One of the three stages."""

    keep_truncated: bool = Field(
        default=False,
        description="let a text cut off at max_tokens feed the next stage; the row is rejected in the end",
    )


class SampleSettings(Settings):
    """How many drafts a problem gets, and when there are enough. Decided in source order, so that the order
    in which answers come changes nothing; what was asked beyond that stays in the journal."""

    n: int = Field(default=1, ge=1, le=256, description="samples every problem begins with")
    accept: int | None = Field(
        default=None, ge=1, description="ask on until so many drafts of a problem pass the filters"
    )
    most: int = Field(default=8, ge=1, le=256, description="samples per problem at most, with `accept`")
    until: int | None = Field(
        default=None, ge=1, description="stop after the problem that completes so many accepted drafts"
    )

    @model_validator(mode="after")
    def _bounds(self) -> SampleSettings:
        if self.accept is not None and not max(self.n, self.accept) <= self.most:
            raise ValueError(f"most: {self.most} is less than n or accept")
        return self

    @property
    def judged(self) -> bool:
        """True where the filters decide which drafts there are."""
        return self.accept is not None or self.until is not None


class AnswersEvidence(AskSettings):
    """The question put again with something left out; the answers are compared later, by the filters."""

    n: int = Field(default=4, ge=1, le=64, description="answers asked for")
    max_tokens: int = Field(default=1024, ge=1)


class JudgeEvidence(AskSettings):
    """Whether each claim of the trace can be seen in the image, yes or no with its probability."""

    temperature: Temperature | Annotated[tuple[Temperature, ...], Field(min_length=1)] = 0.0
    max_tokens: int = Field(default=4, ge=1, description="a yes or no; some tokenizers split it")
    most: int = Field(default=16, ge=1, description="claims judged per trace")


class LikelihoodEvidence(AskSettings):
    """Log-likelihood of the trace with its image and with a blank one of the same size."""


class SwapEvidence(AskSettings):
    """The chain anchored again, in front of another problem's image."""


class EvidenceSettings(Settings):
    """What a teacher is asked about a finished trace; each part is asked only where it is named.

    The answers become columns of the draft, and filters read them (`EvidenceThresholds`).
    """

    blind: AnswersEvidence | None = Field(default=None, description="answers to the question without image")
    description: AnswersEvidence | None = Field(
        default=None, description="answers to the question from the description alone"
    )
    judge: JudgeEvidence | None = None
    likelihood: LikelihoodEvidence | None = None
    swap: SwapEvidence | None = None

    @property
    def asked(self) -> dict[str, AskSettings]:
        """The parts that the recipe names, by name."""
        parts = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: part for name, part in parts.items() if part is not None}


class DedupSettings(Settings):
    """When two problems are one (filters/dedup.py)."""

    enabled: bool = True
    similarity: float = Field(
        default=90.0, ge=50, le=100, description="least likeness of two questions, rapidfuzz ratio"
    )
    bits: int = Field(default=4, ge=0, le=4, description="most different bits of two pictures' hashes, of 64")


class DecontaminateSettings(Settings):
    """When a problem stands in a benchmark (filters/decontaminate.py)."""

    benchmarks: tuple[str, ...] = Field(
        default=(), description="names of filters/benchmarks.py, folders or files; none by default"
    )
    index: Path | None = Field(default=None, description="file of an index that was built before")
    ngram: int = Field(default=8, ge=3, le=32, description="words in a row; 8 in open-r1, 13 in s1")
    max_items: int = Field(
        default=32, ge=1, description="an n-gram or a question of more items than this is boiler-plate"
    )
    bits: int = Field(default=4, ge=0, le=4, description="most different bits of two pictures' hashes, of 64")
    similarity: float = Field(
        default=60.0, ge=0, le=100, description="likeness of the questions that confirms a near picture"
    )
    near_text: float = Field(
        default=85.0, ge=50, le=100, description="least likeness of nearly equal questions"
    )
    image_alone: bool = Field(
        default=True, description="the very bytes of a benchmark's picture count with any question"
    )

    @model_validator(mode="after")
    def _targets(self) -> DecontaminateSettings:
        if self.benchmarks and self.index is not None:
            raise ValueError("index: was built from benchmarks; give either of them")
        return self


class EvidenceThresholds(Settings):
    """What a teacher's evidence must say for a draft to be kept. None: measured if there, not judged.

    A threshold that is set while a draft lacks the evidence drops the draft (`evidence_missing`): a recipe
    that asks for a property does not let rows pass of which nobody knows it.
    """

    max_blind_right: float | None = Field(
        default=None, ge=0, le=1, description="share of the answers without the image that are right, at most"
    )
    min_description_right: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the answers from the description that are right, at least",
    )
    max_description_right: float | None = Field(
        default=None, ge=0, le=1, description="the same, at most: keeps what only the image can answer"
    )
    min_claims_seen: float | None = Field(
        default=None, ge=0, le=1, description="share of the trace's claims that the judge sees, at least"
    )
    min_likelihood_gain: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="log-likelihood with the image minus with a blank one, nats per token, at least",
    )
    max_swap_similarity: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="likeness of the trace to the one in front of another image, at most",
    )
    min_vas: float | None = Field(
        default=None, ge=0, description="visual attention score that a student gave the row, at least"
    )
    vas_scores: tuple[Path, ...] = Field(
        default=(), description="results of `avar vas --out` about the run's rows: vas.json or its folder"
    )
    vas_model: str | None = Field(default=None, description="whose scores, where they hold several models'")


class FilterSettings(Settings):
    """Thresholds of the filters. Tokens here are words and punctuation marks, counted without a model."""

    min_tokens: int = Field(default=20, ge=0, description="shortest trace kept")
    max_tokens: int = Field(default=8192, ge=1, description="longest trace kept")
    min_anchors: int = Field(default=2, ge=0, description="looks back at the image a trace must hold")
    min_named_anchors: int = Field(
        default=1, ge=0, description="of them, looks at something that the description names"
    )
    min_anchor_spread: float = Field(
        default=0.5, ge=0, le=1, description="share of the chain's four quarters that must hold an anchor"
    )
    max_contradicted: int = Field(
        default=0, ge=0, description="claims of the trace that the description may contradict"
    )
    min_supported: float = Field(
        default=0.05, ge=0, le=1, description="share of the trace's claims that the description must support"
    )
    min_reflections: int = Field(
        default=1, ge=0, description="self-checks that re-derive or correct something; 0: none is asked for"
    )
    max_repetition: float = Field(
        default=0.5, ge=0, le=1, description="share of the trace's words in 8-grams that it has had before"
    )
    max_foreign: float = Field(
        default=0.1, ge=0, le=1, description="share of its letters in another script than most of them"
    )
    evidence: EvidenceThresholds = EvidenceThresholds()

    @model_validator(mode="after")
    def _lengths(self) -> FilterSettings:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens: {self.min_tokens} is more than max_tokens, {self.max_tokens}")
        return self

    @property
    def before_evidence(self) -> FilterSettings:
        """What a draft is judged by while it is sampled: its evidence is gathered afterwards."""
        return self.model_copy(update={"evidence": EvidenceThresholds()})


class SelectSettings(Settings):
    """Which of the accepted drafts make the dataset (filters/selection.py). None: no limit."""

    per_problem: int | None = Field(
        default=None, ge=1, description="accepted drafts of a problem that are kept, the best"
    )
    max_source_share: float | None = Field(
        default=None, gt=0, le=1, description="share of the dataset that one source may have, at most"
    )
    max_category_share: float | None = Field(
        default=None, gt=0, le=1, description="the same for one category of problem"
    )
    max_answer_type_share: float | None = Field(
        default=None, gt=0, le=1, description="the same for choices, numbers and texts"
    )


class StudentSettings(Settings):
    """The tiny Qwen2.5-VL student that the demo builds from its config (trainer/student.py)."""

    hidden_size: int = Field(default=128, ge=32)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    kv_heads: int = Field(default=2, ge=1)
    vocab_size: int = Field(default=2048, ge=512, description="tokenizer trained on the recipe's own text")
    image_side: int = Field(default=112, ge=56, description="side images are resized to, pixels")
    initializer: Literal["normal", "fan_in"] = Field(
        default="normal",
        description="spread of the random matrices: 0.02 as in transformers, or 1 / sqrt(inputs), from which "
        "small models learn several times faster",
    )
    rope_theta: float = Field(
        default=10_000.0,
        gt=1,
        description="base of the rotary periods; a small one tells the few columns of a small image apart",
    )


class GuidedLossSettings(Settings):
    """The attention-guided objective (AVAR, arXiv 2603.03825; METHOD in docs/method.md).

    `bounded` is zero once the image share of a (layer, head) has reached `image_target` and once the
    system share has fallen to `system_floor`; `paper` is the published form, which runs away on small models.
    """

    alpha: float = Field(default=0.15, ge=0, description="weight of L_enhance; 0.15 in the paper")
    beta: float = Field(default=0.15, ge=0, description="weight of L_suppress; 0.15 in the paper")
    form: Literal["bounded", "paper"] = "bounded"
    queries: Literal["user", "response", "user+response"] = "user"
    image_target: float = Field(default=0.5, gt=0, le=1, description="share of attention, bounded form")
    system_floor: float = Field(default=0.25, gt=0, le=1, description="share of attention, bounded form")


class LoraSettings(Settings):
    """Low-rank adapters (peft) are trained instead of all weights, and merged where the model is saved."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0, description="adapters are scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | tuple[str, ...] = Field(
        default="all-linear", description="names of the modules, as peft's target_modules"
    )


class OptimizerSettings(Settings):
    """What SFT and GRPO share: how long, how large a step, what is kept on the way."""

    model: str = Field(default="tiny", description="`tiny` (built from its config) or a model folder or name")
    steps: int = Field(default=60, ge=1)
    batch_size: int = Field(default=8, ge=1, description="sequences per step and process")
    gradient_accumulation: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0, description="1e-5 for the paper's 7B model")
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1, description="0.1 in the released recipe")
    gradient_checkpointing: bool = Field(
        default=False, description="recompute activations in backward (non-reentrant): less memory, slower"
    )
    lora: LoraSettings | None = Field(default=None, description="adapters; None: all weights are trained")
    save_every: int = Field(default=0, ge=0, description="steps between two checkpoints; 0: none")
    keep_checkpoints: int = Field(default=2, ge=1, description="checkpoints that stay, the latest")


class TrainSettings(OptimizerSettings):
    """SFT on the accepted traces."""

    student: StudentSettings = StudentSettings()
    guided: GuidedLossSettings = GuidedLossSettings()
    control: bool = Field(default=True, description="train a second model without the guided loss")
    vas_samples: int = Field(default=32, ge=1, description="held-out rows the score is measured on")
    diagnostics_every: int = Field(
        default=25,
        ge=0,
        description="steps between two readings of shares, effective image tokens and gradient norms; the "
        "first step is always read; 0: never",
    )
    watch_every: int = Field(
        default=50,
        ge=0,
        description="steps between two measurements of the held-out image gain, besides before the first "
        "step and after the last; 0: never",
    )
    watch_rows: int = Field(
        default=16, ge=4, description="held-out rows the gain is measured on; with fewer, noise is unknown"
    )


class RewardSettings(Settings):
    """r = r_accuracy + visual_weight * r_visual + format_weight * r_format (AVAR, arXiv 2603.03825).

    r_visual is 0 for a wrong answer. For a right one it is the response's mean ratio of attention on the
    image to attention on the system turn: `raw` is that number to the letter, without a bound; `bounded` is
    ratio / (ratio + half), in [0, 1). With the defaults one outlying ratio cannot turn the advantage of
    another right answer negative.
    """

    visual_weight: float = Field(default=0.3, ge=0, description="0.3 in the paper; 0: nothing is recorded")
    format_weight: float = Field(default=0.1, ge=0, description="0.1 in the paper")
    visual: Literal["bounded", "raw"] = "bounded"
    half: float = Field(
        default=10.0,
        gt=0,
        description="ratio at which the bounded form gives 0.5; 10 is where the paper's band `wide` begins",
    )
    all_correct: Literal["accuracy", "visual"] = Field(
        default="accuracy",
        description="what decides in a group of right answers alone: accuracy and format, r_visual counting "
        "with the group's mean; or r_visual too, as in the paper",
    )


class GrpoSettings(OptimizerSettings):
    """GRPO with the visual-anchored reward. `batch_size` counts completions: groups must be whole."""

    learning_rate: float = Field(default=1e-6, gt=0, description="1e-6 in the paper")
    generations: int = Field(
        default=8, ge=2, description="completions of a prompt, its group; 8 in the paper"
    )
    iterations: int = Field(default=1, ge=1, description="updates on the same completions")
    temperature: float = Field(default=1.0, gt=0, le=2, description="of the sampled completions")
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_new_tokens: int = Field(default=1024, ge=1, description="tokens of a completion at most")
    epsilon: float = Field(default=0.2, gt=0, lt=1, description="clip range of the probability ratio")
    beta: float = Field(
        default=0.0, ge=0, description="weight of the KL term; 0 in the paper: no second model"
    )
    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo"] = Field(
        default="grpo",
        description="how token losses are averaged; `grpo`: per completion first, as published",
    )
    scale_rewards: Literal["none", "batch", "group"] = Field(
        default="none",
        description="what spread advantages are divided by; `group` blows up what differs in groups that "
        "hardly do",
    )
    rewards: RewardSettings = RewardSettings()
    vllm: str | None = Field(
        default=None,
        description="base URL of a vLLM server that samples; None: the trainer samples itself",
    )

    @model_validator(mode="after")
    def _server(self) -> GrpoSettings:
        try:
            _check_url(self.vllm or "http://localhost")
        except ValueError:
            raise ValueError(f"vllm: {self.vllm!r} is no http(s) URL without a user") from None
        return self


class Recipe(Settings):
    """One run: where problems come from, who teaches, what is kept, how a student is trained."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(default=0, ge=0, lt=2**31)
    source: Source
    teacher: TeacherSettings = TeacherSettings()
    describe: StageSettings = StageSettings()
    reason: StageSettings = StageSettings()
    anchor: StageSettings = StageSettings()
    samples: SampleSettings = SampleSettings()
    evidence: EvidenceSettings = EvidenceSettings()
    journal: Path | None = Field(
        default=None,
        description="file of the teachers' answers, for several runs; by default the run's own",
    )
    partition_size: int = Field(default=250, ge=1, description="problems per Prefect task and draft shard")
    filters: FilterSettings = FilterSettings()
    decontaminate: DecontaminateSettings = DecontaminateSettings()
    dedup: DedupSettings = DedupSettings()
    select: SelectSettings = SelectSettings()
    validation: float = Field(
        default=0.15, ge=0, lt=1, description="share of accepted problems held out, decided by their id"
    )
    train: TrainSettings = TrainSettings()
    grpo: GrpoSettings = GrpoSettings()

    @property
    def questions(self) -> dict[str, AskSettings]:
        """What a teacher is asked: the three stages, then the parts of the evidence as `evidence.NAME`."""
        stages: dict[str, AskSettings] = {name: getattr(self, name) for name in STAGE_NAMES}
        return stages | {f"evidence.{name}": part for name, part in self.evidence.asked.items()}

    @property
    def teachers(self) -> dict[str, TeacherSettings]:
        """The teacher of each question."""
        return {name: asked.teacher or self.teacher for name, asked in self.questions.items()}

    def with_teachers(self, change: Callable[[TeacherSettings], TeacherSettings]) -> Recipe:
        """This recipe with every teacher's settings changed."""

        def changed(asked: AskSettings) -> AskSettings:
            return asked.model_copy(update={"teacher": asked.teacher and change(asked.teacher)})

        parts = {name: changed(part) for name, part in self.evidence.asked.items()}
        stages = {name: changed(getattr(self, name)) for name in STAGE_NAMES}
        evidence = self.evidence.model_copy(update=parts)
        return self.model_copy(update={"teacher": change(self.teacher), "evidence": evidence, **stages})

    def synthesis_key(self, *, with_filters: bool | None = None) -> dict[str, Any]:
        """The part of the recipe that decides what the drafts are.

        Where a teacher is and how fast it is asked, and what happens to its drafts afterwards, is not part
        of it.

        Args:
            with_filters: by default where they decide which drafts there are (`samples.judged`).
        """
        judged = self.samples.judged if with_filters is None else with_filters
        data = self.model_dump(mode="json", exclude=_AFTERWARDS)
        data["filters"].pop("evidence")
        if not judged:
            data.pop("filters")
        data["evidence"] = {name: data["evidence"][name] for name in self.evidence.asked}
        asked = [data[name] for name in STAGE_NAMES] + list(data["evidence"].values())
        for block in filter(None, (data["teacher"], *(part["teacher"] for part in asked))):
            for key in _ACCESS:
                block.pop(key)
        return data

    def source_key(self) -> dict[str, Any]:
        """Which rows these are, whatever is done with them: a folder holds runs of one source alone.

        How many of its rows are read is not part of it, so that a run can be extended.
        """
        source = self.source.model_dump(mode="json", exclude={"count", "limit"})
        return {"seed": self.seed, "source": source}


def read_yaml(path: Path) -> Any:
    """A YAML file's content.

    Raises: ConfigError: it is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


def parse_recipe(data: object, *, where: str) -> Recipe:
    """A mapping as a `Recipe`.

    Args:
        where: the file's name, for the message.
    Raises: ConfigError: one line naming the first wrong key, its value, and the mend.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: a recipe is a mapping of keys, found {type(data).__name__}")
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error, Recipe)}") from error


def override(data: Mapping[str, Any], assignments: Mapping[str, Any]) -> dict[str, Any]:
    """`data` with `key.sub` paths replaced, e.g. {"source.count": 50}.

    Raises: ConfigError: a path that runs through a value which is not a mapping.
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in data.items()}
    for path, value in assignments.items():
        *parents, leaf = path.split(".")
        node: dict[str, Any] = result
        for depth, parent in enumerate(parents):
            child = node.get(parent)
            if child is not None and not isinstance(child, Mapping):
                raise ConfigError(f"--set {path}: {'.'.join(parents[: depth + 1])} is a value, not a block")
            node[parent] = dict(child or {})
            node = node[parent]
        node[leaf] = value
    return result


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong with a block of settings, on one line: the key, its value, the nearest right key."""
    problems = error.errors(include_url=False)
    first = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    key = ".".join(str(part) for part in _recipe_path(first["loc"]))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key `{key}`{_suggest(key, model)}{more}"
    if first["type"] == "missing":
        return f"missing key `{key}`{more}"
    if first["type"] == "union_tag_invalid":
        known = ", ".join(
            sorted(get_args(member.model_fields["kind"].annotation)[0] for member in _sources())
        )
        tag = first["input"].get("kind") if isinstance(first["input"], Mapping) else first["input"]
        return f"`{key}.kind`: unknown source {tag!r}; known: {known}{more}"
    if first["type"] == "union_tag_not_found":
        return f"missing key `{key}.kind`{more}"
    message = first["msg"].removeprefix("Value error, ")
    if key.endswith("api_key_env"):
        # What stands there may be the key itself: never shown.
        return f"`{key}`: write the name of an environment variable, not the key itself{more}"
    given = "" if isinstance(first["input"], Mapping) else f", got {first['input']!r}"
    return f"`{key}`: {message}{given}{more}" if key else f"{message}{more}"


def _sources() -> tuple[type[BaseModel], ...]:
    return (ScenesSource, FolderSource)


def _recipe_path(loc: tuple[int | str, ...]) -> Iterator[int | str]:
    """The location without the discriminator's tag, which pydantic puts after `source`."""
    for position, part in enumerate(loc):
        if not (position == 1 and loc[0] == "source" and part in {"scenes", "folder"}):
            yield part


def _suggest(key: str, model: type[BaseModel]) -> str:
    name = key.rsplit(".", 1)[-1]
    known = sorted({field for block in _blocks(model) for field in block.model_fields})
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f": did you mean `{near[0]}`?" if near else f"; see the shipped recipes for the keys of `{key}`"


def _blocks(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """`model` and every settings block below it."""
    yield model
    nested = [*_sources(), Columns] if model is Recipe else []
    nested += [field.annotation for field in model.model_fields.values() if _is_block(field.annotation)]
    for child in nested:
        if child is not model:
            yield from _blocks(child)


def _is_block(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
