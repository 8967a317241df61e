"""`avar teacher serve`: vLLM with the flags that matter here, or avar's own teacher.

vLLM lives in an environment of its own (`make vllm-env`), since its fastapi and Prefect's exclude each other.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.children import answers, stop_child
from schemas.errors import ConfigError

_PR_SET_PDEATHSIG = 1
_STOP_S = 20.0  # vLLM's main process ends its engines first
# No telemetry; on a CPU, what makes the first request quick and the engine steady.
ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
CPU_ENVIRONMENT = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "auto",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "TORCHDYNAMO_DISABLE": "1",
}
# A seed and a prompt split by chunked prefill kill the engine on CPU; a large batch never splits one.
CPU_FLAGS = ("--enforce-eager", "--max-num-batched-tokens", "131072", "--dtype", "bfloat16")


def find_vllm(executable: str | None) -> Path:
    """The vllm program.

    Raises: ConfigError: there is none, with how to get one.
    """
    beside = Path(sys.prefix).parent / ".venv-vllm" / "bin" / "vllm"
    found = executable or (str(beside) if beside.is_file() else shutil.which("vllm"))
    if found is None or not os.access(found, os.X_OK) or not Path(found).is_file():
        raise ConfigError(
            f"no vllm program{f' at {executable}' if executable else ''}: `make vllm-env` installs one in "
            ".venv-vllm, or name yours with --vllm PATH"
        )
    return Path(found)


def vllm_command(
    vllm: Path, model: str, host: str, port: int, *, cpu: bool, flags: Sequence[str] = ()
) -> list[str]:
    """`vllm serve` for synthesis: prefix caching on, since every stage's prompt begins alike."""
    command = [str(vllm), "serve", model, "--host", host, "--port", str(port), "--enable-prefix-caching"]
    return [*command, *(CPU_FLAGS if cpu else ()), *flags]


def vllm_environment(*, cpu: bool) -> Mapping[str, str]:
    """The environment vLLM runs in. PYTHONPATH is not passed on: it names packages of this one."""
    inherited = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return inherited | ENVIRONMENT | (CPU_ENVIRONMENT if cpu else {})


def serve_vllm(model: str, host: str, port: int, executable: str | None, flags: Sequence[str]) -> int:
    """Runs vLLM in the foreground until it ends. Returns: its exit code.

    Raises: ConfigError: no vllm program, or something answers at the port already.
    """
    vllm = find_vllm(executable)
    if answers(f"http://{host}:{port}/v1/models"):
        raise ConfigError(f"port {port}: a server answers there already; choose another --port")
    cpu = not _has_gpu()
    command = vllm_command(vllm, model, host, port, cpu=cpu, flags=flags)
    print(f"avar: {' '.join(command)}", file=sys.stderr)
    server = subprocess.Popen(
        command, env=dict(vllm_environment(cpu=cpu)), start_new_session=True, preexec_fn=_end_with_parent
    )
    try:
        return server.wait()
    finally:
        stop_child(server, _STOP_S)


def serve_embedded(host: str, port: int) -> None:
    """Runs avar's teacher for procedural scenes in the foreground until it is stopped."""
    import uvicorn

    from synth.embedded import app

    uvicorn.run(app, host=host, port=port, log_level="info")


def _has_gpu() -> bool:
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def _end_with_parent() -> None:
    """On Linux the kernel ends vLLM's main process with avar, however avar ends; vLLM then ends its own."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
