"""The attention benchmark runs, and every candidate in it computes the same loss: speeds of unlike things say
nothing. No time is asserted."""

from __future__ import annotations

import json

import pytest
import torch

from tests.bench import attention, steps
from tests.bench.meter import make_meter

SHAPE = steps.Shape(
    device="cpu",
    dtype=torch.float32,
    sequences=(64,),
    config={
        "num_hidden_layers": 2,
        "hidden_size": 256,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
)
ELSEWHERE = {"columns, cudnn", "columns, efficient", "narrow, cudnn", "narrow, efficient"}
ELSEWHERE |= {"flex lse", "flash-attn 2"}  # need a GPU, or a package


@pytest.mark.parametrize("name", sorted(set(steps.VARIANTS) - ELSEWHERE - {"plain", "ours"}))
def test_every_variant_has_the_loss_of_ours(name: str) -> None:
    model, (inputs, regions) = steps.make_model(SHAPE), steps.make_batch(64, "cpu")
    gradients = []
    losses = []
    for variant in ("ours", name):
        model.zero_grad()
        loss = steps.VARIANTS[variant](model, inputs, regions)
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    largest = float(gradients[0].abs().max())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-4 * largest)
    plain = steps.VARIANTS["plain"](model, inputs, regions).item()
    assert abs(losses[0] - plain) > 0.005, "the guided loss is in it"


def test_the_benchmark_prints_a_line_a_case(capfd: pytest.CaptureFixture[str]) -> None:
    attention.main(["--json", "--sequences", "64", "--rounds", "1", "--vas", "0"])
    captured = capfd.readouterr()
    cases = [json.loads(line) for line in captured.out.splitlines() if line]
    found = [(case["device"], case["seq"], case["variant"]) for case in cases if case["device"] == "cpu"]
    assert found == [("cpu", 64, "plain"), ("cpu", 64, "ours"), ("cpu", 64, "maps")]
    assert (cases[0]["time_ratio"], cases[0]["memory_ratio"]) == (1, 1)
    assert all(case["time_ratio"] > 0 and case["memory_ratio"] > 0 for case in cases)
    if not torch.cuda.is_available():
        assert "no CUDA device: the CUDA part was skipped" in captured.err


def test_a_backend_that_cannot_run_says_why() -> None:
    names = ["columns, cudnn", "selected"]
    usable, notes = attention._usable(SHAPE, 64, names)
    assert "selected" in usable
    assert torch.cuda.is_available() or notes.keys() == {"columns, cudnn"}


def test_the_meter_sees_memory_and_time() -> None:
    meter = make_meter("cpu")
    held = []
    assert meter.peak(lambda: held.append(torch.ones(64 * 2**20, dtype=torch.uint8))) > 60 * 2**20
    assert meter.peak(lambda: None) < 8 * 2**20
    assert meter.seconds(lambda: sum(range(200_000))) > 0
