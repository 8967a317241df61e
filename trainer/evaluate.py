"""Scores answers to benchmark rows, in shares with bootstrap intervals. Free of trl and datasets.

Answers are checked by `filters.answers`, as everywhere in avar: rules and computer algebra, no judge model
and no guess. Official numbers are a public harness's business (docs/evaluation.md).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from filters.answers import Equality, check, extract_answer
from filters.extract import after_thoughts, final_answer
from filters.normalize import MAX_ANSWER
from filters.truth import is_truth, read_truth
from trainer.bootstrap import Interval, ratio_interval
from trainer.obedience import RULES, Obedience, after_thought, score_obedience

__all__ = ["Evaluation", "Scored", "Share", "evaluate", "score_answer"]

HALLUSION = "hallusionbench"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One answer, checked; what a line of generations.jsonl holds.

    Attributes:
        id, source, category: of the row; ids are unique within a source.
        question: hash of what was asked, so that a row that has changed is noticed.
        text: the whole generation, thoughts included; "" where the server refused the row.
        answer: what was read as the answer, None where nothing declares one.
        gold: the right answer, with " | " between several that are all right.
        verdict: "equal", "different" or "undecided"; only "equal" is right.
        finished: it ended by itself, before the limit of tokens.
        tokens: generated, -1 where a server does not say.
        rule: name of the obedience rule it was asked under, "" for none; `obeyed` says whether it did.
        group: values that the benchmark's own metrics group by.
        error: why there is no generation, "" where there is one.
    """

    id: str
    source: str
    category: str
    question: str
    text: str
    answer: str | None
    gold: str
    verdict: Equality
    finished: bool
    tokens: int
    rule: str = ""
    obeyed: bool | None = None
    group: tuple[str, ...] = ()
    error: str = ""

    @property
    def correct(self) -> bool:
        return self.verdict == "equal"

    @property
    def parsed(self) -> bool:
        return self.answer is not None


@dataclass(frozen=True, kw_only=True)
class Share:
    """Answers of a kind taken together.

    Attributes:
        accuracy: share of right ones, in [0, 1]; interval: its 95% bootstrap over rows, None for one row.
        parsed: share that an answer could be read from.
        truncated: share cut off at the limit of tokens; those are wrong unless the answer stood before.
        undecided: answers that no rule could check; they count as wrong.
        failed: rows that the server refused; they count as wrong.
        tokens: mean length of the generations, NaN-free: None where no server said.
    """

    rows: int
    accuracy: float
    interval: Interval | None
    parsed: float
    truncated: float
    undecided: int
    failed: int
    tokens: float | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model scored.

    Attributes:
        overall: all rows together.
        mean: of the sources' accuracies, as papers average benchmarks.
        sources, categories: in the order of the rows.
        official: further figures that a benchmark defines by its own groups (HallusionBench).
        obedience: where the rows were asked under rules.
    """

    overall: Share
    mean: float
    sources: Mapping[str, Share]
    categories: Mapping[str, Mapping[str, Share]]
    official: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    obedience: Obedience | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "overall": asdict(self.overall),
            "mean": self.mean,
            "sources": {name: asdict(share) for name, share in self.sources.items()},
            "categories": {
                name: {category: asdict(share) for category, share in shares.items()}
                for name, shares in self.categories.items()
            },
            "official": dict(self.official),
            "obedience": self.obedience and self.obedience.to_dict(),
        }


def score_answer(
    row: Mapping[str, Any], text: str, *, finished: bool, tokens: int, error: str = ""
) -> Scored:
    """An answer to a row, checked against its gold answers.

    A reply that never stops thinking has no answer: an intermediate result is none.

    Args:
        row: `id`, `source`, `category`, `question_hash`, `choices` (as shown), `options` (for the check;
            if missing, `choices`), `answer`, `answers` (all that are right), `decimals`, `group`, `rule`;
            what else is missing counts as empty.
    Raises: filters.algebra.WorkerError: the algebra worker cannot start.
    """
    rule = RULES[row["rule"]] if row.get("rule") else None
    said = rule.answer_of(text) if rule else text
    golds = list(row.get("answers") or [row["answer"]])
    choices = list(row.get("options", row["choices"]) or [])
    open_thought = not after_thought(said)
    verdicts: list[Equality] = (
        ["different"]
        if open_thought
        else [check(said, gold, choices or None, row.get("decimals")) for gold in golds]
    )
    return Scored(
        id=str(row["id"]),
        source=str(row["source"]),
        category=str(row.get("category") or ""),
        question=str(row.get("question_hash") or ""),
        text=text,
        answer=None if open_thought else read_answer(said, truth=all(map(is_truth, golds))),
        gold=" | ".join(golds),
        verdict=_best(verdicts),
        finished=finished,
        tokens=tokens,
        rule=rule.name if rule else "",
        obeyed=rule.obeys(text) if rule else None,
        group=tuple(row.get("group") or ()),
        error=error,
    )


def read_answer(text: str, *, truth: bool = False) -> str | None:
    """The answer of a generation: its tags or box, else what its prose declares; None where nothing does.

    As the checker reads it: no answer stands in thoughts, or in tags that never close.

    Args:
        truth: the question is one of yes or no, which prose may answer without a declaration.
    """
    said = after_thoughts(text)
    answer = extract_answer(said)
    if answer is not None or "<answer>" in said or len(said) > MAX_ANSWER:
        return answer
    said = after_thought(said)
    yes = read_truth(said) if truth else None
    return final_answer(said) if yes is None else ("Yes" if yes else "No")


def _best(verdicts: Sequence[Equality]) -> Equality:
    """Right if any gold answer was given; undecided if nobody can tell for one."""
    order: tuple[Equality, ...] = ("equal", "undecided", "different")
    return next(verdict for verdict in order if verdict in verdicts)


def evaluate(scored: Sequence[Scored]) -> Evaluation:
    """The summary of all answers. Replies under a rule of refusal, which has no right answer, count for
    obedience alone, unless there are no others.

    Raises: ValueError: there are none.
    """
    if not scored:
        raise ValueError("no answers to summarise")
    ruled = [one for one in scored if one.rule]
    asked = [one for one in scored if not one.rule or RULES[one.rule].kind != "refusal"] or scored
    by_source = _grouped(asked, lambda one: one.source)
    sources = {name: _share(rows) for name, rows in by_source.items()}
    return Evaluation(
        overall=_share(asked),
        mean=sum(share.accuracy for share in sources.values()) / len(sources),
        sources=sources,
        categories={name: _categories(rows) for name, rows in by_source.items()},
        official={name: hallusion_figures(rows) for name, rows in by_source.items() if name == HALLUSION},
        obedience=score_obedience([one.rule for one in ruled], [one.text for one in ruled])
        if ruled
        else None,
    )


def _grouped(scored: Iterable[Scored], key: Callable[[Scored], Any]) -> dict[Any, list[Scored]]:
    groups: defaultdict[Any, list[Scored]] = defaultdict(list)
    for one in scored:
        groups[key(one)].append(one)
    return dict(groups)


def _categories(scored: Sequence[Scored]) -> dict[str, Share]:
    groups = _grouped((one for one in scored if one.category), lambda one: one.category)
    return {name: _share(groups[name]) for name in sorted(groups)}


def _share(scored: Sequence[Scored]) -> Share:
    rows = len(scored)
    right = [float(one.correct) for one in scored]
    tokens = [one.tokens for one in scored if one.tokens >= 0 and not one.error]
    return Share(
        rows=rows,
        accuracy=sum(right) / rows,
        interval=ratio_interval(right),
        parsed=sum(one.parsed for one in scored) / rows,
        truncated=sum(not one.finished and not one.error for one in scored) / rows,
        undecided=sum(one.verdict == "undecided" for one in scored),
        failed=sum(bool(one.error) for one in scored),
        tokens=sum(tokens) / len(tokens) if tokens else None,
    )


def hallusion_figures(scored: Sequence[Scored]) -> dict[str, Any]:
    """HallusionBench's accuracies per answer (aAcc), figure (fAcc) and question (qAcc), each in [0, 1].

    A figure, or a question over its figures, counts where all its answers are right. As in its own code, a
    question without its visual supplement (`VS`, figure 0) is no figure. There GPT-4 judges, and an answer to
    such a question may also be "I do not know"; here it must be right.

    Args:
        scored: with group (category, subcategory, set_id, figure_id, question_id).
    Source: HallusionBench, arXiv 2310.14566, section 4.
    """
    shown = [one for one in scored if not (one.group[0] == "VS" and one.group[3] == "0")]
    parts = {
        "aAcc": [[one] for one in scored],
        "fAcc": list(_grouped(shown, lambda one: one.group[:4]).values()),
        "qAcc": list(_grouped(scored, lambda one: (*one.group[:3], one.group[4])).values()),
    }
    figures: dict[str, Any] = {}
    for name, groups in parts.items():
        right = [float(all(one.correct for one in group)) for group in groups]
        accuracy = sum(right) / len(right) if right else None
        figures[name] = {"accuracy": accuracy, "interval": ratio_interval(right), "groups": len(right)}
    return figures
