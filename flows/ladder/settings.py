"""Sizes of the ladder: how large its students are, how long each rung is trained, how much is measured."""

from __future__ import annotations

from pydantic import Field

from flows.ladder.arms import ARMS
from schemas.config import GrpoSettings, OptimizerSettings, Settings, StudentSettings


class LadderSettings(Settings):
    """One ladder. The rungs of a seed start from that seed's base and see the same rows, in one order."""

    arms: tuple[str, ...] = Field(
        min_length=1, description="rungs and controls, by name (flows/ladder/arms.py)"
    )
    seeds: int = Field(
        default=1, ge=1, le=64, description="independent initialisations, with data of their own"
    )
    student: StudentSettings = StudentSettings(
        layers=3, vocab_size=1024, image_side=84, initializer="fan_in", rope_theta=20.0
    )
    seeing: OptimizerSettings = Field(description="descriptions alone, before the base's short answers")
    base: OptimizerSettings
    sft: OptimizerSettings
    grpo: GrpoSettings
    problems: int = Field(default=600, ge=6, description="held-out problems of each kind a rung answers")
    obedience_problems: int = Field(default=96, ge=6, description="of them, asked under a rule of obedience")
    vas_rows: int = Field(default=96, ge=4, description="held-out rows attention and gains are measured on")
    max_new_tokens: int = Field(
        default=128, ge=8, description="of an answer; the longest trace has under 110"
    )
    batch_size: int = Field(default=100, ge=1, description="rows answered and measured at once")
    jobs: int = Field(
        default=2, ge=1, le=64, description="rungs trained at one time, each in its own process"
    )


# Sized for two cores: a step of seeing or of the base takes 0.4 s of CPU time, of SFT 0.6, of GRPO 3.
CPU = LadderSettings(
    arms=("base", "traces", "paper", "bounded", "reward"),
    seeing=OptimizerSettings(steps=350, batch_size=32, learning_rate=2e-3, warmup_ratio=0.05),
    base=OptimizerSettings(steps=250, batch_size=32, learning_rate=1e-3, warmup_ratio=0.05),
    sft=OptimizerSettings(steps=500, batch_size=32, learning_rate=2e-3),
    grpo=GrpoSettings(steps=60, batch_size=64, learning_rate=2e-4, max_new_tokens=128),
)
# Sized for one H200, where a step is bound by the launch of its kernels: hence more rungs at one time.
GPU = LadderSettings(
    arms=tuple(ARMS),
    seeds=3,
    seeing=OptimizerSettings(steps=400, batch_size=128, learning_rate=2e-3, warmup_ratio=0.05),
    base=OptimizerSettings(steps=1500, batch_size=128, learning_rate=1e-3, warmup_ratio=0.05),
    sft=OptimizerSettings(steps=500, batch_size=128, learning_rate=2e-3),
    grpo=GrpoSettings(steps=100, batch_size=256, learning_rate=2e-4, max_new_tokens=128),
    problems=1200,
    obedience_problems=300,
    vas_rows=300,
    batch_size=300,
    jobs=8,
)
PRESETS: dict[str, LadderSettings] = {"cpu": CPU, "gpu": GPU}
