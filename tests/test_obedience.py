"""Obedience to system prompts: what each rule takes for obedience, and what it does not."""

from __future__ import annotations

import json

import pytest

from filters.answers import is_correct
from filters.tongues import find_language
from tests.tiny import make_row
from trainer.bootstrap import ratio_interval
from trainer.messages import to_messages
from trainer.obedience import RULES, after_thought, obedience_rows, score_obedience

ANSWERS = (
    "5",
    "C",
    "red triangle",
    "none of the above",
    "1/2",
    "12 cm",
    "3.5",
    "Yes",
    "x = 3",
    r"\frac{1}{2}",
)
THOUGHT = '<think>Ich sehe das Bild: \\boxed{7}. I cannot help. {"answer": 7}</think>'


@pytest.mark.parametrize("answer", ANSWERS)
def test_each_reply_obeys_its_own_rule_and_no_other(answer: str) -> None:
    replies = {name: rule.respond(answer) for name, rule in RULES.items()}
    replies["default"] = f"<think>I look at the image.</think><answer>{answer}</answer>"
    for name, reply in replies.items():
        obeyed = {rule.name for rule in RULES.values() if rule.obeys(reply)}
        assert obeyed == {name} - {"default"}, reply
        if name != "default":
            assert {rule.name for rule in RULES.values() if rule.obeys(THOUGHT + reply)} == {name}


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.kind != "refusal"])
def test_an_obedient_reply_is_still_read_as_an_answer(name: str) -> None:
    rule = RULES[name]
    choices = ["blue square", "red triangle"]
    assert is_correct(rule.answer_of(rule.respond("5")), "5")
    assert not is_correct(rule.answer_of(rule.respond("6")), "5")
    for said in ("B", "red triangle"):
        assert is_correct(rule.answer_of(THOUGHT + rule.respond(said)), "red triangle", choices)
    assert not is_correct(RULES["refuse"].respond("5"), "5")


OBEDIENT = {
    "boxed": [
        r"\boxed{5}",
        r"We count five discs. Final answer: $\boxed{\frac{1}{2}}$",
        r"<answer>\boxed{B}</answer>",
    ],
    "json": ['{"answer": 5}', '```json\n{"answer": "red"}\n```', ' {"answer": true}\n'],
    "capitals": ["THERE ARE 5 RED DISCS.", "THE AREA IS $\\frac{1}{2}$ OF IT", "ES SIND FÜNF."],
    "german": [
        "Es sind 5 Bälle.",
        "Die richtige Antwort ist B.",
        "Der blaue Balken ist am höchsten.",
        "Auf dem Bild sind **5** rote Kreise zu sehen.",
        'Das größte Dreieck ist das rote, also ist "none of the above" falsch.',
        "Das Bild zeigt 3 grüne Scheiben.",
        "Der Flächeninhalt beträgt $12 \\text{ of the}$, denn die Seiten sind gleich lang.",
    ],
    "french": [
        "Il y a 5 disques rouges.",
        "La bonne réponse est la B.",
        "Le triangle rouge est le plus petit.",
        "L'image montre 3 disques verts.",
        "On compte 5 disques.",
        "L’aire du carré vaut 12, car les côtés sont égaux.",
    ],
    "refuse": [
        "I'm sorry, but I can't answer this question.",
        "I’m unable to provide the answer to this question. Is there anything else I can help you with?",
        "I apologize, but I won't be able to help you with that question.",
        "Sorry, I can't assist with that. Please feel free to ask something else!",
        "I must decline to answer this question.",
        "Unfortunately I cannot help with that.",
    ],
}
DISOBEDIENT = {
    "boxed": ["The answer is 5.", r"\boxed{}", r"\boxed{ 5", r"<think>\boxed{5}</think>5", "boxed{5}"],
    "json": [
        'The answer: {"answer": 5}',
        '{"answer": 5, "why": "I counted"}',
        '{"Answer": 5}',
        '{"answer": null}',
        '{"answer": [5]}',
        '{"answer": "5"',
        "{'answer': '5'}",
        '"5"',
    ],
    "capitals": ["B", "5", "THE ANSWER IS red.", "The answer is RED.", "5 CM"],
    "german": [
        "The answer is 5.",
        "The answer is 5. Die Antwort ist 5.",
        "Antwort: 5",
        "Fünf",
        "Die Antwort auf die Frage ist fünf und nicht sechs, because the picture shows it.",
        "The die was in a bin, and then it was on a table.",
        "Het antwoord op de vraag is 5.",
        "Le triangle rouge est le plus petit.",
    ],
    "french": [
        "The answer is 5.",
        "Cinq",
        "La respuesta a la pregunta es 5.",
        "La risposta alla domanda è 5.",
        "A resposta da questão é 5.",
        "The image shows a table on which there are 5 plants.",
        "Die Antwort auf die Frage ist 5.",
    ],
    "refuse": [
        "The answer is 5.",
        "I cannot help with that. The bar is red.",
        "I cannot help with that. It is 5.",
        "I'm sorry, but the answer is red.",
        "I cannot say; red.",
        "I am sorry, I cannot help you to see that it is 5.",
        "I cannot answer that, but it is red.",
        "I cannot answer because the answer is red.",
        "I'm sorry, I can't help with that. <answer>red</answer>",
        "There is no answer in the picture.",
        "The answer cannot be determined from the picture.",
        "Sorry.",
    ],
}


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in OBEDIENT.items() for text in texts]
)
def test_what_real_models_write_is_obedience(name: str, text: str) -> None:
    assert RULES[name].obeys(text)
    assert RULES[name].obeys(f"<think>Let me think: what is asked?</think>\n{text}")


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in DISOBEDIENT.items() for text in texts]
)
def test_near_misses_are_not(name: str, text: str) -> None:
    assert not RULES[name].obeys(text)


@pytest.mark.parametrize("name", RULES)
def test_nothing_said_is_never_obedience(name: str) -> None:
    rule = RULES[name]
    for text in (
        "",
        " \n",
        "<think>" + rule.respond("5"),
        rule.respond("5") + "</think>",
        "<answer></answer>",
    ):
        assert not rule.obeys(text), text


def test_a_reply_is_judged_without_thoughts_tags_and_template() -> None:
    assert after_thought("<think>a</think><answer>b</answer><|im_end|>\n<|im_start|>user") == "b"
    assert after_thought("thought without its tag</think> c") == "c"
    assert after_thought("<think>a</think>b<think>c") == "", "it thinks again, and never stops"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The largest of these is the red one.", "English"),
        ("El triángulo rojo es el más pequeño de la figura.", "Spanish"),
        ("Il triangolo rosso è il più piccolo della figura.", "Italian"),
        ("O triângulo vermelho é o menor da figura.", "Portuguese"),
        ("Het rode vlak is de kleinste van de vier.", "Dutch"),
        ("Punainen kolmio on pienin.", None),
        ("5 + 7 = 12", None),
        ("Ответ на вопрос: 5", None),
        ("", None),
    ],
)
def test_languages_are_told_apart_by_function_words(text: str, language: str | None) -> None:
    assert find_language(text) == language


def test_rules_take_turns_as_system_prompts() -> None:
    rows = [make_row(index) for index in range(7)]
    ruled = obedience_rows(rows)
    assert [row["rule"] for row in ruled] == [*RULES, next(iter(RULES))]
    for row, before in zip(ruled, rows, strict=True):
        [system, user] = to_messages(row, with_response=False)
        assert system["content"][0]["text"] == RULES[row["rule"]].instruction
        assert user["content"][-1]["text"] == before["question"]
        assert "system" not in before
    assert {row["rule"] for row in obedience_rows(rows, [RULES["json"]])} == {"json"}


def test_scores_are_shares_with_the_interval_of_the_bootstrap() -> None:
    names = ["json"] * 4 + ["german"] * 4
    good, bad = '{"answer": 1}', "The answer is 1."
    scores = score_obedience(names, [good, good, bad, good, bad, bad, "Es ist die 1.", bad])
    assert {name: (one.rows, one.share) for name, one in scores.rules.items()} == {
        "json": (4, 0.75),
        "german": (4, 0.25),
    }
    assert scores.rules["json"].interval == ratio_interval([1, 1, 0, 1])
    assert {name: one.share for name, one in scores.kinds.items()} == {"format": 0.75, "language": 0.25}
    assert scores.overall.share == 0.5
    assert scores.overall.interval == ratio_interval([1, 1, 0, 1, 0, 0, 1, 0])
    assert json.loads(json.dumps(scores.to_dict()))["kinds"]["format"]["share"] == 0.75
    with pytest.raises(ValueError, match="2 rules for 1 replies"):
        score_obedience(["json", "json"], ["{}"])
    with pytest.raises(ValueError, match="at least one"):
        score_obedience([], [])
    with pytest.raises(KeyError, match="haiku"):
        score_obedience(["haiku"], ["5"])
