"""What the stub server (tests/stub_server.py) answers, when, and how it fails: functions of a request alone.

Nothing here imports the project or a large package: the server must start at once and cost next to nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from dataclasses import dataclass
from statistics import NormalDist

TASKS = ("describe", "reason", "anchor", "other")
ANSWER = "4"
PERMANENT = "refused"
AT_ONCE = (PERMANENT, "rate_limited", "unavailable")  # the other kinds come after the latency, as the answer
TRANSIENT = ("rate_limited", "unavailable", "internal", "reset", "truncated", "malformed")
KINDS = (*TRANSIENT, PERMANENT)
RETRY_AFTER_S = 0.05
VARIANTS = 32  # texts per stage, so that neither zlib nor a cache sees one text over and over

_SEED = re.compile(rb'"seed":\s*(\d+)')
_TASK = re.compile(rb"<task>(describe|reason|anchor)</task>")


# --------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class Asked:
    """What the stub reads of a request.

    Attributes:
        task: the stage, `other` where the prompt names none.
        seed: the request's, 0 where it has none.
        digest: hash of the request from its prompt on. A request has the same one whether it holds its
            image or refers to it.
        characters: of what is hashed.
    """

    task: str
    seed: int
    digest: bytes
    characters: int


def read_request(body: bytes) -> Asked:
    """Reads a chat completion's request without parsing its image."""
    found = _TASK.search(body)
    prompt = body[found.start() :] if found else body
    seed = _SEED.search(prompt) or _SEED.search(body)
    number = int(seed[1]) if seed else 0
    digest = hashlib.blake2b(prompt, digest_size=8, key=number.to_bytes(16, "big")).digest()
    return Asked(found[1].decode() if found else "other", number, digest, len(prompt))


# ---------------------------------------------------------------------------------------------- latency


@dataclass(frozen=True, slots=True)
class Latency:
    """How long an answer takes: `mean_s` always, or lognormal with this mean where `sigma` is given."""

    mean_s: float
    sigma: float = 0.0

    def of(self, seed: int) -> float:
        """Seconds of the request with this seed."""
        return latency_of(seed, self.mean_s, self.sigma) if self.sigma else self.mean_s


def latency_of(seed: int, mean_s: float = 1.0, sigma: float = 0.8) -> float:
    """Seconds, drawn from a lognormal distribution by the request's seed alone.

    Args:
        mean_s: mean of the distribution itself, not of its logarithm.
    """
    number = int.from_bytes(hashlib.blake2b(seed.to_bytes(16, "big"), digest_size=6).digest(), "big")
    uniform = (number + 0.5) / 2**48
    return math.exp(math.log(mean_s) - sigma**2 / 2 + sigma * NormalDist().inv_cdf(uniform))


def parse_latency(text: str) -> Latency:
    """`fixed:SECONDS` or `lognormal:MEAN,SIGMA`.

    Raises: ValueError: it is neither.
    """
    kind, _, numbers = text.partition(":")
    values = [float(number) for number in numbers.split(",")]
    if (kind, len(values)) not in {("fixed", 1), ("lognormal", 2)} or min(values) < 0:
        raise ValueError(f"{text!r}: fixed:SECONDS or lognormal:MEAN,SIGMA is expected")
    return Latency(*values)


# ----------------------------------------------------------------------------------------------- faults


def fault_of(digest: bytes, attempt: int, share: float) -> str | None:
    """How this attempt fails, None where it is answered.

    One fault in seven is permanent and decided by the request alone; the others are drawn anew for each
    attempt, so that asking again helps.

    Args:
        attempt: from 0.
        share: of the first attempts, in [0, 1].
    """
    if _uniform(digest, b"permanent") < share / len(KINDS):
        return PERMANENT
    lucky = 1 - share / len(KINDS)
    drawn = _uniform(digest, attempt.to_bytes(4, "big")) * lucky / (share / len(KINDS)) if share else math.inf
    return TRANSIENT[int(drawn)] if drawn < len(TRANSIENT) else None


def _uniform(digest: bytes, salt: bytes) -> float:
    number = hashlib.blake2b(digest + salt, digest_size=6).digest()
    return int.from_bytes(number, "big") / 2**48


# ---------------------------------------------------------------------------------------------- answers

_WORDS = """
plain pale matte glossy dotted small large upper lower left right middle narrow broad round edge corner
circle square triangle line label number axis border row column shape distance height width centre gap
overlap pattern colour area value shows stands lies touches crosses measures equals exceeds matches counts
follows keeps whole half even odd bare curved near above below between beside inside outside along about
almost exactly hardly clearly first second third next last each every other same another with without from
towards across its their
"""
_SEEN = "Four red circles lie on a plain ground."  # the one thing that description and chain both state
_LOOKS = (
    "Looking back at the image, I count the circles once more",
    "Wait, let me look back at the picture and check the corner again",
    "Let me re-check the third bar in the figure",
)


def build_templates(model: str, tokens: int) -> dict[str, list[bytes]]:
    """Whole bodies of answers by task, with three places for `%`: mark, prompt tokens, all tokens."""
    draw = random.Random(0)
    return {
        task: [_template(model, _text(task, tokens, draw), tokens) for _ in range(VARIANTS)] for task in TASKS
    }


def build_body(templates: dict[str, list[bytes]], asked: Asked, tokens: int) -> bytes:
    """The answer to a request."""
    variants = templates[asked.task]
    prompt_tokens = asked.characters // 4
    mark = asked.digest.hex().encode()
    return variants[asked.digest[0] % len(variants)] % (mark, mark, prompt_tokens, prompt_tokens + tokens)


def _template(model: str, text: str, tokens: int) -> bytes:
    message = {"role": "assistant", "content": text}
    body = {
        "id": "chatcmpl-MARK",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": "PROMPT", "completion_tokens": tokens, "total_tokens": "TOTAL"},
    }
    encoded = json.dumps(body).replace("%", "%%").replace("MARK", "%s")
    return encoded.replace('"PROMPT"', "%d").replace('"TOTAL"', "%d").encode()


def _text(task: str, tokens: int, draw: random.Random) -> str:
    """Prose of about so many words and marks; an anchor's passes avar's filters for the answer 4."""
    if task == "anchor":
        body = _prose(tokens - 30, draw, looks=True)
        return f"<think>View MARK. {_SEEN} {body} The count of four holds.</think><answer>{ANSWER}</answer>"
    end = f"Final answer: {ANSWER}" if task == "reason" else f"<answer>{ANSWER}</answer>"
    return f"View MARK. {_SEEN} {_prose(tokens - 25, draw)} {'' if task == 'describe' else end}".strip()


def _prose(tokens: int, draw: random.Random, *, looks: bool = False) -> str:
    sentences: list[str] = []
    used, vocabulary = 0, _WORDS.split()
    while used < tokens:
        words = draw.choices(vocabulary, k=draw.randint(8, 14))
        if looks and len(sentences) % 4 == 0:
            words = [*_LOOKS[len(sentences) // 4 % len(_LOOKS)].split(), "and", *words]
        sentences.append(" ".join(words).capitalize() if not looks else " ".join(words))
        used += len(words) + 1
    return ". ".join(sentences) + "."
