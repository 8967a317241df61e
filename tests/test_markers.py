"""Which words a row may not hold, and the many alike that it may."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from schemas.records import Draft, Problem, SourceFault
from synth.markers import find_marker
from tests.test_sources import folder, read, row


@pytest.mark.parametrize(
    "marker",
    [
        *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|image_pad|>", "<|0.50|>"),
        *("<|begin of text|>", "<|fim-middle|>", "<｜User｜>", "<｜end▁of▁sentence｜>", "<|turn>", "<turn|>"),
        *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>"),
        *("[IMG_BREAK]", "<IMG_CONTEXT>", "<tool_call>", "</tool_response>", "<end_of_utterance>"),
        *("<think>", "</think>", "<answer>", "</answer>", "<task>", "</question>", "</reasoning>"),
        "</description>",
    ],
)
def test_a_marker_is_refused_by_name(tmp_path: Path, marker: str) -> None:
    text = f"Which is red {marker} or so?"
    rows = [row(question=text), row(choices=["red", text]), row(answer=text), row()]
    columns = ("question", "choices", "answer")
    items = read(folder(tmp_path, rows))
    assert isinstance(items.pop(), Problem)
    for item, column in zip(items, columns, strict=True):
        assert isinstance(item, Draft)
        assert item.failure is not None
        assert item.failure.reason == SourceFault.TEMPLATE_MARKERS
        assert f"column {column!r}: holds {marker!r}" in item.failure.detail


@pytest.mark.parametrize(
    "text",
    [
        *("Is a<b and c>d?", "a < b | c > d", "P(A|B) <= 1", "|x| < 3", "<|x|> is the mean of |x|", "x<|y|"),
        *("<x|y> and <0|H|0>", "$\\langle x | y \\rangle$", "|x|>2", "if a<|b| and |c|>d", "1 << 3 >> 2"),
        *("<image>", "<image1>", "<ImageHere>", "[image]", "<img src='a.png'>", "<s>old</s> new", "<b>x</b>"),
        *("[INSTALL]", "[inst]", "INST", "<SYS>", "im_start", "|im_start|", "<im_end>", "<| |>", "<||>"),
        *("<thinking>", "Think!", "<answers>", "an <answer", "question>", "< 5 answer >", "<td>1</td>"),
        *("<|" + "x" * 41 + "|>", "<|a\nb|>", "<|a$b|>", "List<Task> tasks;", "Is <unknown> red?"),
    ],
)
def test_ordinary_writing_is_no_marker(text: str) -> None:
    assert find_marker(text) is None


@pytest.mark.parametrize("unit", ["<|", "<|a", "<｜a", "< ", "<|" + "a" * 40, "</question", "[INST", "<<SYS"])
def test_markers_are_sought_in_linear_time(unit: str) -> None:
    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        started = time.perf_counter()
        assert find_marker(text) is None
        return time.perf_counter() - started

    assert min(seconds(100_000) for _ in range(3)) < 0.5
