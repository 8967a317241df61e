"""What a run asked of its teachers and what that cost, by stage and model.

Answers out of the journal are counted apart from those of this run's own calls, so that both can be said:
what this run cost, and what its answers would have cost without the journal.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic reads no other before Python 3.12

from schemas.config import STAGE_NAMES, EvidenceSettings, Prices
from schemas.errors import ShardError, TeacherFault
from synth.requests import Answer

_ORDER = (*STAGE_NAMES, *(f"evidence.{name}" for name in EvidenceSettings.model_fields))


class Counts(TypedDict):
    """Calls that have ended, and what they took.

    Keys:
        calls: answers and refusals; a call that was asked again counts once.
        refused: of the calls, those that no asking again can mend, by `TeacherFault`.
        prompt_tokens, completion_tokens: of the answers whose server counts them.
        cached_tokens: of the prompts' tokens, those that the server had computed before.
        unknown_tokens: answers whose server counts no tokens, or only some.
        seconds: of the answers, each from asking to its last byte; calls in flight together add up.
    """

    calls: int
    refused: dict[str, int]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    unknown_tokens: int
    seconds: float


class ModelUsage(TypedDict):
    """One stage's use of one model: this run's calls, the journal's answers, and the calls that were asked
    again, by `TeacherFault`."""

    asked: Counts
    reused: Counts
    retries: dict[str, int]


Usage = dict[str, dict[str, ModelUsage]]  # stage -> model -> what it took, in the order of the stages


@dataclass(slots=True)
class _Tally:
    """`Counts` while it grows."""

    calls: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    unknown_tokens: int = 0
    seconds: float = 0.0

    def to_counts(self) -> Counts:
        return Counts(**{**asdict(self), "refused": _by_name(self.refused)})


class Ledger:
    """Counts a run's calls while it goes on; a call costs a microsecond.

    Attributes:
        retries: calls that were asked again, of all stages.
    """

    def __init__(self) -> None:
        self.retries = 0
        self._tallies: defaultdict[tuple[str, str, bool], _Tally] = defaultdict(_Tally)
        self._retries: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def answered(self, stage: str, model: str, answer: Answer, *, reused: bool) -> None:
        """Counts an answer; `reused`: it came out of the journal."""
        tally = self._tallies[stage, model, reused]
        tally.calls += 1
        tally.seconds += answer.seconds
        prompt, completion = answer.prompt_tokens, answer.completion_tokens
        if prompt < 0 or completion < 0:
            tally.unknown_tokens += 1
        if prompt > 0:
            tally.prompt_tokens += prompt
            # Part of the prompt whatever a server says, or a price would become negative.
            tally.cached_tokens += min(answer.cached_tokens, prompt)
        if completion > 0:
            tally.completion_tokens += completion

    def refused(self, stage: str, model: str, fault: TeacherFault, *, reused: bool) -> None:
        """Counts a call that failed for good; `reused`: the refusal came out of the journal."""
        tally = self._tallies[stage, model, reused]
        tally.calls += 1
        tally.refused[fault] += 1

    def retried(self, stage: str, model: str, fault: TeacherFault) -> None:
        """Counts a failure after which the call is asked again."""
        self.retries += 1
        self._retries[stage, model][fault] += 1

    def to_dict(self) -> Usage:
        """What has been counted so far, as plain data for JSON."""
        usage: Usage = {}
        seen = {(stage, model) for stage, model, _ in self._tallies} | self._retries.keys()
        for stage, model in sorted(seen, key=lambda pair: (_place(pair[0]), pair[1])):
            asked, reused = (self._tallies.get((stage, model, kind), _Tally()) for kind in (False, True))
            usage.setdefault(stage, {})[model] = ModelUsage(
                asked=asked.to_counts(),
                reused=reused.to_counts(),
                retries=_by_name(self._retries.get((stage, model), Counter())),
            )
        return usage


def _place(stage: str) -> tuple[int, str]:
    return (_ORDER.index(stage) if stage in _ORDER else len(_ORDER), stage)


def _by_name(counts: Mapping[str, int]) -> dict[str, int]:
    return {str(name): counts[name] for name in sorted(counts)}


# ------------------------------------------------------------------------------------ several ledgers


def read_usage(data: object, *, where: str) -> Usage:
    """A ledger that was kept as JSON.

    Raises: ShardError: it is none.
    """
    try:
        return TypeAdapter(Usage).validate_python(data, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "usage"
        raise ShardError(f"{where}: {place}: {first['msg']}: no account of a run; remove it there") from error


def merged(usages: Iterable[Usage]) -> Usage:
    """The sum of several ledgers: of workers, of partitions, or of the goes that a run took.

    What an earlier go has asked and a later one reuses is `asked` in the first and `reused` in the second.
    """
    total: Usage = {}
    for usage in usages:
        for stage, models in usage.items():
            for model, counts in models.items():
                known = total.setdefault(stage, {}).setdefault(model, _nothing())
                total[stage][model] = _added(known, counts)
    return {stage: dict(sorted(total[stage].items())) for stage in sorted(total, key=_place)}


def sum_usage(usage: Usage) -> ModelUsage:
    """The sum over all stages and models."""
    total = _nothing()
    for models in usage.values():
        for counts in models.values():
            total = _added(total, counts)
    return total


def _nothing() -> ModelUsage:
    return ModelUsage(asked=_Tally().to_counts(), reused=_Tally().to_counts(), retries={})


def _added(one: ModelUsage, other: ModelUsage) -> ModelUsage:
    return ModelUsage(
        asked=_add_counts(one["asked"], other["asked"]),
        reused=_add_counts(one["reused"], other["reused"]),
        retries=_by_name(Counter(one["retries"]) + Counter(other["retries"])),
    )


def _add_counts(one: Counts, other: Counts) -> Counts:
    return Counts(
        calls=one["calls"] + other["calls"],
        refused=_by_name(Counter(one["refused"]) + Counter(other["refused"])),
        prompt_tokens=one["prompt_tokens"] + other["prompt_tokens"],
        cached_tokens=one["cached_tokens"] + other["cached_tokens"],
        completion_tokens=one["completion_tokens"] + other["completion_tokens"],
        unknown_tokens=one["unknown_tokens"] + other["unknown_tokens"],
        seconds=one["seconds"] + other["seconds"],
    )


# ----------------------------------------------------------------------------------------------- cost


@dataclass(frozen=True)
class Cost:
    """What answers cost, in the currency of the recipe's prices.

    Attributes:
        asked: of this run's calls.
        in_all: the same and the journal's answers, as if those had been asked as well.
        complete: False where something has no price or some answers have no token counts; the true cost is
            higher then. Tokens of requests that failed are never known and are left out.
    """

    asked: float
    in_all: float
    complete: bool = True


def cost(usage: Usage, prices: Mapping[str, Prices | None]) -> dict[str, Cost | None]:
    """The cost of each stage; None where the stage has no price.

    Args:
        prices: stage -> the prices of its teacher, per million tokens.
    """
    return {stage: _stage_cost(models.values(), prices.get(stage)) for stage, models in usage.items()}


def _stage_cost(models: Iterable[ModelUsage], prices: Prices | None) -> Cost | None:
    if prices is None:
        return None
    parts = [_model_cost(model, prices) for model in models]
    return sum_costs(parts)


def _model_cost(model: ModelUsage, prices: Prices) -> Cost:
    asked, reused = _price(model["asked"], prices), _price(model["reused"], prices)
    unknown = model["asked"]["unknown_tokens"] + model["reused"]["unknown_tokens"]
    return Cost(asked, asked + reused, complete=unknown == 0)


def _price(counts: Counts, prices: Prices) -> float:
    cached = prices.prompt if prices.cached is None else prices.cached
    computed_tokens = counts["prompt_tokens"] - counts["cached_tokens"]
    per_million = (
        computed_tokens * prices.prompt
        + counts["cached_tokens"] * cached
        + counts["completion_tokens"] * prices.completion
    )
    return per_million / 1e6


def sum_costs(costs: Iterable[Cost | None]) -> Cost | None:
    """The sum of the costs that are known; None where none is."""
    every = list(costs)
    known = [part for part in every if part is not None]
    if not known:
        return None
    complete = len(known) == len(every) and all(part.complete for part in known)
    return Cost(sum(part.asked for part in known), sum(part.in_all for part in known), complete)
