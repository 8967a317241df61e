"""Evidence: what each part asks, what its answers mean, and how a part that cannot be had is recorded."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image as PillowImage

from schemas.config import Recipe, TeacherSettings, parse_recipe
from schemas.errors import TeacherError, TeacherFault
from schemas.records import (
    ClaimVerdict,
    Draft,
    Evidence,
    EvidenceFault,
    Image,
    Likelihood,
    Problem,
    Stage,
    draft_from_row,
    draft_schema,
    draft_to_row,
)
from schemas.shards import iterate_rows, write_shard
from synth.evidence import gather_evidence, probability_of_yes
from synth.likelihood import (
    UntoldError,
    blank_image,
    count_tokens,
    measure_likelihood,
    scored_text,
)
from synth.prompts import anchor_prompt, prompt_hash, prompt_hashes
from synth.requests import Answer, Outcome, Request
from synth.server import Server
from tests.rows import GOOD_TRACE, call, draft, failed_draft, png, problem
from tests.stub_teacher import StubTeacher, ok

EVERYTHING = {"blind": {"n": 3}, "description": {"n": 2}, "judge": {}, "likelihood": {}, "swap": {}}
CLAIMS = ("The bar is 3.", "The bar is red.")
OTHER = problem(1, images=(Image(bytes=png("blue"), path="other.png"),), id="other")
Script = Callable[[Request], Outcome | Exception]


def answer(text: str = "fine", **changes: Any) -> Answer:
    made = Answer(text=text, model="served", finish_reason="stop", prompt_tokens=9, completion_tokens=2)
    return replace(made, **changes)


def usual(request: Request) -> Outcome:
    """What a good teacher answers to each part."""
    if request.stage == "evidence.judge":
        return answer("yes", first_logprobs=(("yes", -0.1), ("no", -2.4)))
    if request.stage == "evidence.likelihood":
        grey = "blank" in request.images[0].path
        return answer(prompt_logprobs=scored(request.continued or "", -2.0 if grey else -0.5))
    return answer(f"{request.stage} {request.seed} {request.temperature}")


def scored(text: str, logprob: float) -> tuple[tuple[str, float], ...]:
    """A prompt with the text at its end, one character a token."""
    return (("<|user|>", -9.0), ("Count", -9.0), ("\n", -9.0), *((character, logprob) for character in text))


def broken(part: str, error: Outcome | Exception) -> Script:
    """A good teacher but for one part."""
    return lambda request: error if request.stage == f"evidence.{part}" else usual(request)


class ScriptedAsker:
    """Answers by a script, in an order of its own."""

    def __init__(self, evidence: Mapping[str, Any], script: Script = usual, order: int = 0) -> None:
        data = {"name": "t", "seed": 5, "source": {"kind": "scenes"}, "evidence": dict(evidence)}
        self.recipe: Recipe = parse_recipe(data, where="t")
        self.requests: list[Request] = []
        self.answered = 0
        self._script = script
        self._dice = random.Random(order)

    def model(self, name: str) -> tuple[str, str]:
        return f"model of {name}", "r1"

    async def ask(self, name: str, request: Request) -> Answer:
        assert name == request.stage
        self.requests.append(request)
        for _ in range(self._dice.randrange(20)):
            await asyncio.sleep(0)
        outcome = self._script(request)
        if isinstance(outcome, Exception):
            raise outcome
        self.answered += 1
        return outcome

    def asked(self, part: str) -> list[Request]:
        return [request for request in self.requests if request.stage == f"evidence.{part}"]


def gather(asker: ScriptedAsker, start: Draft | None = None, swap: Problem | None = OTHER) -> Draft:
    def claims(of: Draft) -> Sequence[str]:
        return CLAIMS

    return asyncio.run(gather_evidence(start or draft(), asker, swap=swap, claims=claims))


class ServedAsker(ScriptedAsker):
    """Asks a real server, one call after the other."""

    def __init__(self, evidence: Mapping[str, Any], server: Server, model: str) -> None:
        super().__init__(evidence)
        self._server = server
        self._model = model
        self._turn = asyncio.Lock()

    def model(self, name: str) -> tuple[str, str]:
        return self._model, ""

    async def ask(self, name: str, request: Request) -> Answer:
        async with self._turn:
            self.requests.append(request)
            return await self._server.complete(request)


# ------------------------------------------------------------------------------------- what is asked


def test_nothing_is_asked_that_the_recipe_does_not_name() -> None:
    asker = ScriptedAsker({})
    assert gather(asker) == draft()
    for part in EVERYTHING:
        asker = ScriptedAsker({part: EVERYTHING[part]})
        gather(asker)
        assert {request.stage for request in asker.requests} == {f"evidence.{part}"}


@pytest.mark.parametrize(
    "unfinished",
    [
        failed_draft(),
        draft(trace=" \n"),
        draft(calls=(call(Stage.ANCHOR, "length"),)),
        draft(calls=(call(Stage.ANCHOR, "repetition"),)),
    ],
)
def test_an_unfinished_draft_is_asked_nothing(unfinished: Draft) -> None:
    asker = ScriptedAsker(EVERYTHING)
    assert gather(asker, unfinished) == unfinished
    assert asker.requests == []


def test_every_part_becomes_its_column_and_its_calls_are_in_order() -> None:
    asker = ScriptedAsker(EVERYTHING)
    found = gather(asker).evidence
    assert found.faults == ()
    assert found.blind is not None
    assert [text.split()[0] for text in found.blind] == ["evidence.blind"] * 3
    assert found.description is not None
    assert len(set(found.description)) == 2
    assert found.claims is not None
    assert [verdict.claim for verdict in found.claims] == list(CLAIMS)
    assert all(verdict.seen and verdict.p_seen == pytest.approx(0.909, abs=1e-3) for verdict in found.claims)
    count = len(GOOD_TRACE)
    assert found.likelihood == Likelihood(tokens=count, with_image=-0.5 * count, with_blank=-2.0 * count)
    assert found.swap is not None
    assert (found.swap.problem, found.swap.trace.split()[0]) == ("other", "evidence.swap")
    parts = ["blind"] * 3 + ["description"] * 2 + ["judge"] * 2 + ["likelihood"] * 2 + ["swap"]
    assert [made.stage for made in found.calls] == [f"evidence.{part}" for part in parts]
    assert [made.prompt_hash for made in found.calls] == [prompt_hash(f"evidence.{part}") for part in parts]
    assert {made.model for made in found.calls} == {"served"}
    assert {request.model for request in asker.asked("swap")} == {"model of evidence.swap"}


def test_a_question_without_its_image_shows_neither_image_nor_description() -> None:
    asker = ScriptedAsker(EVERYTHING)
    shown = draft(
        description="DESCRIBED",
        reasoning="CHAIN",
        problem=problem(question="What is it?", choices=("a cat", "a dog"), answer="GOLD"),
    )
    gather(asker, shown)
    for request in asker.asked("blind"):
        [text] = request.content
        assert isinstance(text, str)
        assert "What is it?" in text
        assert "A. a cat\nB. a dog" in text
        assert not any(word in text for word in ("DESCRIBED", "CHAIN", "GOLD", "image", "picture"))
    for request in asker.asked("description"):
        [text] = request.content
        assert isinstance(text, str)
        assert "DESCRIBED" in text
        assert not any(word in text for word in ("CHAIN", "GOLD"))


def test_seeds_are_of_their_own_and_temperatures_take_turns() -> None:
    asker = ScriptedAsker(EVERYTHING | {"blind": {"n": 3, "temperature": [0.2, 0.9]}})
    for index in (0, 1):
        gather(asker, draft(sample_index=index))
    seeds = [request.seed for request in asker.requests]
    assert len(seeds) == 2 * 10
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert [request.temperature for request in asker.asked("blind")] == [0.2, 0.9, 0.2] * 2


def test_template_settings_reach_the_request() -> None:
    asker = ScriptedAsker({"judge": {"chat_template_kwargs": {"enable_thinking": False}, "most": 1}})
    gather(asker)
    [request] = asker.requests
    assert request.options["chat_template_kwargs"] == {"enable_thinking": False}
    assert request.options["structured_outputs"] == {"choice": ["yes", "no"]}


def test_a_judge_sees_the_image_and_one_claim() -> None:
    asker = ScriptedAsker({"judge": {}})
    gather(asker)
    for claim, request in zip(CLAIMS, asker.requests, strict=True):
        image, text = request.content
        assert image == draft().problem.images[0]
        assert isinstance(text, str)
        assert [other for other in CLAIMS if other in text] == [claim]


def test_a_swap_shows_the_other_image_and_the_anchor_prompt() -> None:
    asker = ScriptedAsker({"swap": {}})
    gather(asker)
    [request] = asker.requests
    assert request.content == (*OTHER.images, anchor_prompt(draft().problem, draft().reasoning))


def test_the_trace_is_scored_as_the_beginning_of_an_answer() -> None:
    asker = ScriptedAsker({"likelihood": {"temperature": 1.5}})
    start = draft(
        trace=f"\n{GOOD_TRACE}\n", problem=problem(images=(Image(bytes=png(size=(40, 30)), path="x"),))
    )
    assert gather(asker, start).evidence.likelihood is not None
    real, blank = asker.requests
    assert real.continued == blank.continued == GOOD_TRACE
    assert real.options["prompt_logprobs"] == 0
    assert (real.temperature, real.max_tokens) == (0.0, 1)
    assert real.content[1] == blank.content[1]
    assert real.images == start.problem.images
    with PillowImage.open(BytesIO(blank.images[0].bytes)) as picture:
        assert (picture.format, picture.size) == ("PNG", (40, 30))
        assert picture.getextrema() == (128, 128)


def test_a_blank_image_has_the_size_that_is_seen() -> None:
    turned, plain = PillowImage.new("RGB", (40, 30)), BytesIO()
    exif = turned.getexif()
    exif[274] = 6  # a quarter turn
    turned.save(plain, "JPEG", exif=exif)
    blank = blank_image(Image(bytes=plain.getvalue(), path="turned.jpg"))
    with PillowImage.open(BytesIO(blank.bytes)) as picture:
        assert picture.size == (30, 40)
    assert blank.bytes == blank_image(Image(bytes=png(size=(30, 40)), path="other")).bytes


# --------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("part", list(EVERYTHING))
def test_a_part_that_is_refused_leaves_the_others(part: str) -> None:
    whole = gather(ScriptedAsker(EVERYTHING)).evidence
    error = TeacherError(TeacherFault.TOO_LONG, "too long for it")
    found = gather(ScriptedAsker(EVERYTHING, broken(part, error))).evidence
    assert found.faults == (EvidenceFault(part=part, reason="prompt_too_long", detail="too long for it"),)
    column = "claims" if part == "judge" else part
    lost = tuple(made for made in whole.calls if made.stage != f"evidence.{part}")
    assert found == replace(whole, **{column: None}, faults=found.faults, calls=lost)


@pytest.mark.parametrize(
    ("part", "bad", "reason", "words"),
    [
        ("judge", answer("maybe"), "malformed_answer", "'maybe'"),
        ("judge", answer(""), "malformed_answer", "''"),
        ("judge", answer("yes and no"), "malformed_answer", "need yes or no"),
        ("likelihood", answer(), "likelihood_untold", "no log-probabilities"),
        ("likelihood", answer(prompt_logprobs=scored("other", -1)), "likelihood_untold", "does not end with"),
        ("swap", answer(" \n", finish_reason="length"), "empty_answer", "length"),
    ],
)
def test_an_answer_that_means_nothing_is_a_fault(part: str, bad: Answer, reason: str, words: str) -> None:
    found = gather(ScriptedAsker(EVERYTHING, broken(part, bad))).evidence
    [fault] = found.faults
    assert (fault.part, fault.reason) == (part, reason)
    assert words in fault.detail
    assert "\n" not in fault.detail
    assert getattr(found, "claims" if part == "judge" else part) is None
    assert f"evidence.{part}" in {made.stage for made in found.calls}


def test_no_other_image_and_no_claims() -> None:
    asker = ScriptedAsker({"swap": {}, "judge": {}})
    found = asyncio.run(gather_evidence(draft(), asker, swap=None, claims=lambda _: ())).evidence
    assert [(fault.part, fault.reason) for fault in found.faults] == [("swap", "no_other_image")]
    assert found.claims == ()
    assert asker.requests == []


def test_no_more_claims_are_judged_than_allowed() -> None:
    asker = ScriptedAsker({"judge": {"most": 1}})
    found = gather(asker).evidence.claims
    assert found is not None
    assert [verdict.claim for verdict in found] == [CLAIMS[0]]


@pytest.mark.parametrize("script", [usual, broken("blind", TeacherError(TeacherFault.REFUSED, "no"))])
def test_the_order_of_answers_changes_nothing(script: Script) -> None:
    found = [gather(ScriptedAsker(EVERYTHING, script, order)) for order in range(5)]
    assert all(one == found[0] for one in found)


def test_of_several_faults_in_a_part_the_first_question_s_is_told() -> None:
    def script(request: Request) -> Outcome:
        if request.stage != "evidence.judge":
            return usual(request)
        return TeacherError(TeacherFault.REFUSED, "three" if CLAIMS[0] in str(request.content[-1]) else "red")

    details = [
        gather(ScriptedAsker(EVERYTHING, script, order)).evidence.faults[0].detail for order in range(5)
    ]
    assert details == ["three"] * 5


@pytest.mark.parametrize(
    "error", [TeacherError(TeacherFault.UNAUTHORIZED, "wrong key"), RuntimeError("the run is being ended")]
)
def test_what_is_no_part_s_own_fault_ends_the_row_after_calls_in_flight(error: Exception) -> None:
    asker = ScriptedAsker(EVERYTHING, broken("blind", error))
    with pytest.raises(type(error), match=str(error)):
        gather(asker)
    assert asker.answered == len(asker.requests) - 3


# ---------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((("yes", -0.5), ("no", -0.5)), 0.5),
        (((" Yes", math.log(0.3)), ("yes", math.log(0.3)), ("NO", math.log(0.2)), ("cat", -0.1)), 0.75),
        ((("y", math.log(0.9)), ("n", math.log(0.1))), 0.9),
        ((("▁no.", -0.1), ("yesterday", -0.2), ("not", -0.3)), 0.0),
        ((("no", -9999.0), ("yes", -0.1)), 1.0),
    ],
)
def test_probability_of_yes_against_no(tokens: tuple[tuple[str, float], ...], expected: float) -> None:
    assert probability_of_yes(tokens) == pytest.approx(expected)


@pytest.mark.parametrize("tokens", [(), (("cat", -0.1), ("", -0.2), (" ", -0.3)), (("yes", -9999.0),)])
def test_no_probability_is_nan(tokens: tuple[tuple[str, float], ...]) -> None:
    assert math.isnan(probability_of_yes(tokens))


HEAD = ["<|im_start|>", "assistant", "\n"]


@pytest.mark.parametrize(
    ("tokens", "text", "count"),
    [
        (["<think>", "It", " is", " 4", "</think>"], "<think>It is 4</think>", 5),
        (["<think>", "It", "is", "4"], "<think>\nIt is 4", 4),  # white space lost or stripped
        (["\n\n", "a", " ", "b"], "\n a b", 3),  # white space before it is not the text's
        (["a", "b", "\n"], "a b", 3),
        (["<", "think", ">", "", "", "中", "", "", "国", "."], "<think>中国.", 10),
        (["", "", "😀", "!"], "😀!", 4),  # the text begins inside a character
        (["x", "\ufffd", "\ufffd", "y"], "x中y", 4),  # a server that does not mend
        (["x", "", "", "\ufffd国", "y"], "x中国y", 5),  # tokens across characters: one is lost
        (["x", "", "\ufffd,", "y"], "x—,y", 4),
        (["x", "", "y"], "x\ufffdy", 3),
    ],
)
def test_the_tokens_of_a_text_at_the_end_of_a_prompt(tokens: list[str], text: str, count: int) -> None:
    assert count_tokens([*HEAD, *tokens], text) == count


@pytest.mark.parametrize(
    ("tokens", "text", "words"),
    [
        (["It", " is", " 4", "<|im_end|>"], "It is 4", "does not end with the trace"),
        (["It", " was", " 4"], "It is 4", "does not end with the trace"),
        (["is", " 4"], "It is 4", "does not end with the trace"),
        (["xIt", " is", " 4"], "It is 4", "does not end with the trace"),  # begins inside a token
        (["\ufffd", "\ufffd", "\ufffd", "a"], "中国a", "any of 3 tokens"),
        (["a", *["", ""] * 600, "b"], "a" + "中" * 600 + "b", "more than 512 ways"),
        (["a"], " \n", "no text to score"),
    ],
)
def test_doubt_is_no_number(tokens: list[str], text: str, words: str) -> None:
    with pytest.raises(UntoldError, match=words):
        count_tokens([*HEAD, *tokens], text)


def test_bytes_in_any_cut_are_counted_or_doubted_but_never_miscounted() -> None:
    dice = random.Random(3)
    told = 0
    for _ in range(400):
        text = "<t>" + "".join(dice.choice("ab ,.—é中国😀") for _ in range(dice.randrange(1, 30)))
        text = scored_text(text)
        cuts = cut_bytes(text, dice)
        try:
            found = count_tokens([*HEAD, *decode_one_by_one(cuts)], text)
        except UntoldError:
            continue
        told += 1
        assert found == len(cuts)
    assert told > 100


def cut_bytes(text: str, dice: random.Random) -> list[bytes]:
    """A text's bytes in tokens of 1 to 4; the first is whole, as a tag's is."""
    data, tokens = text.encode()[3:], [text.encode()[:3]]
    while data:
        size = dice.randint(1, 4)
        tokens.append(data[:size])
        data = data[size:]
    return tokens


def decode_one_by_one(tokens: list[bytes]) -> list[str]:
    """As vLLM decodes a prompt's tokens."""
    return [mend(tokens, index) for index in range(len(tokens))]


def mend(tokens: list[bytes], index: int) -> str:
    """A token that ends inside a character is "", or what it is together with a few of those before it."""
    text = decode(tokens[index])
    if not text.endswith("\ufffd"):
        return text
    for back in range(1, min(index, 4) + 1):
        context = tokens[index - back : index]
        text = decode(*context, tokens[index])
        if not text.endswith("\ufffd"):
            whole = [
                position for position, token in enumerate(context, 1) if not decode(token).endswith("\ufffd")
            ]
            return text.removeprefix(decode(*context[: max(whole, default=0)]))
    return ""


def decode(*tokens: bytes) -> str:
    return b"".join(tokens).decode(errors="replace")


@pytest.mark.parametrize(
    ("blank", "words"),
    [
        ((), "no log-probabilities"),
        ((("x", -1.0), ("a", -1.0), ("c", -1.0)), "differ"),
        ((("x", -1.0), ("a", -1.0), ("b", -9999.0)), "'b' has no log-probability"),
        ((("x", -1.0), ("a", math.nan), ("b", -1.0)), "'a' has no log-probability"),
    ],
)
def test_a_likelihood_needs_the_same_tokens_twice(blank: tuple[tuple[str, float], ...], words: str) -> None:
    with pytest.raises(UntoldError, match=words):
        measure_likelihood("ab", (("a", -7.0), ("a", -1.0), ("b", -2.0)), blank)


def test_only_the_trace_is_summed() -> None:
    found = measure_likelihood("ab", (("q", -7.0), ("a", -1.0), ("b", -2.0)), (("a", -3.0), ("b", -4.0)))
    assert found == Likelihood(tokens=2, with_image=-3.0, with_blank=-7.0)


def test_the_scored_text_is_composed_and_bare() -> None:
    assert scored_text(" \ncafe\u0301 \n") == "café"


# ----------------------------------------------------------------------------------------- on disk


def test_evidence_survives_its_row_and_a_shard(tmp_path: Path) -> None:
    full = gather(ScriptedAsker(EVERYTHING))
    unsure = gather(ScriptedAsker({"judge": {}}, broken("judge", answer("no"))))
    refused = gather(ScriptedAsker(EVERYTHING, broken("swap", TeacherError(TeacherFault.REFUSED, "no"))))
    drafts = [full, unsure, refused, draft()]
    path = tmp_path / "part.arrow"
    write_shard(path, [draft_to_row(one) for one in drafts], draft_schema())
    read = [draft_from_row(row) for row in iterate_rows(path)]
    assert [read[0], read[2], read[3]] == [full, refused, draft()]
    assert read[1].evidence.claims is not None
    assert [math.isnan(verdict.p_seen) for verdict in read[1].evidence.claims] == [True, True]
    opened = datasets.Dataset.from_file(str(path))
    assert opened[3]["evidence_blind"] is None
    assert opened[3]["evidence_likelihood"] is None
    assert opened[1]["evidence_swap"] is None
    assert len(opened[0]["evidence_blind"]) == 3
    assert opened[2]["evidence_faults"][0]["reason"] == "teacher_refused"


def test_a_run_s_prompts_are_those_that_it_asks() -> None:
    recipe = ScriptedAsker({"blind": {}, "swap": {}}).recipe
    found = prompt_hashes(recipe.questions)
    assert list(found) == ["describe", "reason", "anchor", "evidence.blind", "evidence.swap"]
    assert found["evidence.swap"] == found["anchor"]
    assert len(set(found.values())) == 4
    assert prompt_hashes() == {name: found[name] for name in ("describe", "reason", "anchor")}


# ---------------------------------------------------------------------------------------- over HTTP


def test_a_server_is_asked_in_its_own_words() -> None:
    """What goes over the wire, and what the server's own JSON becomes."""
    top = [{"token": "no", "logprob": -0.5}, {"token": "yes", "logprob": -0.5}]
    judged = ok("no")[1]
    judged["choices"][0]["logprobs"] = {"content": [{"token": "no", "logprob": -0.5, "top_logprobs": top}]}
    prompt = [None, *({str(i): {"logprob": -1.0, "decoded_token": text}} for i, text in enumerate("x4!"))]
    script = [ok("guess"), (200, judged, {}), *[ok(prompt_logprobs=prompt)] * 2]

    async def go() -> tuple[Evidence, list[dict[str, Any]]]:
        stub = StubTeacher(script)
        async with stub.serve() as url, Server(url, TeacherSettings(url=url)) as server:
            asker = ServedAsker({"blind": {"n": 1}, "judge": {}, "likelihood": {}}, server, "stub")
            made = await gather_evidence(draft(trace="4!"), asker, swap=None, claims=lambda _: CLAIMS[:1])
            return made.evidence, stub.requests

    found, (blind, judge, real, blank) = asyncio.run(go())
    assert found.blind == ("guess",)
    assert found.claims == (ClaimVerdict(claim=CLAIMS[0], seen=False, p_seen=0.5),)
    assert found.likelihood == Likelihood(tokens=2, with_image=-2.0, with_blank=-2.0)
    assert isinstance(blind["messages"][0]["content"], str)
    assert judge["structured_outputs"] == {"choice": ["yes", "no"]}
    assert (judge["logprobs"], judge["top_logprobs"]) == (True, 5)
    for scoring in (real, blank):
        assert scoring["messages"][-1] == {"role": "assistant", "content": "4!"}
        assert (scoring["continue_final_message"], scoring["add_generation_prompt"]) == (True, False)
        assert scoring["prompt_logprobs"] == 0
    assert real["messages"][0] != blank["messages"][0]
