"""What is measured of a rung: answers to several kinds of problems, obedience, and where it looks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from filters.answers import extract_answer, is_correct
from flows.ladder.arms import Arm
from flows.ladder.rows import Row, blindfold, held_out_rows
from flows.ladder.settings import LadderSettings
from trainer.attention import steering
from trainer.generation import generate_greedy
from trainer.obedience import RULES, obedience_rows, score_obedience
from trainer.regions import find_regions
from trainer.vas import VasReport, measure_vas

SETS = ("held_out", "hard", "blank", "shuffled")

Advance = Callable[[int], object]


@dataclass(frozen=True)
class Measurer:
    """Measures a trained model as its arm says: under steering where that is the arm."""

    arm: Arm
    settings: LadderSettings
    model: Any
    processor: Any
    advance: Advance

    def measure(self) -> dict[str, Any]:
        """Everything that the ladder reports of one model, as plain data.

        Returns: `right`: set of problems (`SETS`) -> a 0 or 1 per problem; `texts`, `parsed`: answers to the
            held-out ones; `choosing`: share of right answers to other problems, by which the best of several
            arms is chosen and which is not reported; `obedience`, `obeyed`: scores by rule, and a 0 or 1 per
            problem; `attention`: `attention_figures`.
        """
        rows = {name: problems(name, self.settings.problems) for name in SETS}
        texts = {name: self._ask(asked) for name, asked in rows.items()}
        others = problems("choosing", self.settings.problems)
        chosen = grade(others, self._ask(others))
        ruled = obedience_rows(for_rules(rows["held_out"], self.settings.obedience_problems))
        rules, replies = [row["rule"] for row in ruled], self._ask(ruled)
        return {
            "right": {name: grade(rows[name], texts[name]) for name in SETS},
            "texts": texts["held_out"],
            "parsed": [int(extract_answer(text) is not None) for text in texts["held_out"]],
            "choosing": sum(chosen) / len(chosen),
            "obedience": score_obedience(rules, replies).to_dict(),
            "obeyed": [int(RULES[rule].obeys(reply)) for rule, reply in zip(rules, replies, strict=True)],
            "attention": attention_figures(self._look()),
        }

    def _ask(self, rows: Sequence[Row]) -> list[str]:
        answers = generate_greedy(
            self.model,
            self.processor,
            rows,
            max_new_tokens=self.settings.max_new_tokens,
            batch_size=self.settings.batch_size,
            context=self._steer_prompts if self.arm.steering else None,
            progress=lambda rows: self.advance(1),
        )
        return [answer.text for answer in answers]

    def _steer_prompts(self, talks: Any, encoded: Any) -> AbstractContextManager[object]:
        regions = find_regions(self.processor, talks, encoded)
        return self._steer(regions=regions.to(self.model.device))

    def _steer(self, **where: Any) -> AbstractContextManager[object]:
        assert self.arm.steering is not None
        return steering(self.model, *self.arm.steering, **where)

    def _look(self) -> VasReport:
        rows = held_out_rows(self.settings.vas_rows, self.arm.trace)
        with self._steer() if self.arm.steering else nullcontext():
            report = measure_vas(self.model, self.processor, rows, batch_size=self.settings.batch_size)
        self.advance(1)
        return report


def problems(name: str, count: int) -> list[Row]:
    """The problems of a set: of `SETS`, or `choosing`. The same for every rung and seed."""
    if name in {"blank", "shuffled"}:
        return blindfold(held_out_rows(count, "short"), name)
    kind = "choosing" if name == "choosing" else "held out"
    return held_out_rows(count, "short", kind=kind, hard=name == "hard")


def for_rules(rows: Sequence[Row], count: int) -> list[Row]:
    """`count` rows such that every rule meets every kind of question, though both take turns."""
    turns = len(RULES)
    return [rows[(place + place // turns) % len(rows)] for place in range(count)]


def grade(rows: Sequence[Row], texts: Sequence[str]) -> list[int]:
    """1 for a right answer, 0 for any other."""
    return [
        int(is_correct(text, row["answer"], row["choices"] or None))
        for row, text in zip(rows, texts, strict=True)
    ]


def measuring_batches(settings: LadderSettings) -> int:
    """How often `Measurer.measure` calls `advance`."""
    asked = [settings.problems] * (len(SETS) + 1) + [settings.obedience_problems]
    return sum(math.ceil(rows / settings.batch_size) for rows in asked) + 1


def attention_figures(report: VasReport) -> dict[str, float | None]:
    """The figures of a report that the ladder compares. Shares and masses are in [0, 1], gains in nats."""
    response = report.response
    return {
        "vas": report.vas,
        "head_averaged": report.head_averaged,
        "ratio_of_means": report.ratio_of_means,
        "median": report.median,
        "geometric_mean": report.geometric_mean,
        "vas_without_first_token": report.vas_without_first_token,
        "response_head_averaged": response.head_averaged if response else None,
        "response_ratio_of_means": response.ratio_of_means if response else None,
        "image_share": report.user_shares["image"],
        "system_share": report.user_shares["system"],
        "response_image_share": report.response_shares["image"],
        "response_system_share": report.response_shares["system"],
        "loss": report.loss,
        "image_gain": report.image_gain,
        "blank_gain": report.blank_gain,
    }
