"""`avar teacher serve` with a program that stands for vLLM: what it is started with, and how it ends."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from flows.children import answers
from flows.teacher_server import ServerPlan, count_gpus, require_free_port, require_model
from flows.vllm_flags import choose_flags, remark_on, require_gpus
from schemas.errors import ConfigError
from tests.conftest import ROOT, Ran, avar
from tests.ports import free_port
from tests.vllm_server import Server

# Knows the flags that avar chooses but one, serves on the loopback, and has a child that will not go.
FAKE = '''#!{python}
import http.server, os, pathlib, signal, subprocess, sys
here = pathlib.Path(__file__).parent
if "--help=all" in sys.argv:
    with (here / "helped").open("a") as calls:
        calls.write("x")
    print("""usage: vllm serve
  --host HOST           Where.
  --port PORT           Where.
  --enable-prefix-caching, --no-enable-prefix-caching
  --enable-chunked-prefill, --no-enable-chunked-prefill
  --limit-mm-per-prompt LIMIT
  --mm-processor-cache-gb GB
  --max-num-batched-tokens N
  --max-model-len, -mml N
  --enforce-eager
  --enable-prompt-tokens-details
  --api-key KEY
  --dtype TYPE""")
    sys.exit()
print("fake:", *sys.argv[1:], flush=True)
mode = os.environ.get("FAKE", "serve")
if mode == "die":
    sys.exit(3)
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
if mode == "stubborn":
    subprocess.Popen([sys.executable, "-c", stubborn])
class Models(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(401)
        self.end_headers()
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Models).serve_forever()
'''


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program, and a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    program = tmp_path / "vllm"
    program.write_text(FAKE.replace("{python}", sys.executable))
    program.chmod(0o755)
    return program


def serve(*arguments: str | Path, environment: dict[str, str] | None = None) -> Ran:
    """The command, run until it ends; it needs no Prefect."""
    return avar("teacher", "serve", *arguments, own_prefect=True, environment=environment, timeout=60)


@contextmanager
def serving(fake: Path, tmp_path: Path, mode: str = "serve") -> Iterator[tuple[psutil.Process, Path, int]]:
    """The command in the background once it has said that the model answers: process, log and port."""
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "flows.cli", "teacher", "serve", "owner/name", "--vllm", str(fake)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"FAKE": mode},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 30
        while " answers at " not in log.read_text() and time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield psutil.Process(process.pid), log, port
    finally:
        process.kill()
        process.wait()


# ------------------------------------------------------------------------------------------- the command


def test_a_dry_run_prints_a_command_for_the_shell_and_starts_nothing() -> None:
    ran = serve("owner/name", "--dry-run", "--vllm", "/no/vllm", "--port", "8123", "--max-num-seqs", "256")
    assert ran.code == 0, ran.err
    words = shlex.split(ran.out)
    assert words[0] == "env"
    assert "VLLM_NO_USAGE_STATS=1" in words
    assert words[words.index("serve") :][:6] == [
        "serve",
        "owner/name",
        "--host",
        "127.0.0.1",
        "--port",
        "8123",
    ]
    assert {"--enable-prefix-caching", "--enable-prompt-tokens-details", "--mm-processor-cache-gb"} <= {
        *words
    }
    assert words[words.index("--max-num-seqs") + 1] == "256"


@pytest.mark.parametrize(
    ("given", "there", "gone"),
    [
        ("--no-enable-prefix-caching", "--no-enable-prefix-caching", "--enable-prefix-caching"),
        ("--limit-mm-per-prompt.video 1", "--limit-mm-per-prompt.video 1", "audio"),
        ("--mm_processor_cache_gb=16", "--mm-processor-cache-gb 16", "--mm-processor-cache-gb 2"),
        ("--enable-chunked-prefill", "--enable-chunked-prefill", "--no-enable-chunked-prefill"),
        ("-tp 2", "--tensor-parallel-size 2", "-tp"),
        ("--max-logprobs -1", "--max-logprobs -1", "--1"),
        ("--api-key secret", "--api-key ***", "secret"),
    ],
)
def test_a_persons_flag_replaces_avars_and_secrets_are_not_shown(given: str, there: str, gone: str) -> None:
    flags = choose_flags(given.split(), cpu=True)
    shown = [" ".join(flag.shown) for flag in flags.flags]
    assert there in shown
    assert not any(line.startswith(gone) or gone in line.split() for line in shown)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--enable-prefix-caching --no-enable-prefix-caching", "contradict each other"),
        ("--max-model-len 1024 --max_model_len=2048", "--max-model-len 1024 and --max-model-len 2048"),
        ("-tp 2 --tensor-parallel-size 4", "contradict each other"),
        ("--port 9000", "--port is avar's own"),
        ("--headless", "nothing would answer"),
        ("--uds /tmp/x", "nothing would answer"),
        ("32768", "'32768' stands where a flag"),
        ("--max-num-batched-tokens 512 --no-enable-chunked-prefill --max-model-len 2048", "less than"),
    ],
)
def test_flags_that_cannot_be_meant_together_are_one_line(flags: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        choose_flags(flags.split(), cpu=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", ["32k", "auto", "-1", "1024"])
def test_lengths_are_written_as_vllm_takes_them(length: str) -> None:
    flags = choose_flags(["--max-model-len", length], cpu=True)
    assert flags.value("--max-model-len") == length


def test_the_same_flag_twice_is_no_contradiction() -> None:
    flags = choose_flags(["-tp", "2", "--tensor-parallel-size=2"], cpu=False)
    assert [flag.words for flag in flags.flags].count(("--tensor-parallel-size", "2")) == 1


@pytest.mark.parametrize(
    ("flags", "cpu", "words"),
    [
        ("--enable-chunked-prefill", True, "kills the engine"),
        ("--enable-chunked-prefill", False, None),
        ("--mm-processor-cache-gb 0", False, "teacher.reuse_images=false"),
        ("--data-parallel-size 4", False, "--api-server-count 1"),
        ("--data-parallel-size 4 --api-server-count 1", False, None),
        ("", True, None),
        ("", False, None),
    ],
)
def test_what_costs_something_is_remarked_on(flags: str, cpu: bool, words: str | None) -> None:
    chosen = choose_flags(flags.split(), cpu=cpu)
    remarks = remark_on(chosen, chosen, cpu=cpu)
    assert (len(remarks) == 1 and words in remarks[0]) if words else not remarks


# ------------------------------------------------------------------------------------------- the checks


@pytest.mark.parametrize(
    ("flags", "gpus", "words"),
    [
        ("", 1, None),
        ("", 0, "needs 1 GPUs, found 0"),
        ("--tensor-parallel-size 2 --data-parallel-size 4", 8, None),
        ("--tensor-parallel-size 4 --data-parallel-size 4", 8, "4 x 1 x 4 needs 16 GPUs, found 8"),
        ("-tp 8 -pp 2 --nnodes 2", 8, None),
        ("-tp two", 8, "--tensor-parallel-size two: a whole number"),
    ],
)
def test_the_gpus_must_suffice(flags: str, gpus: int, words: str | None) -> None:
    chosen = choose_flags(flags.split(), cpu=False)
    if words is None:
        require_gpus(chosen, gpus)
        return
    with pytest.raises(ConfigError, match=words):
        require_gpus(chosen, gpus)


@pytest.mark.parametrize(("visible", "gpus"), [(None, 3), ("0,2", 2), ("", 0)])
def test_gpus_are_counted_as_vllm_sees_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, gpus: int
) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nfor i in 0 1 2; do echo GPU $i: H200; done\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_gpus() == gpus


@pytest.mark.parametrize("model", ["/no/such", "./model", "~/model", "a/b/c"])
def test_a_folder_that_is_not_there_is_no_model(model: str) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        require_model(model)


def test_a_folder_must_hold_a_model_and_a_name_on_the_hub_is_left_to_vllm(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config\.json"):
        require_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    require_model(str(tmp_path))
    require_model("Qwen/Qwen2.5-VL-7B-Instruct")


def test_a_port_where_something_listens_is_taken_whatever_it_speaks() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} on 127.0.0.1: Address already in use"):
            require_free_port("127.0.0.1", port)
    require_free_port("127.0.0.1", free_port())
    with pytest.raises(ConfigError, match=r"--host no\.such\.host\.invalid"):
        require_free_port("no.such.host.invalid", 8000)


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000"), ("gpu1", "http://gpu1:8000")],
)
def test_the_url_is_one_that_a_client_can_use(host: str, url: str) -> None:
    assert ServerPlan(model="m", host=host).url == url


def test_an_unknown_flag_is_refused_before_the_start_with_the_nearest_right_one(fake: Path) -> None:
    arguments = ("owner/name", "--vllm", fake, "--port", str(free_port()), "--")
    for _ in range(2):
        ran = serve(*arguments, "--max-modell-len", "9")
        assert ran.code == 2
        assert "knows no flag --max-modell-len; the nearest is --max-model-len" in ran.err
        assert "fake:" not in ran.out
    assert (fake.parent / "helped").read_text() == "x"  # asked once, then remembered


@pytest.mark.parametrize(("script", "words"), [("exit 1", "exit code 1"), ("echo hello", "names no --port")])
def test_a_program_that_is_not_vllm_is_one_line(fake: Path, script: str, words: str) -> None:
    fake.write_text(f"#!/bin/sh\n{script}\n")
    ran = serve("owner/name", "--vllm", fake, "--port", str(free_port()))
    assert ran.code == 2
    assert words in ran.err
    assert ran.err.count("\n") == 1


# ------------------------------------------------------------------------------------------- start and end


def test_a_start_that_fails_says_the_exit_code_after_vllms_own_log(fake: Path) -> None:
    arguments = ("--host", "0.0.0.0", "--vllm", fake, "--port", str(free_port()))
    ran = serve("owner/name", *arguments, environment={"FAKE": "die"})
    assert ran.code == 1
    assert "fake: serve owner/name" in ran.out
    assert "vllm ended while starting, exit code 3" in ran.err.splitlines()[-1]
    assert "there is no key" in ran.err
    assert "this vllm has no --disable-access-log-for-endpoints: left out" in ran.err
    assert "--disable-access-log-for-endpoints" not in ran.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_leaves_no_process(fake: Path, tmp_path: Path, number: signal.Signals) -> None:
    with serving(fake, tmp_path, "stubborn") as (command, log, port):
        assert f"owner/name answers at http://127.0.0.1:{port} after" in log.read_text()
        assert f"avar run folder --set teacher.url=http://127.0.0.1:{port}" in log.read_text()
        started = command.children(recursive=True)
        assert len(started) == 2
        command.send_signal(number)
        assert command.wait(15) == 130
        _, left = psutil.wait_procs(started, timeout=2)
        assert not left, [process.cmdline() for process in left]
    assert "Traceback" not in log.read_text()


def test_a_killed_command_takes_the_server_with_it(fake: Path, tmp_path: Path) -> None:
    with serving(fake, tmp_path) as (command, _, port):
        [server] = command.children()
        assert answers(f"http://127.0.0.1:{port}", any_status=True)
        command.kill()
        _, left = psutil.wait_procs([server], timeout=5)
        assert not left


def test_a_server_that_is_killed_ends_the_command_with_one_line(fake: Path, tmp_path: Path) -> None:
    with serving(fake, tmp_path) as (command, log, _):
        [server] = command.children()
        server.kill()
        assert command.wait(10) == 1
    assert "avar: vllm ended, killed by SIGKILL" in log.read_text().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--dry-run",), "no command to print"), (("--", "--dtype", "x"), "takes no flags")],
)
def test_the_embedded_teacher_has_no_flags_of_vllms(arguments: tuple[str, ...], words: str) -> None:
    ran = serve("embedded", *arguments)
    assert ran.code == 2
    assert words in ran.err


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_the_installed_vllm_knows_every_flag_that_avar_chooses(server: Server) -> None:
    log = server.log.read_text()
    assert "left out" not in log
    assert f"avar: tiny answers at {server.url} after" in log
    assert "test-key" not in log.split("answers at")[0].split("serve ")[1].splitlines()[0]
