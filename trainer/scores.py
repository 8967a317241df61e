"""What a measurement of the visual attention score says. Free of trl and datasets.

Source: AVAR, arXiv 2603.03825, "visual attention score"; additions of ours in docs/method.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from schemas.shards import finite_json
from trainer.bootstrap import Interval, ratio_interval

Band = Literal["narrow", "wide", "panoramic"]
WIDE, PANORAMIC = 10.0, 15.0


def band_of(vas: float) -> Band:
    """The paper's bands: narrow below 10, wide from 10 to 15, panoramic above 15."""
    if vas > PANORAMIC:
        return "panoramic"
    return "wide" if vas >= WIDE else "narrow"


@dataclass(frozen=True, kw_only=True)
class RowScore:
    """One row with an image. Values that it cannot have are None.

    Attributes:
        id: the sample's own; "" without one.
        image_tokens, response_tokens: their number.
        vas, head_averaged, log_ratio, image, system: of U, as in `VasReport`; image and system are the mean
            masses of the pairs counted. None where the row was left out of the score.
        image_share, system_share: mean shares of U's attention.
        response_*: the same of T.
        loss, image_gain, blank_gain: LM loss and gains, nats per response token.
    """

    id: str
    image_tokens: int
    response_tokens: int
    vas: float | None = None
    head_averaged: float | None = None
    log_ratio: float | None = None
    image: float | None = None
    system: float | None = None
    image_share: float | None = None
    system_share: float | None = None
    response_vas: float | None = None
    response_head_averaged: float | None = None
    response_log_ratio: float | None = None
    response_image: float | None = None
    response_system: float | None = None
    response_image_share: float | None = None
    response_system_share: float | None = None
    loss: float | None = None
    image_gain: float | None = None
    blank_gain: float | None = None


@dataclass(frozen=True, kw_only=True)
class ResponseRatios:
    """The ratio where the answer looks (T: response tokens); the attributes are `VasReport`'s."""

    vas: float
    head_averaged: float
    ratio_of_means: float
    median: float
    geometric_mean: float
    pairs_used: int


@dataclass(frozen=True, kw_only=True)
class HeadMaps:
    """Figures per layer and head, each [L][H]; the mean of a row, then over rows. None without a pair.

    Attributes:
        vas: mean ratio of U. user_image, user_system, response_image, response_system: mean shares.
    """

    vas: Sequence[Sequence[float | None]]
    user_image: Sequence[Sequence[float | None]]
    user_system: Sequence[Sequence[float | None]]
    response_image: Sequence[Sequence[float | None]]
    response_system: Sequence[Sequence[float | None]]


@dataclass(frozen=True, kw_only=True)
class VasReport:
    """Where the question looks (U: user tokens), where the answer looks (T: response tokens), and the gain.

    A ratio is a query's attention on the image over its attention on the system prompt, in [0, inf). It is
    taken over pairs of layer, head and query that can see the image, and averaged over a row, then over rows.

    Attributes:
        vas: the paper's score, the mean of the ratio over layers, heads and U.
        band: narrow (vas < 10), wide (10 to 15) or panoramic (above 15).
        head_averaged: the ratio of masses averaged over heads first (the reward's form).
        ratio_of_means: mean image mass over mean system mass: one small denominator cannot carry it away.
        median: median ratio over all pairs, exact to 1.2% (a histogram of 100 bins per decade).
        geometric_mean: exp of the mean log ratio; masses below `floor` count as `floor`, in it alone.
        floor, pairs_floored: that floor, and how many pairs of U it touched.
        vas_without_first_token, head_averaged_without_first_token: the first token, which often serves as a
            sink, not counted as system.
        response: the same ratios over T; None where no row has a response.
        user_shares, response_shares: mean share of attention, [0, 1], on image, system, user and response.
        user_share_per_image_token, response_share_per_image_token: share on the image over its number of
            tokens, so that more patches alone do not raise it; image_tokens: their mean number.
        along_response: figures along the response (visual forgetting), in stretches of response tokens:
            `start`, `stop`, `queries`, `vas` (head-averaged ratio) and the shares by region.
        heads: maps per layer and head.
        loss: LM loss per response token, nats; None where no row has a response.
        image_gain, blank_gain: the loss with another problem's image, or with a grey one, minus the loss with
            the right one, nats per response token; None where not asked for, or where all images are equal.
        intervals: 95% bootstrap intervals over rows, by name of the figure; None with fewer than two rows.
        rows_used, rows_skipped: rows counted, and those left out by reason.
        pairs_used, pairs_unseen, pairs_zero_system: pairs counted; left out because the query cannot see the
            image or the system prompt; left out because its system mass is exactly zero.
        layers: the layers measured.
        steering: strengths of the steering that the model was under, whose factors the masses include.
        rows: every row with an image.
    """

    vas: float
    band: Band
    head_averaged: float
    ratio_of_means: float
    median: float
    geometric_mean: float
    floor: float
    pairs_floored: int
    vas_without_first_token: float
    head_averaged_without_first_token: float
    response: ResponseRatios | None
    user_shares: Mapping[str, float]
    response_shares: Mapping[str, float]
    user_share_per_image_token: float
    response_share_per_image_token: float
    image_tokens: float
    along_response: Sequence[Mapping[str, float]]
    heads: HeadMaps
    loss: float | None
    image_gain: float | None
    blank_gain: float | None
    intervals: Mapping[str, Interval | None]
    rows_used: int
    rows_skipped: Mapping[str, int]
    pairs_used: int
    pairs_unseen: int
    pairs_zero_system: int
    layers: tuple[int, ...]
    steering: Mapping[str, float | bool] | None
    rows: tuple[RowScore, ...]

    @property
    def row_vas(self) -> tuple[float, ...]:
        """The score of each row that is counted."""
        return tuple(row.vas for row in self.rows if row.vas is not None)

    @property
    def row_gain(self) -> tuple[float | None, ...]:
        """Image gain of every row with an image, nats per response token; None where it has none."""
        return tuple(row.image_gain for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; what is not a number is None."""
        return finite_json(asdict(self))


class Rows:
    """Columns of rows, and the figures that are ratios of their sums."""

    def __init__(self, rows: Sequence[RowScore]) -> None:
        self.rows = tuple(rows)

    def column(self, name: str, *, weight: str | None = None) -> list[float]:
        """A column's values that are not None, times another column where asked."""
        found = [(getattr(row, name), getattr(row, weight) if weight else 1) for row in self.rows]
        return [value * times for value, times in found if value is not None]

    def mean(self, name: str) -> float:
        """Mean of the rows that have the value; NaN without one."""
        values = self.column(name)
        return math.fsum(values) / len(values) if values else math.nan

    def ratio(self, over: str, under: str) -> float:
        """Sum of one column over the sum of another; NaN without a row."""
        values = self.column(over)
        return math.fsum(values) / math.fsum(self.column(under)) if values else math.nan

    def per_token(self, name: str) -> float | None:
        """Mean over response tokens of a column that is given per row; None without a row."""
        over = self.column(name, weight="response_tokens")
        return math.fsum(over) / math.fsum(self._tokens(name)) if over else None

    def _tokens(self, name: str) -> list[float]:
        return [row.response_tokens for row in self.rows if getattr(row, name) is not None]

    def intervals(self) -> dict[str, Interval | None]:
        """95% bootstrap intervals of the figures."""
        found: dict[str, Interval | None] = {}
        for prefix in ("", "response_"):
            for name in ("vas", "head_averaged", "image_share", "system_share"):
                found[prefix + name] = ratio_interval(self.column(prefix + name))
            masses = (self.column(prefix + "image"), self.column(prefix + "system"))
            found[prefix + "ratio_of_means"] = ratio_interval(*masses)
            logs = ratio_interval(self.column(prefix + "log_ratio"))
            found[prefix + "geometric_mean"] = (math.exp(logs[0]), math.exp(logs[1])) if logs else None
        for name in ("loss", "image_gain", "blank_gain"):
            values = self.column(name, weight="response_tokens")
            found[name] = ratio_interval(values, self._tokens(name))
        return found
