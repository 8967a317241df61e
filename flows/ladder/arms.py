"""The rungs of the ladder and its controls: what each one starts from, and what it is trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schemas.config import GuidedLossSettings, RewardSettings
from schemas.errors import ConfigError

Kind = Literal["base", "sft", "grpo", "steer"]
WEIGHTS = (0.15, 0.015, 0.005)  # of the two terms; the paper's is the first


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A rung or a control.

    Attributes:
        start: the arms whose model it starts from: the one, or of several the one with the most right
            answers on problems that nothing else is measured on.
        says: what it is, in a few words.
        trace: what its SFT teaches, and what kind of response its attention is measured on.
        guided: the attention-guided loss, sft alone; None: without.
        rewards: grpo alone.
        steering: strengths (image, system), steer alone.
    """

    name: str
    kind: Kind
    says: str
    start: tuple[str, ...] = ("base",)
    trace: Literal["short", "plain", "anchored"] = "anchored"
    guided: GuidedLossSettings | None = None
    rewards: RewardSettings | None = None
    steering: tuple[float, float] | None = None


def _sft(name: str, says: str, **guided: Any) -> Arm:
    return Arm(name=name, kind="sft", says=says, guided=GuidedLossSettings(**guided) if guided else None)


def _grpo(name: str, says: str, **rewards: Any) -> Arm:
    return Arm(name=name, kind="grpo", says=says, start=_BEST_OF, rewards=RewardSettings(**rewards))


def _weighted(alpha: float, beta: float) -> Arm:
    return _sft(f"paper-{alpha}-{beta}", f"paper's form, alpha {alpha}, beta {beta}", **_PAPER(alpha, beta))


def _PAPER(alpha: float = WEIGHTS[0], beta: float = WEIGHTS[0]) -> dict[str, Any]:  # noqa: N802
    return {"form": "paper", "alpha": alpha, "beta": beta}


_BEST_OF = ("traces", "paper", "bounded")
_HALF = 1.0  # the ratio that the bounded reward calls one half: these students' ratios lie around 1, not 10
_ARMS = (
    Arm(name="base", kind="base", says="descriptions and short answers", start=(), trace="short"),
    _sft("traces", "SFT on anchored traces, without the loss"),
    _sft("paper", "SFT on anchored traces, the loss in the paper's form", **_PAPER()),
    _sft("bounded", "SFT on anchored traces, the loss in the bounded form", form="bounded"),
    _grpo("reward", "GRPO with the visual reward, bounded", half=_HALF),
    Arm(name="plain", kind="sft", says="SFT on the same steps without anchors", trace="plain"),
    _sft("enhance", "paper's form, enhance alone", **_PAPER(beta=0.0)),
    _sft("suppress", "paper's form, suppress alone", **_PAPER(alpha=0.0)),
    _sft("response", "paper's form, queries of the response", **_PAPER(), queries="response"),
    *(_weighted(alpha, beta) for alpha in WEIGHTS for beta in WEIGHTS if (alpha, beta) != (WEIGHTS[0],) * 2),
    _grpo("reward-none", "GRPO without the visual reward", visual_weight=0.0),
    _grpo("reward-raw", "GRPO with the visual reward as published", visual="raw", all_correct="visual"),
    Arm(name="steer", kind="steer", says="steering 0.15 : 0.40 without training", start=("traces",),
        steering=(0.15, 0.40)),
)  # fmt: skip
ARMS: dict[str, Arm] = {arm.name: arm for arm in _ARMS}


def find_arms(names: Sequence[str]) -> tuple[Arm, ...]:
    """The named arms, with those that they start from before them.

    Raises: ConfigError: no such arm.
    """
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise ConfigError(f"arms: {unknown[0]!r} is none; known: {', '.join(ARMS)}")
    wanted = set(names) | {"base"}
    for name in reversed(ARMS):  # an arm stands behind what it starts from
        if name in wanted:
            wanted |= set(ARMS[name].start)
    return tuple(arm for name, arm in ARMS.items() if name in wanted)
