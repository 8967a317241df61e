"""The level of requests at one server, against servers in simulated time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.pace import Pace
from tests.simulated_server import SimulatedServer, Simulation, Work, fixed, lognormal

WORKS = [pytest.param(fixed(), id="fixed"), pytest.param(lognormal(), id="lognormal")]
CAPACITIES = [8, 48, 200]


def simulate(server: SimulatedServer, work: Work, *, most: int = 512, clients: int = 1, **how) -> Simulation:
    """Clients with a wide range of levels at a server."""
    return Simulation(server, [Pace(2, most) for _ in range(clients)], work, **how)


# ------------------------------------------------------------------------------------------ the beginning


@pytest.mark.parametrize(
    ("least", "most", "level"), [(1, 1, 1), (4, 16, 16), (4, 64, 64), (4, 512, 64), (100, 512, 100)]
)
def test_start(least: int, most: int, level: int) -> None:
    assert Pace(least, most).limit == level


@pytest.mark.parametrize(("least", "most"), [(0, 4), (-1, 4), (5, 4)])
def test_bounds_that_do_not_rise_are_refused(least: int, most: int) -> None:
    with pytest.raises(ValueError, match=rf"bounds {least} and {most} must rise from 1"):
        Pace(least, most)


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize("readings", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_server_without_limit_gets_the_most(work: Work, readings: bool, seed: int) -> None:
    trace = simulate(SimulatedServer(), work, most=1024, readings=readings, seed=seed).run(until=30)
    assert trace.reached(256) <= 2.1  # seconds, of an answer each
    assert trace.reached(1024) <= 4.1
    assert trace.level(since=10) >= 0.95 * 1024


def test_rise_waits_for_a_client_that_has_little_to_send() -> None:
    pace = Pace(4, 512)
    for second in range(200):
        pace.answered(second, seconds=1.0, in_flight=20, tokens=0)
    assert pace.limit == 64


# ------------------------------------------------------------------------------------- servers that queue


@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("work", WORKS)
def test_readings_of_the_queue_find_the_capacity(capacity: int, work: Work) -> None:
    trace = simulate(SimulatedServer(capacity), work, readings=True).run(until=60)
    assert capacity <= min(trace.limits(since=15))
    assert max(trace.limits(since=15)) <= 1.3 * capacity
    assert trace.busy(since=15) >= 0.97 * capacity


@pytest.mark.parametrize("capacity", CAPACITIES)
@pytest.mark.parametrize("shares", [False, True], ids=["queues", "shares"])
@pytest.mark.parametrize(
    ("work", "seed", "tokens_per_s"),
    [(fixed(), 0, 0), (lognormal(), 0, 0), (lognormal(), 1, 0), (lognormal(), 2, 50)],
    ids=["fixed", "lognormal", "lognormal, another seed", "lognormal, tokens counted"],
)
def test_throughput_finds_the_capacity(
    capacity: int, work: Work, shares: bool, seed: int, tokens_per_s: float
) -> None:
    server = SimulatedServer(capacity, shares=shares)
    simulation = simulate(server, work, seed=seed, tokens_per_s=tokens_per_s)
    trace = simulation.run(until=40_000 / capacity)  # about as many answers
    late = 30_000 / capacity
    assert trace.busy(since=late) >= 0.93 * capacity
    assert trace.level(since=late) <= 2.5 * capacity


@pytest.mark.parametrize("readings", [False, True])
@pytest.mark.parametrize(("before", "after"), [(48, 96), (96, 48), (48, 192), (192, 48)])
def test_capacity_that_changes_is_followed(readings: bool, before: int, after: int) -> None:
    settled, followed = (60, 20) if readings else (20_000 / before, 20_000 / after)
    server = SimulatedServer(before)
    simulation = simulate(server, lognormal(), readings=readings)
    simulation.run(until=settled)
    server.capacity = after
    trace = simulation.run(until=settled + 1.5 * followed)
    assert trace.busy(since=settled + followed) >= 0.93 * after
    assert trace.level(since=settled + followed) <= 2.5 * after


@pytest.mark.parametrize("readings", [False, True])
@pytest.mark.parametrize("capacity", CAPACITIES)
def test_two_clients_each_get_a_share(capacity: int, readings: bool) -> None:
    simulation = simulate(SimulatedServer(capacity), lognormal(), clients=2, readings=readings)
    trace = simulation.run(until=60 if readings else 20_000 / capacity)
    late = trace.levels[-1][0] / 2
    shares = [trace.level(late, client) for client in (0, 1)]
    assert min(shares) >= 0.2 * sum(shares)
    assert trace.busy(late) >= 0.93 * capacity


def test_level_without_gain_is_left_alone_for_a_while() -> None:
    trace = simulate(SimulatedServer(48), fixed(), tokens_per_s=50).run(until=800)
    limits = trace.limits(since=200)
    higher = sum(limit > 1.25 * 48 for limit in limits) / len(limits)
    assert 0 < higher < 0.3


def test_without_further_readings_the_throughput_decides() -> None:
    server = SimulatedServer(200)
    pace = Pace(4, 512)
    pace.read_queue(0.0, running=16, waiting=40, kv_usage=0.1, in_flight=56)
    pace.read_queue(1.0, running=16, waiting=40, kv_usage=0.1, in_flight=56)
    assert pace.limit == 32
    trace = Simulation(server, [pace], fixed()).run(until=300)
    assert trace.busy(since=200) >= 0.93 * 200


# -------------------------------------------------------------------------------- single readings of a queue


@pytest.mark.parametrize(
    ("what", "running", "waiting", "kv_usage", "in_flight", "level"),
    [
        ("nothing waits and the level is used", 64, 0, 0.5, 64, 80),
        ("nothing waits and the level is not used", 30, 0, 0.5, 30, 64),
        ("most have not come as far as the queue", 20, 0, 0.1, 64, 64),
        ("a few wait", 60, 4, 0.5, 64, 64),
        ("many wait", 40, 24, 0.5, 64, 45),
        ("very many wait: by half at most", 4, 60, 0.5, 64, 32),
        ("half of all requests are another client's", 100, 28, 0.5, 64, 56),
        ("the cache is full and a few wait", 60, 4, 0.97, 64, 57),
        ("the cache is full and nothing waits", 64, 0, 0.97, 64, 64),
    ],
)
def test_reading(what: str, running: int, waiting: int, kv_usage: float, in_flight: int, level: int) -> None:
    pace = Pace(4, 512)
    readings = {"running": running, "waiting": waiting, "kv_usage": kv_usage, "in_flight": in_flight}
    pace.read_queue(1.0, **readings)
    if waiting or kv_usage > 0.9:
        pace.read_queue(2.0, **readings)
    assert pace.limit == level, what


def test_one_long_queue_between_two_short_ones_changes_nothing() -> None:
    pace = Pace(4, 64)
    for now, (running, waiting) in enumerate([(64, 0), (4, 60), (64, 0), (10, 54), (64, 0)]):
        pace.read_queue(now, running=running, waiting=waiting, kv_usage=0.5, in_flight=64)
    assert pace.limit == 64


# ------------------------------------------------------------------------------------ servers that refuse


@pytest.mark.parametrize("accepts", [8, 100, 300])
@pytest.mark.parametrize("work", WORKS)
def test_refusals_are_few_once_the_level_is_found(accepts: int, work: Work) -> None:
    trace = simulate(SimulatedServer(accepts=accepts), work).run(until=20_000 / accepts)
    late = 5_000 / accepts
    refused = sum(at >= late for at in trace.refusals) / sum(at >= late for at in trace.answers)
    assert 0 < refused <= 0.01
    assert trace.busy(late) >= 0.92 * accepts
    assert max(trace.limits(since=late)) <= 1.2 * accepts + 1


def test_burst_of_refusals_counts_once() -> None:
    pace = Pace(4, 512)
    for _ in range(50):
        pace.overloaded(10.0)
    assert pace.limit == 44


def test_refusals_go_on_counting_after_a_burst() -> None:
    pace = Pace(4, 512)
    for tick in range(100):
        pace.overloaded(tick / 10)
    assert pace.limit == 4


def test_few_refusals_among_many_answers_are_let_pass() -> None:
    pace = Pace(4, 64)
    for number in range(2_000):
        now = number / 64
        pace.answered(now, seconds=1.0, in_flight=64, tokens=0)
        if number % 25 == 24:
            pace.overloaded(now)
    assert pace.limit >= 50


# ------------------------------------------------------------------------------------------------ always


def test_equal_bounds_make_a_constant() -> None:
    pace = Pace(16, 16)
    for second in range(2_000):
        pace.answered(second, seconds=1.0, in_flight=16, tokens=5)
        pace.overloaded(second)
        pace.read_queue(second, running=1, waiting=100, kv_usage=1.0, in_flight=16)
        assert pace.limit == 16


NUMBERS = st.integers(0, 5_000)
EVENTS = st.one_of(
    st.tuples(st.just("answers"), st.integers(1, 900), st.floats(0, 100), NUMBERS, NUMBERS),
    st.tuples(st.just("refusals"), st.integers(1, 5)),
    st.tuples(st.just("reading"), NUMBERS, NUMBERS, st.floats(0, 1), NUMBERS),
)


def deliver(pace: Pace, now: float, event: tuple) -> None:
    """Tells a pace what happened."""
    match event:
        case ("answers", count, seconds, in_flight, tokens):
            for _ in range(count):
                pace.answered(now, seconds=seconds, in_flight=in_flight, tokens=tokens)
        case ("refusals", count):
            for _ in range(count):
                pace.overloaded(now)
        case (_, running, waiting, kv_usage, in_flight):
            pace.read_queue(now, running=running, waiting=waiting, kv_usage=kv_usage, in_flight=in_flight)


@settings(max_examples=150, deadline=None)
@given(
    bounds=st.tuples(st.integers(1, 600), st.integers(1, 600)).map(sorted),
    events=st.lists(st.tuples(st.floats(0, 60), EVENTS), max_size=30),
)
def test_bounds_are_kept_whatever_happens(bounds: list[int], events: list[tuple[float, tuple]]) -> None:
    least, most = bounds
    pace, now = Pace(least, most), 0.0
    for seconds, event in events:
        now += seconds
        deliver(pace, now, event)
        assert isinstance(pace.limit, int)
        assert least <= pace.limit <= most


def test_same_events_give_the_same_levels() -> None:
    runs = [
        simulate(SimulatedServer(48, accepts=90), lognormal(), readings=True, seed=3).run(until=30)
        for _ in range(2)
    ]
    assert runs[0].levels == runs[1].levels
