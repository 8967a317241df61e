"""Several processes train what one does: the same figures at every step, the same weights at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

from flows.recipes import load_recipe
from flows.train import TRAINING_FILE, train_run
from tests import grpo_in_processes
from tests.conftest import ROOT
from tests.ports import free_port
from tests.test_sft import FIGURES
from tests.train_folder import train_command, write_dataset, write_student
from tests.train_in_processes import train, uneven_rows
from trainer.checkpoints import load_model

CONFIGS = ROOT / "docs" / "accelerate"
LIMIT_S = 120
STEPS = 6
SETTINGS: dict[str, Any] = {
    "steps": STEPS,
    "learning_rate": 1e-3,
    "guided__form": "paper",
    "guided__alpha": 0.05,
    "guided__beta": 0.05,
    "diagnostics_every": 3,
    "watch_every": 4,
    "watch_rows": 4,
    "save_every": 4,
}
LOGGED = FIGURES | {
    *("num_tokens", "grad_norm_lm", "grad_norm_enhance", "grad_norm_suppress"),
    *("held_out_image_gain", "held_out_image_share", "held_out_vas_median"),
}


def launch(launcher: list[str], log: Path, **environment: str) -> str:
    """Two processes that talk over gloo, and what they write on standard output; the rest goes to `log`."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *launcher],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            start_new_session=True,  # so that the workers can be stopped with it
        )
        try:
            said, _ = process.communicate(timeout=LIMIT_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, log.read_text()[-2000:]
    return said


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    """The real command under `accelerate launch` with the shipped file; only one process writes and prints.

    `--cpu` would start a single process, whatever number it is given; without a GPU the training takes CPUs.
    """
    data, model = write_dataset(tmp_path / "data", uneven_rows()), write_student(tmp_path / "student")
    command = train_command(data, model, tmp_path / "one", **SETTINGS)
    sets = [value for flag, value in pairwise(command) if flag == "--set"]
    train_run(load_recipe("demo", sets), data, tmp_path / "one")

    options = ["--config_file", str(CONFIGS / "multi_gpu.yaml"), "--num_processes=2", "--mixed_precision=no"]
    options += [f"--main_process_port={free_port()}", "-m", "flows.cli"]
    command = train_command(data, model, tmp_path / "two", "--json", **SETTINGS | {"batch_size": 2})
    said = launch(["accelerate.commands.launch", *options, *command], tmp_path / "log")
    (line,) = said.splitlines()
    log = (tmp_path / "log").read_text()
    assert log.count(f"train: {STEPS}/{STEPS}") == 1, log

    one, two = (json.loads((tmp_path / name / TRAINING_FILE).read_text()) for name in ("one", "two"))
    assert json.loads(line)["history"] == two["history"]
    assert len(one["history"]) == len(two["history"]) == STEPS
    for alone, together in zip(one["history"], two["history"], strict=True):
        assert alone.keys() == together.keys()
        for name in LOGGED & alone.keys():
            close = pytest.approx(alone[name], rel=1e-4, abs=1e-6)
            assert together[name] == close, f"step {alone['step']:.0f}: {name}"
    assert set().union(*one["history"]) >= LOGGED
    assert {entry["without_image"] for entry in one["history"]} == {0, 1}, "processes must differ"
    weights = load_model(tmp_path / "two")[0].state_dict()
    for name, weight in load_model(tmp_path / "one")[0].state_dict().items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-3, atol=1e-5, msg=name)
    assert {path.name for path in (tmp_path / "two" / "checkpoint-4").glob("rng*")} == {
        "rng_state_0.pth",
        "rng_state_1.pth",
    }


@pytest.mark.long
def test_sharded_parameters_train_and_resume_alike(tmp_path: Path) -> None:
    """FSDP2 with fsdp.yaml's settings: the guided loss is recorded, checkpoints and model are whole."""
    student = write_student(tmp_path / "student")
    expected = train(student, tmp_path / "one", 4)
    settings: Any = load_config_from_file(str(CONFIGS / "fsdp.yaml"))
    environment = {name.upper(): str(value) for name, value in settings.fsdp_config.items()}
    script = ["-m", "tests.train_in_processes", str(student), str(tmp_path / "two")]
    launcher = ["torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}", *script]
    said = launch(launcher, tmp_path / "log", ACCELERATE_USE_FSDP="true", **environment)
    assert said.count("stopped after step 2 of 4") == 2
    assert (tmp_path / "two" / "checkpoint-2" / "pytorch_model_fsdp.bin").is_file(), "it was not sharded"

    found = torch.load(tmp_path / "two" / "report.pt", weights_only=True)
    for alone, together in zip(expected.history, found["history"], strict=True):
        for name in FIGURES & alone.keys():
            close = pytest.approx(alone[name], rel=1e-4, abs=1e-6)
            assert together[name] == close, f"step {alone['step']:.0f}: {name}"
    for folder in ("", "checkpoint-4"):
        weights = load_model(tmp_path / "two" / folder)[0].state_dict()
        for name, weight in load_model(tmp_path / "one")[0].state_dict().items():
            torch.testing.assert_close(weights[name], weight, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_every_shipped_file(path: Path) -> None:
    config: Any = load_config_from_file(str(path))
    assert type(config).__name__ == ClusterConfig.__name__
    kinds = {"multi_gpu": "MULTI_GPU", "fsdp": "FSDP"}
    assert str(getattr(config.distributed_type, "value", config.distributed_type)) == kinds.get(
        path.stem, "DEEPSPEED"
    )
    if path.stem.startswith("deepspeed"):
        assert config.deepspeed_config["zero_stage"] == int(path.stem[-1])
    assert f"docs/accelerate/{path.name} -m flows.cli train sft" in path.read_text()


def test_there_are_files_for_each_way_to_shard() -> None:
    names = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert names == {"multi_gpu", "fsdp", "deepspeed_zero2", "deepspeed_zero3"}


@pytest.mark.long
def test_a_group_may_be_shared_by_two_processes(tmp_path: Path) -> None:
    """GRPO: four completions of a group here and four there give the rewards and the step of eight."""
    grpo_in_processes.main(tmp_path / "one.pt", 8)
    options = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no"]
    options += ["--dynamo_backend=no", f"--main_process_port={free_port()}"]
    # A module, not a file: a file's folder would be on the path, where `tests/vllm` looks like the package.
    script = ["--module", "tests.grpo_in_processes", str(tmp_path / "two.pt"), "4"]
    launch(["accelerate.commands.launch", *options, *script], tmp_path / "log")
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
