"""A real vLLM with a tiny random Qwen2.5-VL, one for all tests that are marked `vllm`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from flows.children import wait_until_ready
from flows.teacher_server import find_vllm
from schemas.errors import ConfigError
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
KEY = "test-key"
KEYED = {"TEACHER_KEY": KEY}
CONTEXT = 2048
QUEUE = 24  # requests at one time; more are answered 503
_START_S = 240.0


@dataclass(frozen=True)
class Server:
    """A running vLLM."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def settings(self) -> dict[str, object]:
        """What `TeacherSettings` takes to ask it."""
        os.environ["TEACHER_KEY"] = KEY
        return {"url": self.url, "model": "tiny", "api_key_env": "TEACHER_KEY"}


@pytest.fixture(scope="session", name="model_folder")
def save_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen2.5-VL, saved as any Hugging Face model."""
    from schemas.config import ScenesSource, StudentSettings
    from synth.prompts import anchor_prompt, describe_prompt, reason_prompt
    from synth.scenes import draw_problems
    from trainer.student import build_student, save_student

    problems = list(draw_problems(ScenesSource(count=20), 0))
    texts = [t for p in problems for t in (describe_prompt(p), reason_prompt(p, "x"), anchor_prompt(p, "y"))]
    folder = tmp_path_factory.mktemp("model") / "tiny"
    return save_student(*build_student(StudentSettings(), texts, seed=0), folder)


@pytest.fixture(scope="session", name="server")
def serve_tiny_model(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`avar teacher serve` on a free port, with a key and a queue of `QUEUE` requests. Nobody may kill it."""
    require_vllm()
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    started = start(model_folder, free_port(), log, "--max-num-queued-reqs", str(QUEUE))
    try:
        yield await_start(started)
    finally:
        stop(started.process)


class Mortal:
    """A server of its own for tests in which it dies: it stays on one port."""

    def __init__(self, model_folder: Path, log: Path) -> None:
        self.port = free_port()
        self._model_folder = model_folder
        self._log = log
        self._server: Server | None = None

    def start(self, *flags: str) -> Server:
        """Starts it, with further flags of vLLM's, where the last one has ended."""
        assert self._server is None or self._server.process.poll() is not None, "it lives"
        self._server = start(self._model_folder, self.port, self._log, *flags)
        return await_start(self._server)

    def alive(self) -> Server:
        """The server as the last test left it, or a new one where it died."""
        if self._server is None or self._server.process.poll() is not None:
            return self.start()
        return self._server

    def stop(self) -> None:
        """Ends it if it lives."""
        if self._server is not None:
            stop(self._server.process)


@pytest.fixture(scope="session", name="mortal")
def lend_mortal(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    """A server that tests start, kill and start again."""
    require_vllm()
    mortal = Mortal(model_folder, tmp_path_factory.mktemp("mortal") / "server.log")
    try:
        yield mortal
    finally:
        mortal.stop()


def require_vllm() -> None:
    """Skips the test where no vLLM is installed."""
    try:
        find_vllm(None)
    except ConfigError as error:
        pytest.skip(str(error))


def start(model_folder: Path, port: int, log: Path, *flags: str) -> Server:
    """Begins `avar teacher serve` with further flags of vLLM's; `await_start` waits for it."""
    own = ("--served-model-name", "tiny", "--max-model-len", str(CONTEXT), "--api-key", KEY)
    serve = ("teacher", "serve", str(model_folder), "--port", str(port), "--", *own, *flags)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *serve],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Server(process, f"http://127.0.0.1:{port}", log)


def await_start(server: Server) -> Server:
    """Waits until a server that was begun answers."""
    wait_until_ready(server.process, f"{server.url}/health", server.log, limit_s=_START_S)
    return server


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends `avar teacher serve`, and checks that it ends vLLM and every process of vLLM's."""
    started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    process.wait(40)
    _, left = psutil.wait_procs(started, timeout=10)
    for survivor in left:
        survivor.kill()
    assert not left
