"""The answer checker: tables of pairs, hostile input, and workers that die."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from filters import algebra
from filters.answers import check, check_answer, extract_answer, is_correct
from filters.expressions import evaluate
from filters.normalize import canonicalise
from filters.reasons import Reason
from schemas.config import FilterSettings
from schemas.records import AnswerType, Draft, Problem

ROOT = Path(__file__).resolve().parents[1]
PAIRS = ROOT.parent / "shared" / "data" / "answers.jsonl"
SETTINGS = FilterSettings()


def draft_of(trace: str, answer: str, choices: tuple[str, ...] = ()) -> Draft:
    problem = Problem(
        id="0" * 20,
        index=0,
        source="test",
        row="0",
        category="",
        question="How many?",
        choices=choices,
        answer=answer,
        answer_type=AnswerType.CHOICE if choices else AnswerType.TEXT,
        images=(),
        facts="",
        licence="",
    )
    return Draft(problem=problem, trace=trace)


# -------------------------------------------------------------------------------------------- extraction


@pytest.mark.parametrize(
    ("trace", "answer"),
    [
        ("<think>a</think><answer>12</answer>", "12"),
        ("<answer>1</answer> no: <answer>\n 2 \n</answer>", "2"),
        ("<answer>two\nlines</answer>", "two\nlines"),
        (r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"first \boxed{1}, then \boxed{\text{a {b} c}}", r"\text{a {b} c}"),
        (r"\boxed{\boxed{3}}", r"\boxed{3}"),
        (r"\boxed{7} and \boxed{8", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"<answer>5</answer> \boxed{6}", "5"),
        ("the answer is 12", None),
        ("<answer>12", None),
        ("<answer> </answer>", None),
        (r"\boxed{}", None),
        (r"\boxed{1", None),
        ("", None),
    ],
)
def test_extract_answer_is_strict(trace: str, answer: str | None) -> None:
    assert extract_answer(trace) == answer


# ------------------------------------------------------------------------------------------------- pairs

EQUAL = [
    # Unicode
    ("5√3", r"5\sqrt{3}"),
    ("x²", "x^2"),
    ("½", "1/2"),
    ("3½", "3.5"),
    ("25", "２５"),
    ("-5", "−5"),
    ("3×4", "12"),
    ("2π", r"2\pi"),
    ("x₁+x₂", "x_1+x_2"),
    # numbers
    ("1000", "1 000"),
    ("1,000,000", "1000000"),
    ("1000", "1{,}000"),
    ("3 1/2", "3.5"),
    ("-3 1/2", "-3.5"),
    (r"3\frac{1}{2}", r"\frac{7}{2}"),
    ("0.50", ".5"),
    ("1e2", "100"),
    ("3 x 10^5", "300000"),
    (r"\frac12", "0.5"),
    ("twelve", "12"),
    ("twenty-five", "25"),
    ("about 12", "12"),
    ("1.5 million", "1500000"),
    # rounding to the gold's precision
    ("78.54", "78.5"),
    ("8.66", r"5\sqrt{3}"),
    ("1.67", "5/3"),
    ("0.3333333", r"\frac{1}{3}"),
    ("1/3", "0.33"),
    # units
    ("10 cm", "10"),
    ("10", "10 cm"),
    ("0.1 m", "10 cm"),
    ("25 cm²", r"25\text{ cm}^2"),
    ("5 km/h", r"5\,\mathrm{km/h}"),
    ("5 dollars", "$5"),
    (r"\$10", "10 dollars"),
    ("36 degrees", r"36^\circ"),
    (r"\frac{\pi}{3}", "60°"),
    ("50%", "0.5"),
    ("28 pct", r"$28\%$"),
    ("5 square meters", "5 m^2"),
    ("12 apples", "12"),
    ("10 m", r"diameter $=10 \mathrm{~m}$"),
    # labels, lists, ratios, ranges
    ("x=3", "3"),
    ("30", "x = 30"),
    ("60", r"\angle ABC = 60^\circ"),
    ("2x+3", "y=2x+3"),
    ("2, 1", "1, 2"),
    (r"\{3,2,1\}", "{1,2,3}"),
    ("(2, 3)", "(2,3)"),
    ("6 and 8", "6, 8"),
    ("2:4", "1:2"),
    ("1/2", "1:2"),
    ("a:b = 2:3", "2:3"),
    ("1 to 3", "1-3"),
    ("4:23", "4:23"),
    # words
    ("The circle is red.", "red"),
    ("Yes, it is.", "yes"),
    ("no", "False"),
    ("No, wait. The answer is yes.", "yes"),
    (r"\text{Evelyn}", "Evelyn"),
    # prose that declares
    ("The answer is 12.", "12"),
    ("**Answer:** 12 cm", "12 cm"),
    ("Adding both, we get $3+4=7$, so the total is 7.", "7"),
    (r"so \boxed{12}", "12"),
    ("<think>it may be 5</think><answer>6</answer>", "6"),
    ("答案为5。", "5"),
    # letters without options
    ("The answer is (B) 12.", "B"),
    ("It's not A because that is odd, so I think it's B", "B"),
    ("选B", "B"),
    ("b", "B"),
    # computer algebra
    (r"\frac{x}{7}+\frac{2}{7}", r"\frac{x+2}{7}"),
    (r"\log_2 8", "3"),
    ("sin(x)^2 + cos(x)^2", "1"),
    ("infinity", "∞"),
    ("x^2 + 2*x + 1", "(x+1)^2"),
    ("5 \\leq x", "x \\geq 5"),
    (r"\begin{bmatrix}1 & 0 \\ 0 & 1\end{bmatrix}", r"\begin{pmatrix}1 & 0 \\0 & 1\end{pmatrix}"),
]

NOT_EQUAL = [
    # what the usual tools let through
    ("10 cm", "10 m"),
    ("4:23", "4:32"),
    ("2:40", "1:20"),
    ("x=3", "y=3"),
    ("not 12", "12"),
    ("3,5", "3.5"),
    ("3.5", "3,5"),
    # numbers
    ("99.9", "100"),
    ("21.6", "21.61"),
    ("1.7", "5/3"),
    ("1", "1,000"),
    ("1", "1.2"),
    ("5%", "50%"),
    ("-5", "5"),
    ("> 12", "12"),
    ("12+", "12"),
    ("12!", "12"),
    ("1 2", "12"),
    ("at least 12", "12"),
    (r"\frac{7}{15}", "0.5"),
    ("04/02/2005", "0.00"),
    ("5 °C", "5 °F"),
    (r"3\sqrt{5}", r"5\sqrt{3}"),
    ("25 cm", "25 cm^2"),
    ("12 cm", "13 cm"),
    ("2", "2m"),
    # lists and intervals
    ("1", "1,2"),
    ("1,2,3", "1,2"),
    ("(2,1)", "(1,2)"),
    ("[1,3]", "(1,3)"),
    ("2", r"\pm 2"),
    (r"\boxed{12}\boxed{13}", "12"),
    # words
    ("dark red", "red"),
    ("none", "12"),
    ("", "12"),
    (r"\boxed{}", "12"),
    ("No", "Yes"),
    # prose that does not commit
    ("It is 12 or 13.", "12"),
    ("The answer cannot be determined.", "12"),
    ("The answer is not 12.", "12"),
    ("There are 16 bags with more than 12 buttons.", "12"),
    (r"First 12, then I correct it to \boxed{15}", "12"),
    # letters without options
    ("A or B", "B"),
    ("It is not B", "B"),
    ("(B) or (C)", "B"),
    ("(C)", "B"),
    ("A", "AC"),
    # computer algebra
    ("11a+c", "7 = 11a+c"),
    ("x < 5", "x > 5"),
    (r"50\sqrt{3}}. so it is 50\sqrt{3", "50"),
    (r"50\sqrt{3}}.so:50\sqrt{3", "50"),
]


@pytest.mark.parametrize(("prediction", "gold"), EQUAL)
def test_equal(prediction: str, gold: str) -> None:
    assert check(prediction, gold) == "equal"


@pytest.mark.parametrize(("prediction", "gold"), NOT_EQUAL)
def test_not_equal(prediction: str, gold: str) -> None:
    assert not is_correct(prediction, gold)


@pytest.mark.parametrize(
    ("prediction", "gold"), [("3,5", "3.5"), ("1000,99", "1000.99"), ("12 apples", "12 pears"), ("2", "2m")]
)
def test_a_notation_that_cannot_be_told_apart_is_undecided(prediction: str, gold: str) -> None:
    assert check(prediction, gold) == "undecided"


FRUIT = ("apple", "red pear", "pear", "12 kg")
VALUES = ("10", r"$\frac{1}{2}$", "$25 \\mathrm{~cm}$", "34m")


@pytest.mark.parametrize(
    ("prediction", "gold", "choices", "verdict"),
    [
        ("B", "red pear", FRUIT, "equal"),
        ("(b)", "red pear", FRUIT, "equal"),
        ("B. red pear", "B", FRUIT, "equal"),
        ("Red pear", "B", FRUIT, "equal"),
        ("red pear", "pear", FRUIT, "different"),
        ("C", "red pear", FRUIT, "different"),
        ("The answer is C.", "pear", FRUIT, "equal"),
        ("Both are ripe, so it must be the red pear.", "B", FRUIT, "equal"),
        ("It is not the apple.", "apple", FRUIT, "undecided"),
        ("(A) pear", "apple", FRUIT, "undecided"),
        ("E", "apple", FRUIT, "different"),
        ("B, C", "B", FRUIT, "undecided"),
        ("12", "D", FRUIT, "equal"),
        ("I cannot see any fruit, sorry", "apple", FRUIT, "undecided"),
        ("0.5", "B", VALUES, "equal"),
        ("25", "C", VALUES, "equal"),
        ("34", "34m", VALUES, "equal"),
        ("11", "A", VALUES, "different"),
        ("A", "A", ("B", "A", "C"), "equal"),
        ("A", "B", ("B", "A", "C"), "different"),
        ("Yes, because it is blue", "yes", ("yes", "no"), "equal"),
        ("There is no way to tell", "no", ("yes", "no"), "undecided"),
        ("C", "18", ("9", "12", "18", "18"), "equal"),
        ("D", "18", ("9", "12", "18", "18"), "equal"),
        ("['pear']", "pear", FRUIT, "equal"),
        ("['pear', 'apple']", "pear", FRUIT, "undecided"),
    ],
)
def test_choices(prediction: str, gold: str, choices: tuple[str, ...], verdict: str) -> None:
    assert check(prediction, gold, choices) == verdict


@pytest.mark.parametrize(
    ("prediction", "gold", "precision", "verdict"),
    [
        ("0.214", "0.21", 2, "equal"),
        ("0.216", "0.21", 2, "different"),
        ("13.80", "13.8", 1, "equal"),
        ("1.2", "1.24", 1, "equal"),
        ("100.4", "100", 0, "equal"),
        ("99", "100", 0, "different"),
        ("5", "5", 10**9, "equal"),
    ],
)
def test_precision(prediction: str, gold: str, precision: int, verdict: str) -> None:
    assert check(prediction, gold, precision=precision) == verdict


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2+3*4", 14),
        ("-(2+3)^2", -25),
        (r"\frac{1}{2}\sqrt{16}", 2),
        ("|-3|", 3),
        ("2^-1", 0.5),
        (r"\sqrt[3]{27}", 3),
        ("1/0", None),
        ("9**9**9", None),
        ("(2", None),
        ("2x", None),
        ("(((" * 30, None),
        ("((9^99)^99)^99", None),
    ],
)
def test_evaluate(text: str, value: float | None) -> None:
    result = evaluate(canonicalise(text))
    assert result == (None if value is None else pytest.approx(value))


# ------------------------------------------------------------------------------------------ hostile input

TOWER = "9^{9^{9^{9}}}"
HOSTILE = {
    "python tower": "9**9**9**9",
    "tex tower": TOWER,
    "factorials": "((((((100!)!)!)!)!)!)",
    "10k braces": "{" * 10_000,
    "10k boxes": r"\boxed{" * 10_000,
    "balanced boxes": r"\boxed{" * 5_000 + "1" + "}" * 5_000,
    "1 MB of digits": "9" * 1_000_000,
    "4k digits": "9" * 3_900,
    "null bytes": "1\x002\x00",
    "lone surrogates": "\ud800 6 \udfff",
    "fractions": r"\frac{" * 500 + "1" + "}{2}" * 500,
    "binomial": r"\binom{10^9}{5 \cdot 10^8}",
    "polynomial": "(x+1)^{100000}",
    "dollars": "$" * 3_900,
    "minus signs": "-" * 300 + "5" + "x",
    "bars": "|" * 900,
    "is is is": " is " * 900,
    "spaced digits": "1" + " 000" * 900,
    "commas": "1," * 1_900 + "1",
    "open quotes": r"\text{" * 600,
    "exponent": "1e999999",
    "right-to-left": "\u202e5\u202c",
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_input_is_answered_in_time(hostile: str) -> None:
    algebra.compare_algebraically("x", "x")  # a worker is warm: its start is not what is measured
    started = time.monotonic()
    verdict = check(hostile, "5")
    assert time.monotonic() - started < algebra.CHECK_SECONDS + 2.5
    assert verdict != "equal" or hostile == HOSTILE["right-to-left"]
    assert check(r"\frac{x}{7}+\frac{2}{7}", r"\frac{x+2}{7}") == "equal"


def test_a_long_answer_equals_only_itself() -> None:
    digits = "9" * 1_000_000
    assert check(digits, digits) == "equal"
    assert check(digits + "1", digits) == "undecided"
    assert check(f"<answer>5</answer>{' ' * 10_000}", "5") == "equal"


# ------------------------------------------------------------------------------------------------ workers


def test_importing_answers_is_cheap() -> None:
    code = (
        "import sys, filters.answers;"
        "print(*{'sympy', 'math_verify', 'latex2sympy2_extended', 'torch', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_killed_worker_is_replaced() -> None:
    assert algebra.compare_algebraically("x+x", "2x") == "equal"
    for pid in algebra.POOL.pids():
        os.kill(pid, signal.SIGKILL)
    assert algebra.compare_algebraically("x+x", "2x") == "equal"


def test_a_check_that_hangs_is_undecided_and_the_next_one_works() -> None:
    assert algebra.compare_algebraically(TOWER, "5") == "undecided"
    assert algebra.compare_algebraically("x+x", "2x") == "equal"


def test_workers_serve_threads() -> None:
    cases = [(f"x+{n}", f"{n}+x") for n in range(12)] + [(f"x+{n}", f"x-{n}") for n in range(1, 13)]
    with ThreadPoolExecutor(8) as threads:
        verdicts = list(threads.map(lambda case: check(*case), cases))
    assert verdicts == ["equal"] * 12 + ["different"] * 12
    assert len(algebra.POOL.pids()) <= algebra.MAX_WORKERS


def test_checks_do_not_block_asyncio() -> None:
    async def run() -> tuple[str, int]:
        ticks = 0
        slow = asyncio.create_task(asyncio.to_thread(check, TOWER + "+x", "5"))
        while not slow.done():
            ticks += 1
            await asyncio.sleep(0.05)
        return await slow, ticks

    verdict, ticks = asyncio.run(run())
    assert verdict == "undecided"
    assert ticks > 10


def test_close_workers_leaves_none_and_allows_more() -> None:
    algebra.compare_algebraically("x", "x")
    pids = algebra.POOL.pids()
    algebra.close_workers()
    assert pids
    assert not [pid for pid in pids if running(pid)]
    assert algebra.compare_algebraically("x", "x") == "equal"


PARENT = """
import sys
from filters import algebra
algebra.compare_algebraically("x", "x")
print(*algebra.POOL.pids(), flush=True)
if sys.argv[1] == "busy":
    algebra.CHECK_SECONDS = 1000
    print("asking", flush=True)
    algebra.compare_algebraically("9^{9^{9^{9}}}", "5")
elif sys.argv[1] == "idle":
    sys.stdin.read()
"""


@pytest.mark.parametrize("state", ["busy", "idle", "exits"])
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_no_worker_outlives_its_parent(state: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, state],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert pids
    if state == "busy":
        assert parent.stdout.readline().strip() == "asking"
        time.sleep(0.5)
    if state != "exits":
        parent.kill()
    parent.wait(timeout=30)
    deadline = time.monotonic() + algebra.CHECK_SECONDS + 6
    while any(running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if running(pid)]


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# ------------------------------------------------------------------------------------------------- filter


@pytest.mark.parametrize(
    ("trace", "answer", "choices", "reason", "score"),
    [
        ("<think>x</think><answer>B</answer>", "pear", ("apple", "pear"), None, 1.0),
        ("<think>x</think><answer>A</answer>", "pear", ("apple", "pear"), Reason.ANSWER_WRONG, 0.0),
        ("<think>x</think><answer>3,5</answer>", "3.5", (), Reason.ANSWER_UNDECIDED, 0.5),
        ("<think>x</think>", "3.5", (), Reason.NO_ANSWER, 0.0),
        ("", "3.5", (), Reason.NO_ANSWER, 0.0),
    ],
)
def test_check_answer(
    trace: str, answer: str, choices: tuple[str, ...], reason: Reason | None, score: float
) -> None:
    verdict = check_answer(draft_of(trace, answer, choices), SETTINGS)
    assert (verdict.reason, verdict.score, verdict.keep) == (reason, score, reason is None)
    assert "\n" not in verdict.detail


# -------------------------------------------------------------------------------------------- measurement

FLOORS = {"strong": 0.90, "weak": 0.97}


@pytest.mark.skipif(
    not PAIRS.exists(), reason="the labelled pairs are beside the project: ../shared/data absent"
)
def test_accuracy_on_labelled_pairs() -> None:
    """Share of pairs judged as labelled; `weak` labels come from other graders' outputs."""
    right: dict[str, list[bool]] = collections.defaultdict(list)
    for line in PAIRS.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        precision = None if row.get("precision") is None else int(row["precision"])
        correct = is_correct(row["pred"], row["gold"], row.get("choices"), precision)
        right["weak" if row.get("weak") else "strong"].append(correct == row["expected"])
    assert {name: sum(seen) / len(seen) >= FLOORS[name] for name, seen in right.items()} == {
        "strong": True,
        "weak": True,
    }


@pytest.mark.parametrize(
    ("prediction", "gold", "choices"),
    [
        ("It is the area of triangle B", "15", ["12", "15", "20"]),
        ("The larger one is circle C", "7", ["5", "6", "7"]),
        ("I measure from point A", "1", ["1", "2"]),
    ],
)
def test_a_letter_that_names_an_object_is_no_choice(prediction: str, gold: str, choices: list[str]) -> None:
    assert not is_correct(prediction, gold, choices)


@pytest.mark.parametrize(
    "prediction", ["B", "(b)", "The answer is B", "Option B is right", "B is the right one"]
)
def test_a_letter_that_commits_is_a_choice(prediction: str) -> None:
    assert is_correct(prediction, "15", ["12", "15", "20"])
