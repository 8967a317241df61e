"""`avar teacher serve`: vLLM with the flags that matter here, or avar's own teacher.

vLLM lives in an environment of its own (`make vllm-env`), since its fastapi and Prefect's exclude each other.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.children import answers, stop_child
from flows.vllm_flags import Flags, check_known, choose_flags, read_known_flags, remark_on, require_gpus
from schemas.config import EMBEDDED
from schemas.errors import ConfigError, FlowError

_PR_SET_PDEATHSIG = 1
_STOP_S = 20.0  # vLLM's main process ends its engines first
_LEFT_S = 3.0  # for processes of a server whose main process has ended
_LOOK_S = 0.25
_ANYWHERE = ("0.0.0.0", "::", "")
KEY_VARIABLE = "VLLM_API_KEY"  # vLLM reads it; unlike --api-key, it is in no list of processes
# No telemetry; on a CPU, what makes the first request quick and the engine steady.
ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
CPU_ENVIRONMENT = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "auto",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    "TORCHDYNAMO_DISABLE": "1",
}
_NOT_INHERITED = ("PYTHONPATH", "VIRTUAL_ENV")  # they name packages of this environment


@dataclass(frozen=True, kw_only=True)
class ServerPlan:
    """What is served, where and how.

    Attributes:
        model: a folder, or a name on the Hub.
        executable: the vllm program; None: the one beside avar, or on the path.
        flags: further flags of `vllm serve`.
    """

    model: str
    host: str = "127.0.0.1"
    port: int = 8000
    executable: str | None = None
    flags: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Where a client on this machine finds it."""
        host = "127.0.0.1" if self.host in _ANYWHERE else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


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


def vllm_environment(*, cpu: bool) -> Mapping[str, str]:
    """The environment vLLM runs in."""
    inherited = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    return inherited | _added_environment(cpu=cpu)


def _added_environment(*, cpu: bool) -> dict[str, str]:
    return ENVIRONMENT | (CPU_ENVIRONMENT if cpu else {})


def show_command(plan: ServerPlan) -> str:
    """The command with its environment, as a shell takes it; secrets are starred out. Starts nothing.

    Raises: ConfigError: flags that contradict each other, or the embedded teacher, which has no command.
    """
    if plan.model == EMBEDDED:
        raise ConfigError("--dry-run: the embedded teacher runs in avar itself; there is no command to print")
    cpu = not has_gpu()
    flags = choose_flags(plan.flags, cpu=cpu)
    words = ["env", *(word for name in _NOT_INHERITED for word in ("-u", name))]
    words += [f"{key}={value}" for key, value in _added_environment(cpu=cpu).items()]
    try:
        program = str(find_vllm(plan.executable))
    except ConfigError:
        program = plan.executable or "vllm"
    return shlex.join([*words, *_command(program, plan, flags, shown=True)])


def _command(vllm: str, plan: ServerPlan, flags: Flags, *, shown: bool = False) -> list[str]:
    own = [vllm, "serve", plan.model, "--host", plan.host, "--port", str(plan.port)]
    return own + [word for flag in flags.flags for word in (flag.shown if shown else flag.words)]


def serve_vllm(plan: ServerPlan) -> None:
    """Runs vLLM in the foreground, its log on this process's own output, until it ends or avar is stopped.

    Raises:
        ConfigError: there is no vllm program, it lacks a flag, flags contradict each other, the model's
            folder or GPUs are missing, or the port is taken.
        FlowError: vLLM ended by itself and not well.
    """
    cpu = not has_gpu()
    chosen = choose_flags(plan.flags, cpu=cpu)
    vllm = find_vllm(plan.executable)
    require_model(plan.model)
    require_free_port(plan.host, plan.port)
    if not cpu:
        require_gpus(chosen, count_gpus())
    environment = vllm_environment(cpu=cpu)
    flags = check_known(chosen, read_known_flags(vllm, environment), vllm)
    for remark in [*_remarks_on_access(plan, flags), *remark_on(chosen, flags, cpu=cpu)]:
        _say(remark)
    _say(shlex.join(_command(str(vllm), plan, flags, shown=True)))
    server = subprocess.Popen(
        _command(str(vllm), plan, flags),
        env=dict(environment),
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )
    try:
        _follow(server, plan, flags)
    finally:
        _end(server)


def _follow(server: subprocess.Popen[bytes], plan: ServerPlan, flags: Flags) -> None:
    """Waits until the server answers, says so, and waits until it ends."""
    started = time.monotonic()
    while not answers(f"{plan.url}/v1/models", any_status=True):
        if server.poll() is not None:
            seconds = time.monotonic() - started
            raise FlowError(
                f"vllm ended while starting, {_ending(server.returncode)} after {seconds:.0f} s; "
                "the last lines of its log above say why"
            )
        time.sleep(_LOOK_S)
    name = flags.value("--served-model-name") or plan.model
    keyed = f" --set teacher.api_key_env={KEY_VARIABLE}" if os.environ.get(KEY_VARIABLE) else ""
    _say(
        f"{name} answers at {plan.url} after {time.monotonic() - started:.0f} s; "
        f"avar run folder --set teacher.url={plan.url}{keyed}"
    )
    if server.wait() != 0:
        raise FlowError(f"vllm ended, {_ending(server.returncode)}; the last lines of its log above say why")


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _end(server: subprocess.Popen[bytes]) -> None:
    """Stops the server; then no process of its session is left. A second Ctrl-C stops it at once."""
    try:
        stop_child(server, _STOP_S)
        deadline = time.monotonic() + _LEFT_S
        while _has_members(server.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        if _has_members(server.pid):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def serve_embedded(plan: ServerPlan) -> None:
    """Runs avar's teacher for procedural scenes in the foreground until it is stopped.

    Raises: ConfigError: the port is taken, or there are flags for vLLM.
    """
    import uvicorn

    from synth.embedded import app

    if plan.flags:
        raise ConfigError(f"{plan.flags[0]}: the embedded teacher takes no flags of vllm's")
    require_free_port(plan.host, plan.port)
    uvicorn.run(app, host=plan.host, port=plan.port, log_level="info")


# ------------------------------------------------------------------------------------------- checks


def require_model(model: str) -> None:
    """Checks a model that is a folder; a name on the Hub is left to vLLM.

    Raises: ConfigError: there is no such folder, or it holds no model.
    """
    path = Path(model)
    if path.is_dir():
        if not any((path / name).is_file() for name in ("config.json", "params.json")):
            raise ConfigError(f"{model}: the folder holds no config.json: is it a model's?")
    elif not path.is_file() and (model.startswith(("/", ".", "~")) or model.count("/") > 1):
        raise ConfigError(f"{model}: there is no such folder (a model on the Hub is named OWNER/NAME)")


def require_free_port(host: str, port: int) -> None:
    """Checks that one can listen there, whatever stands in the way.

    Raises: ConfigError: one cannot.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise ConfigError(f"--host {host}: no address of this machine ({error.strerror})") from error
    except OSError as error:
        raise ConfigError(
            f"port {port} on {host}: {error.strerror}; choose another --port or --host"
        ) from error


def _remarks_on_access(plan: ServerPlan, flags: Flags) -> list[str]:
    if _is_loopback(plan.host) or flags.value("--api-key") or os.environ.get(KEY_VARIABLE):
        return []
    return [
        f"{plan.host} is reached from other machines, and there is no key: anybody there can use the model; "
        f"set {KEY_VARIABLE}, or keep to --host 127.0.0.1"
    ]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def has_gpu() -> bool:
    """True on a machine with NVIDIA's driver."""
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def count_gpus() -> int:
    """GPUs that vLLM would see.

    Raises: ConfigError: nvidia-smi does not work.
    """
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"nvidia-smi does not work: {error}; mend the driver first") from error
    there = sum(line.startswith("GPU ") for line in done.stdout.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        there if visible is None else min(there, len([name for name in visible.split(",") if name.strip()]))
    )


def _say(line: str) -> None:
    print(f"avar: {line}", file=sys.stderr, flush=True)


def _end_with_parent() -> None:
    """On Linux the kernel ends vLLM's main process with avar, however avar ends; vLLM then ends its own."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
