"""What `avar train sft` saves is a model in standard form: vLLM writes with it what transformers writes."""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.recipes import load_recipe
from flows.train import train_run
from tests.ports import free_port
from tests.tiny import make_row
from tests.train_folder import write_dataset, write_student
from tests.vllm_server import KEY, await_start, require_vllm, start, stop
from trainer.checkpoints import load_model
from trainer.messages import SYSTEM_PROMPT, encode, to_messages

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(420)]

STEPS, TOKENS = 40, 40
PROMPTS = [make_row(index) for index in (0, 3, 5, 101, 102)]  # rows it has learned from, and others


def train(tmp_path: Path) -> Path:
    """The tests' student after a short guided training in float32."""
    data, student = write_dataset(tmp_path / "data"), write_student(tmp_path / "student")
    sets = {"model": student, "steps": STEPS, "batch_size": 8, "learning_rate": 3e-3, "watch_every": 0}
    recipe = load_recipe("demo", [f"train.{name}={value}" for name, value in sets.items()])
    return train_run(recipe, data, tmp_path / "model").model_path


def write_with_transformers(folder: Path) -> list[str]:
    loaded, processor = load_model(folder)
    model: Any = loaded
    assert model.dtype == torch.float32
    tokenizer: Any = getattr(processor, "tokenizer")  # noqa: B009
    texts = []
    for row in PROMPTS:
        encoded = encode(processor, [to_messages(row, with_response=False)], add_generation_prompt=True)
        generated: Any = model.generate(**encoded, max_new_tokens=TOKENS, do_sample=False)
        reply = generated[0, encoded["input_ids"].shape[1] :]
        texts.append(tokenizer.decode(reply, skip_special_tokens=True))
    return texts


def write_with_vllm(url: str) -> list[str]:
    texts = []
    for row in PROMPTS:
        image = base64.b64encode(row["images"][0]["bytes"]).decode()
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
            {"type": "text", "text": row["question"]},
        ]
        messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": content}]
        asked = {"model": "tiny", "messages": messages, "temperature": 0.0, "max_tokens": TOKENS}
        request = urllib.request.Request(
            f"{url}/v1/chat/completions",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            texts.append(json.load(answer)["choices"][0]["message"]["content"])
    return texts


def test_vllm_writes_what_transformers_writes(tmp_path: Path) -> None:
    require_vllm()
    folder = train(tmp_path)
    expected = write_with_transformers(folder)
    assert len(set(expected)) > 1 and any("discs" in text for text in expected), expected
    server = start(folder, free_port(), tmp_path / "server.log", "--dtype", "float32")
    try:
        assert write_with_vllm(await_start(server).url) == expected
    finally:
        stop(server.process)
