"""How many requests one server gets at a time: a level that finds itself between two bounds.

Time is passed in, in seconds of any steady clock, so that the same events always give the same level.

- Rise. At first the level grows by one with each answer, so it doubles with each round trip. That ends where
  a doubling brings less than a quarter of its gain, where the server queues, and where it refuses.
- Queue. Readings of the server's queue, where there are any, decide from then on. A queue longer than a
  small slack, in two readings running (one may catch a burst of arrivals), brings the level down to what runs
  and the slack; the surplus is shared among the server's clients in proportion to what each has there. An
  empty queue lets a level that is used grow by a quarter, unless most requests have not even come as far as
  the queue. A full KV cache lets nothing grow.
- Climb. Without readings the throughput decides. A round is measured at the level and one at a trial level, a
  quarter higher or a fifth lower, in tokens per second where they are known and in answers elsewhere. The
  trial is kept where the throughput follows by a quarter of what the level did: going up has to pay, going
  down must not cost. A trial that failed rests for some rounds, unless the throughput changes by itself.
- Refusals. A refusal (429, 503) takes the level down by 0.7, however many come at a time, and puts a ceiling
  under what was refused, which is lifted slowly. After a round trip the level returns to that ceiling. One
  refusal in 16 answers is let pass: some servers refuse now and then whatever the load, and a level that gave
  way each time would end at the least.
"""

from __future__ import annotations

_START = 64  # what most servers take at once
_USED = 0.9  # share of the level that must be in flight for an answer to say something about the level
_GROWTH = 0.25  # a step up; smaller ones drown in the noise of heavy-tailed answer times
_WORTH = 0.25  # of the gain that the step would bring at a server without limit
_ROUND, _ROUND_TRIPS = 400, 4  # answers at least: at sigma 0.8 their rate is known to about 5%
_UP_REST, _DOWN_REST, _UNSURE_REST = 4, 8, 2  # rounds between trials; one that goes down may cost
_CHANGED = 0.2  # a throughput this far from the known one is another load: four times a round's noise
_RECENT_S = 5.0  # readings come every second; after this the server is taken to give none
_KV_FULL = 0.95  # beyond it vLLM preempts requests and computes them again
_CUT, _CEILING = 0.7, 0.95
_CUT_S = 0.25  # at most this between two cuts: refusals of what was sent before the cut are in by then
_TOLERATED = 1 / 16  # refusals per answer
_CEILING_ROUND_TRIPS = 16  # until the ceiling rises by 1/16: refusals stay below one in a hundred


class Pace:
    """The number of requests allowed at one server.

    Args:
        least, most: bounds of the level, 1 <= least <= most; equal bounds make it constant.

    Attributes:
        limit: requests allowed in flight now, in [least, most].
    Raises: ValueError: the bounds are not in that order.
    """

    def __init__(self, least: int, most: int) -> None:
        if not 1 <= least <= most:
            raise ValueError(f"pace: bounds {least} and {most} must rise from 1; swap or raise them")
        self.limit = min(most, max(least, _START))
        self._least, self._most, self._ceiling = least, most, most
        self._constant = least == most
        self._rise: _Rise | None = _Rise(self.limit) if self.limit < most else None
        self._climb = _Climb(self.limit)
        self._round_trip_s = 0.0
        self._tolerance = 0.0  # refusals let pass
        self._returning = False  # to the ceiling
        self._cut_at = self._ceiling_at = self._read_at = float("-inf")
        self._queue = (0, 0)  # running, waiting

    def answered(self, now: float, *, seconds: float, in_flight: int, tokens: int) -> None:
        """An answer came.

        Args:
            seconds: from its sending.
            in_flight: requests at this server, itself included.
            tokens: of the completion; 0 where unknown.
        """
        if self._constant:
            return
        first = self._round_trip_s == 0.0
        self._round_trip_s = seconds if first else self._round_trip_s + (seconds - self._round_trip_s) / 16
        if self._tolerance < 1 + _TOLERATED * self.limit:
            self._tolerance += _TOLERATED
        if in_flight < _USED * self.limit:
            self._climb.interrupt()
            return
        if self._returning:
            self._go_on_returning(now)
        elif self._rise is not None:
            self._go_on_rising(self._rise, seconds, in_flight)
        elif now - self._read_at > _RECENT_S and self._climb.add(now, tokens or 1):
            self._lift_ceiling(now)
            self.limit = self._climb.choose(self._least, self._ceiling)

    def overloaded(self, now: float) -> None:
        """The server refused a request because it has too many (429 or 503)."""
        # Many come at once; those of one burst count once.
        since = now - self._cut_at
        if self._constant or since < min(self._round_trip_s or _CUT_S, _CUT_S):
            return
        self._tolerance -= 1
        if self._tolerance >= 0:
            return
        self._cut_at = self._ceiling_at = now
        self._tolerance, self._rise, self._returning = 0.0, None, True
        self._ceiling = max(self._least, min(self._ceiling, int(_CEILING * self.limit)))
        self.limit = max(self._least, int(_CUT * self.limit))
        self._climb = _Climb(self.limit)

    def read_queue(self, now: float, *, running: int, waiting: int, kv_usage: float, in_flight: int) -> None:
        """A reading of the server's queue came; readings of all clients' requests, `in_flight` of one's own.

        Args:
            running, waiting: requests that the server works on, and that it has not begun.
            kv_usage: share of the KV cache in use, in [0, 1].
            in_flight: requests of this client at the server.
        """
        if self._constant:
            return
        last_running, last_waiting = self._queue
        self._queue, self._read_at = (running, waiting), now
        running, queued = max(running, last_running), min(waiting, last_waiting)
        slack = max(2, running // 8)
        full = kv_usage > _KV_FULL
        if queued > 0 or full:
            self._rise = None
        if queued > slack:
            self._shorten_queue(in_flight * (running + slack) // (running + queued))
        elif waiting > 0 and full:
            self._shorten_queue(self.limit - max(1, self.limit // 16))
        elif waiting == 0 and not full and _USED * self.limit <= in_flight <= 2 * running:
            self._lift_ceiling(now)
            self.limit = max(self.limit, min(self._ceiling, _step_up(self.limit)))
        # Should the readings end, throughput is measured from here.
        self._climb = _Climb(self.limit)

    def _shorten_queue(self, level: int) -> None:
        """Goes down to a level, by half at most: a single reading may be far off."""
        self._returning = False
        self.limit = max(self._least, min(self.limit, max(level, self.limit // 2)))

    def _go_on_rising(self, rise: _Rise, seconds: float, in_flight: int) -> None:
        self.limit = min(self._ceiling, self.limit + 1)
        fallback = rise.add(seconds, in_flight, self.limit)
        if fallback is not None:
            self.limit = fallback
        if fallback is not None or self.limit == self._ceiling:
            self._rise = None
            self._climb = _Climb(self.limit, full=fallback is not None)

    def _go_on_returning(self, now: float) -> None:
        if now - self._cut_at > self._round_trip_s:
            self.limit = min(self._ceiling, self.limit + 1)
            if self.limit == self._ceiling:
                self._returning = False
                self._climb = _Climb(self.limit)

    def _lift_ceiling(self, now: float) -> None:
        if now - self._ceiling_at > _CEILING_ROUND_TRIPS * self._round_trip_s:
            self._ceiling_at = now
            self._ceiling = min(self._most, self._ceiling + max(1, self._ceiling // 16))


def _step_up(level: int) -> int:
    return level + max(1, int(_GROWTH * level))


def _step_down(level: int) -> int:
    return min(level - 1, round(level / (1 + _GROWTH)))


class _Rise:
    """The rounds of the rise, each as many answers as its first level, so that the level doubles in it.

    By Little's law the throughput is the requests in flight over the mean seconds of an answer; answers per
    second would not do, since requests sent at one time come back in bunches.

    Args:
        level: at its beginning.
    """

    def __init__(self, level: int) -> None:
        self._level = self._last_level = self._missing = level
        self._seconds = self._needed = 0.0
        self._in_flight = 0
        self._worth = 1.0  # the first answers are the short ones and flatter the first round

    def add(self, seconds: float, in_flight: int, limit: int) -> int | None:
        """Counts an answer; the level to fall back to where the last doubling brought too little."""
        self._seconds += seconds
        self._in_flight += in_flight
        self._missing -= 1
        if self._missing > 0:
            return None
        rate = self._in_flight / max(self._seconds, 1e-9)
        if rate < self._needed:
            return self._last_level  # the answers of a round were sent in the one before
        self._last_level, self._level, self._missing = self._level, limit, limit
        self._needed, self._worth = self._worth * rate, 1 + _WORTH
        self._seconds, self._in_flight = 0.0, 0
        return None


class _Line:
    """The line of least squares through the work done by each moment; its slope is a throughput.

    Answers that take equally long come in bunches. A count between two moments would depend on whether a
    bunch falls just inside; the slope hardly does.
    """

    __slots__ = ("_count", "_done", "_product", "_square", "_sum_done", "_sum_now")

    def __init__(self) -> None:
        self._count = self._done = self._sum_done = self._square = 0
        self._sum_now = self._product = 0.0

    def add(self, now: float, work: int) -> None:
        """More work was done; time is counted from the line's beginning."""
        self._done += work
        self._count += 1
        self._sum_done += self._done
        self._square += self._done * self._done
        self._sum_now += now
        self._product += self._done * now

    @property
    def rate(self) -> float:
        """Work per second."""
        together = self._product - self._sum_done * self._sum_now / self._count
        return (self._square - self._sum_done**2 / self._count) / max(together, 1e-9)


class _Climb:
    """The search for the lowest level with nearly the best throughput.

    Args:
        level: where it begins.
        full: whether the level seems to be more than the server needs, so that going down is tried soon.
    """

    def __init__(self, level: int, *, full: bool = False) -> None:
        self._base = self._level = level
        self._known: float | None = None  # at the base
        self._rests = {True: 0, False: 0 if full else _DOWN_REST}  # by direction: is it up?
        self._start_round(settle=level)

    def _start_round(self, settle: int) -> None:
        # The first answers after a change were sent before it.
        self._measured = max(_ROUND, _ROUND_TRIPS * self._level)
        self._missing = settle + self._measured
        self._line = _Line()
        self._since = 0.0

    def add(self, now: float, work: int) -> bool:
        """Counts an answer; True where it ends a round, and `choose` must follow."""
        self._missing -= 1
        if self._missing >= self._measured:
            self._since = now
            return False
        self._line.add(now - self._since, work)
        return self._missing == 0

    def interrupt(self) -> None:
        """Begins the round again: the client had too little to send."""
        if self._missing < self._measured:
            self._start_round(settle=1)

    def choose(self, least: int, most: int) -> int:
        """The level of the next round, in [least, most]."""
        self._judge(self._line.rate)
        self._base = min(most, max(least, self._base))
        before, self._level = self._level, self._trial(least, most)
        self._start_round(settle=1 if before == self._level else max(before, self._level))
        return self._level

    def _judge(self, found: float) -> None:
        if self._known is None:
            self._known = found
        elif self._level == self._base:
            self._judge_base(found, self._known)
        else:
            self._judge_trial(found, self._known)

    def _judge_base(self, found: float, known: float) -> None:
        for up in (True, False):
            self._rests[up] = max(0, self._rests[up] - 1)
        change = found / known - 1
        if abs(change) > _CHANGED:
            self._known = found
            self._rests[change > 0] = 0
        else:
            self._known = known + (found - known) / 4

    def _judge_trial(self, found: float, known: float) -> None:
        step = self._level / self._base - 1
        up = step > 0
        gain = found / known - 1
        if gain < _WORTH * step:
            # A small loss may be noise and is soon looked at again.
            unsure = not up and gain > step / 2
            self._rests[up] = _UP_REST if up else _UNSURE_REST if unsure else _DOWN_REST
            return
        self._base = self._level
        self._rests[not up] = _DOWN_REST if up else _UP_REST
        # On the way down the best stays the measure, or each step would lose a little more.
        if up or gain > 0:
            self._known = found

    def _trial(self, least: int, most: int) -> int:
        """The next level: a trial where one is due and has room, else the base."""
        higher, lower = min(most, _step_up(self._base)), max(least, _step_down(self._base))
        if self._rests[True] == 0 and higher > self._base:
            return higher
        if self._rests[False] == 0 and lower < self._base:
            return lower
        return self._base
