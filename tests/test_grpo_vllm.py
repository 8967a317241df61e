"""GRPO with a vLLM server that samples: everything but the weights' way there, which needs two GPUs.

TRL's client wants the package vllm in the trainer's environment, for the NCCL transfer alone. Here it is told
that there is one; what it then says to the server, and what comes back, is real.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pytest
from trl.generation import vllm_client, vllm_generation
from trl.generation.vllm_client import VLLMClient

from schemas.config import GrpoSettings, RewardSettings, StudentSettings, TrainSettings
from schemas.records import sample_features
from tests.ports import free_port
from tests.tiny import make_row, texts
from tests.vllm_server import ROOT, Server, await_start, require_vllm, stop
from trainer import grpo
from trainer.checkpoints import load_model
from trainer.sft import train_sft
from trainer.student import build_student

pytestmark = [pytest.mark.vllm, pytest.mark.long, pytest.mark.timeout(600)]

FLAGS = (  # docs/training.md
    *("--weight-transfer-config", '{"backend": "nccl"}', "--logprobs-mode", "processed_logprobs"),
    *("--max-logprobs", "-1", "--enable-scale-out"),
)


def rows() -> datasets.Dataset:
    return datasets.Dataset.from_list([make_row(0), make_row(0)], features=sample_features())


@pytest.fixture(scope="module", name="policy")
def train_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that has learned one trace, and ends it."""
    folder = tmp_path_factory.mktemp("policy") / "model"
    student = StudentSettings(vocab_size=640)
    settings = TrainSettings(steps=60, batch_size=2, learning_rate=3e-3, diagnostics_every=0)
    train_sft(*build_student(student, texts(), 0), rows(), settings, seed=0, out_dir=folder, guided=False)
    return folder


@pytest.fixture(scope="module", name="sampler")
def serve_policy(policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The policy behind vLLM, served as docs/training.md says."""
    require_vllm()
    log, port = tmp_path_factory.mktemp("sampler") / "server.log", free_port()
    command = ["-m", "flows.cli", "teacher", "serve", str(policy), "--port", str(port), "--"]
    command += ["--max-model-len", "2048", *FLAGS]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | {"VLLM_SERVER_DEV_MODE": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield await_start(Server(process, f"http://127.0.0.1:{port}", log))
    finally:
        stop(process)


@pytest.fixture(name="as_if_installed")
def pretend_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (vllm_client, vllm_generation):
        monkeypatch.setattr(module, "is_vllm_available", lambda min_version=None: True)
    monkeypatch.setattr(vllm_client, "get_ip", lambda: "127.0.0.1", raising=False)


def parse_renamed(parse: Callable[[list[Any]], Any], choices: list[Any]) -> Any:
    """TRL's reading of log-probabilities, of tokens named as vLLM 0.31 named them."""
    for choice in choices:
        for entry in choice["content"]:
            for token in (entry, *entry["top_logprobs"]):
                token["token"] = f"token_id:{token['token_id']}"
    return parse(choices)


@pytest.mark.usefixtures("as_if_installed")
def test_trls_client_stops_at_nccl_and_nowhere_before(sampler: Server) -> None:
    client = VLLMClient(base_url=sampler.url, connection_timeout=5)
    info = client.get_server_info()
    assert info["weight_transfer_config"] == {"backend": "nccl"}
    assert info["model_config"]["logprobs_mode"] == "processed_logprobs"
    assert client.get_world_size() == 1
    with pytest.raises(NotImplementedError, match="needs a CUDA device, got 'cpu'"):
        client.init_communicator(device="cpu")


@pytest.mark.usefixtures("as_if_installed")
def test_what_a_server_samples_is_rewarded_as_ones_own(
    sampler: Server, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server holds the weights the trainer starts from, so that one step needs no transfer.

    vLLM 0.32 names sampled tokens `token_id`, which TRL's client (up to 0.31) cannot read: they are renamed.
    """
    monkeypatch.setattr(VLLMClient, "init_communicator", lambda self, device=0: None)
    monkeypatch.setattr(vllm_generation.VLLMGeneration, "sync_weights", lambda self: None)
    monkeypatch.setattr(grpo, "_refuse_missing_vllm", lambda settings: None)
    train = partial(grpo.train_grpo, train_rows=rows(), seed=0)
    settings = GrpoSettings(
        steps=1, temperature=0.5, max_new_tokens=40, vllm=sampler.url, rewards=RewardSettings(half=1.0)
    )
    with pytest.raises(KeyError, match="token"):
        train(*load_model(policy), settings=settings, out_dir=tmp_path / "as it is")
    monkeypatch.setattr(vllm_client, "parse_logprobs", partial(parse_renamed, vllm_client.parse_logprobs))
    report = train(*load_model(policy), settings=settings, out_dir=tmp_path / "out")
    (step,) = report.history
    assert step["rewards/accuracy/mean"] > 0.5, "it has learned this trace"
    assert step["read"] == 8 * step["rewards/accuracy/mean"] and step["response_vas"] > 0
    assert step["completions/clipped_ratio"] < 1
    # The image reached the server, at its own places: sampled tokens are as likely here as there (bfloat16).
    assert step["sampling/sampling_logp_difference/mean"] < 0.05


def test_without_the_package_the_setting_is_refused_for_trls_own_reason(policy: Path, tmp_path: Path) -> None:
    settings = GrpoSettings(steps=1, vllm="http://127.0.0.1:9")
    model, processor = load_model(policy)
    processor.tokenizer.padding_side = "left"  # type: ignore[attr-defined]
    keywords: dict[str, Any] = {
        "model": model,
        "args": grpo._arguments(settings, 0, tmp_path),
        "train_dataset": grpo.grpo_dataset(rows(), processor),
        "processing_class": processor,
    }
    with pytest.raises(ImportError, match="vLLM is not available and `use_vllm` is set to True"):
        grpo.VisualGRPOTrainer(**keywords, rewards=settings.rewards)
