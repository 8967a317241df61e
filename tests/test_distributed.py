"""Two processes train what one does: the same figures at every step, the same weights at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import grpo_in_processes
from tests.conftest import ROOT
from tests.ports import free_port
from tests.test_sft import FIGURES
from tests.train_in_processes import STEPS, main

LIMIT_S = 120
LOGGED = FIGURES | {
    *("num_tokens", "grad_norm_lm", "grad_norm_enhance", "grad_norm_suppress"),
    *("held_out_image_gain", "held_out_image_share", "held_out_vas_median"),
}


def train_in_two(out: Path, program: str = "train_in_processes", batch_size: int = 2) -> None:
    """`tests/program.py` under `accelerate launch`: two processes that talk over gloo.

    `--multi_gpu` is the launcher's way to several processes; with `--cpu` it starts a single one, whatever
    number it is given. The script itself asks for CPUs.
    """
    options = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no"]
    options += ["--dynamo_backend=no", f"--main_process_port={free_port()}"]
    # A module, not a file: a file's folder would be on the path, where `tests/vllm` looks like the package.
    script = ["--module", f"tests.{program}", str(out), str(batch_size)]
    log = out.with_suffix(".log")
    with log.open("w") as file:
        launcher = subprocess.Popen(
            [sys.executable, "-m", "accelerate.commands.launch", *options, *script],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=file,
            start_new_session=True,  # so that the workers can be stopped with it
        )
        try:
            code = launcher.wait(LIMIT_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(launcher.pid, signal.SIGKILL)
    assert code == 0, log.read_text()[-2000:]


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    main(tmp_path / "one.pt", 4)
    train_in_two(tmp_path / "two.pt")
    one, two = (load(tmp_path / name) for name in ("one.pt", "two.pt"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["history"]) == len(two["history"]) == STEPS
    for alone, together in zip(one["history"], two["history"], strict=True):
        assert alone.keys() == together.keys()
        for name in LOGGED & alone.keys():
            close = pytest.approx(alone[name], rel=1e-4, abs=1e-6)
            assert together[name] == close, f"step {alone['step']:.0f}: {name}"
    assert set().union(*one["history"]) >= LOGGED
    assert {entry["without_image"] for entry in one["history"]} == {0, 1}, "processes must differ"
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_group_may_be_shared_by_two_processes(tmp_path: Path) -> None:
    """GRPO: four completions of a group here and four there give the rewards and the step of eight."""
    grpo_in_processes.main(tmp_path / "one.pt", 8)
    train_in_two(tmp_path / "two.pt", "grpo_in_processes", 4)
    one, two = (load(tmp_path / name) for name in ("one.pt", "two.pt"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["history"]) == len(two["history"]) == grpo_in_processes.STEPS
    for alone, together in zip(one["history"], two["history"], strict=True):
        assert alone.keys() == together.keys()
        assert alone["read"] == 4 and alone["response_vas"] > 0
        for name in alone.keys() - {"step_time", "epoch"}:
            close = pytest.approx(alone[name], rel=1e-3, abs=1e-5)
            assert together[name] == close, f"step {alone['step']:.0f}: {name}"
    for name, weight in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], weight, rtol=1e-3, atol=1e-4)


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)
