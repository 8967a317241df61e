"""Flags of `vllm serve`: those that avar chooses for synthesis, those a person adds, and what is wrong.

A flag that a person gives replaces avar's own. What one can know before the start is checked here, since vLLM
itself says it half a minute later, among two hundred lines.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import ConfigError

_HELP_S = 180.0  # vLLM imports torch before it prints its flags
_SHORT = {
    "-tp": "--tensor-parallel-size",
    "-dp": "--data-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-asc": "--api-server-count",
}
_OWN = ("--host", "--port", "--model")
_ELSEWHERE = ("--headless", "--grpc", "--uds", "--ssl-certfile", "--ssl-keyfile")
_REPEATABLE = ("--middleware",)
_SEVERAL_MACHINES = ("--nnodes", "--node-rank", "--data-parallel-address", "--data-parallel-size-local")
_SECRET = ("--api-key", "--hf-token")

# Chat prompts of a stage begin alike, stages share images, and accounts show what the caches spared. Traces
# hold images alone, and a model that reads video would keep memory for its largest one.
_CHOSEN = (
    "--enable-prefix-caching",
    "--enable-prompt-tokens-details",
    "--limit-mm-per-prompt",
    '{"video": 0, "audio": 0}',
    "--disable-access-log-for-endpoints",
    "/health,/metrics",
)
# A 1.2-megapixel image takes some 30 MB once it is prepared: 8 GiB hold 270 of them, more than are in flight.
_CHOSEN_GPU = ("--enable-chunked-prefill", "--mm-processor-cache-gb", "8")
# A seed and a prompt split by chunked prefill kill the engine on a CPU.
_CHOSEN_CPU = (
    *("--no-enable-chunked-prefill", "--max-num-batched-tokens", "131072", "--mm-processor-cache-gb", "2"),
    *("--enforce-eager", "--dtype", "bfloat16"),
)


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag with its values, in vLLM's long spelling (`--max-model-len`; also `--limit-mm.video`)."""

    name: str
    values: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """What it decides: `--no-enable-x` and `--enable-x` decide the same."""
        return "--" + self.name.removeprefix("--no-").removeprefix("--")

    @property
    def base(self) -> str:
        """The name without the JSON key after a dot."""
        return self.name.partition(".")[0]

    @property
    def words(self) -> tuple[str, ...]:
        """As a command line has it."""
        return (self.name, *self.values)

    @property
    def shown(self) -> tuple[str, ...]:
        """The same, without secrets."""
        return (self.name, *("***" for _ in self.values)) if self.name in _SECRET else self.words


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of one server, avar's own and a person's, each decision once."""

    flags: tuple[Flag, ...]

    def value(self, subject: str) -> str | None:
        """The first value given for `subject`, None where the flag or its value is missing."""
        return next((flag.values[0] for flag in self.flags if flag.subject == subject and flag.values), None)

    def number(self, subject: str, default: int) -> int:
        """The value as a whole number.

        Raises: ConfigError: it is none.
        """
        value = self.value(subject)
        try:
            return default if value is None else int(value)
        except ValueError as error:
            raise ConfigError(f"{subject} {value}: a whole number is expected") from error

    def has(self, name: str) -> bool:
        """True where the flag is given in this very spelling, not its `--no-` form."""
        return any(flag.name == name for flag in self.flags)


def choose_flags(given: Sequence[str], *, cpu: bool) -> Flags:
    """avar's flags, with those that `given` decides otherwise left out, then `given`.

    Raises: ConfigError: `given` holds flags that contradict each other or avar's own options.
    """
    theirs = parse_flags(given)
    decided = {flag.base.replace("--no-", "--") for flag in theirs}
    ours = parse_flags((*_CHOSEN, *(_CHOSEN_CPU if cpu else _CHOSEN_GPU)))
    flags = Flags((*(flag for flag in ours if flag.subject not in decided), *theirs))
    _check_contradictions(theirs)
    _check_batch(flags)
    return flags


def parse_flags(words: Sequence[str]) -> tuple[Flag, ...]:
    """Splits a command line into flags with their values.

    Raises: ConfigError: it begins with a value.
    """
    flags: list[Flag] = []
    for word in words:
        if re.match(r"-+[A-Za-z]", word):
            name, equals, value = word.partition("=")
            flags.append(Flag(_spell(name), (value,) if equals else ()))
        elif flags:
            flags[-1] = Flag(flags[-1].name, (*flags[-1].values, word))
        else:
            raise ConfigError(f"{word[:80]!r} stands where a flag of vllm's is expected: -- --flag value")
    return tuple(dict.fromkeys(flags))


def _spell(name: str) -> str:
    """vLLM takes underscores for dashes, before a dot."""
    head, dot, key = name.partition(".")
    return _SHORT.get(head, head.replace("_", "-") if head.startswith("--") else head) + dot + key


def _check_contradictions(flags: Sequence[Flag]) -> None:
    seen: dict[str, Flag] = {}
    for flag in flags:
        if flag.name in _OWN:
            raise ConfigError(f"{flag.name} is avar's own: give it (MODEL, --host, --port) before the --")
        if flag.name in _ELSEWHERE:
            raise ConfigError(
                f"{flag.name}: nothing would answer at http://HOST:PORT, where avar waits; run vllm itself"
            )
        other = seen.setdefault(flag.subject, flag)
        if other != flag and flag.name not in _REPEATABLE:
            both = f"{' '.join(other.shown)} and {' '.join(flag.shown)}"
            raise ConfigError(f"{both} contradict each other: keep one")


def _check_batch(flags: Flags) -> None:
    """Without chunked prefill a prompt must fit into one batch; `32k` and `auto` are left to vLLM."""
    batch, context = flags.value("--max-num-batched-tokens") or "", flags.value("--max-model-len") or ""
    plain = batch.isdecimal() and context.isdecimal()
    if flags.has("--no-enable-chunked-prefill") and plain and int(batch) < int(context):
        raise ConfigError(
            f"--max-num-batched-tokens {batch} is less than --max-model-len {context}, and "
            "--no-enable-chunked-prefill never splits a prompt: raise it, or lower the model's length"
        )


def check_known(flags: Flags, known: frozenset[str], vllm: Path) -> Flags:
    """The flags that this vLLM knows. One of avar's own that it lacks is left out; `remark_on` says so.

    Raises: ConfigError: a flag that a person gave is unknown; the message names the nearest one.
    """
    chosen = {flag.name for flag in parse_flags((*_CHOSEN, *_CHOSEN_CPU, *_CHOSEN_GPU))}
    kept = []
    for flag in flags.flags:
        if _is_known(flag, known):
            kept.append(flag)
        elif flag.name not in chosen:
            near = difflib.get_close_matches(flag.base, known, 1, 0.5)
            hint = f"; the nearest is {near[0]}" if near else ""
            raise ConfigError(f"{vllm} knows no flag {flag.base}{hint}")
    return Flags(tuple(kept))


def _is_known(flag: Flag, known: frozenset[str]) -> bool:
    """argparse takes the beginning of a flag for the flag, and vLLM `-O3` for `-O 3`."""
    return flag.base in known or flag.base.startswith("-O") or any(k.startswith(flag.base) for k in known)


def read_known_flags(vllm: Path, environment: Mapping[str, str]) -> frozenset[str]:
    """Every flag of this vLLM's `serve`, from its own help; kept on disk, since asking takes some 12 s.

    Raises: ConfigError: the program cannot say.
    """
    cached = _cache_file(vllm)
    if cached.is_file():
        return frozenset(cached.read_text(encoding="utf-8").split())
    text = _read_help(vllm, environment)
    lines = re.findall(r"^  (-\S.*)$", text, re.M)
    known = frozenset(flag for line in lines for flag in re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", line))
    if "--port" not in known:
        raise ConfigError(
            f"`{vllm} serve --help=all` names no --port: is it vLLM's program? ({text[-120:]!r})"
        )
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        draft = cached.with_suffix(f".{os.getpid()}")
        draft.write_text("\n".join(sorted(known)), encoding="utf-8")
        draft.replace(cached)
    except OSError as error:
        raise ConfigError(f"no folder for what vllm's flags are ({error}): set XDG_CACHE_HOME") from error
    return known


def _cache_file(vllm: Path) -> Path:
    """One per installation: installing another version writes the program anew."""
    stat = vllm.stat()
    identity = f"{vllm.resolve()}\0{stat.st_mtime_ns}\0{stat.st_size}"
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "avar" / f"vllm-flags-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.txt"


def _read_help(vllm: Path, environment: Mapping[str, str]) -> str:
    command = [str(vllm), "serve", "--help=all"]
    try:
        done = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, timeout=_HELP_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"`{' '.join(command)}` does not work ({error}); is it vLLM's program?") from error
    if done.returncode:
        words = " ".join(done.stderr.split())[-200:]
        raise ConfigError(f"`{' '.join(command)}` ends with exit code {done.returncode}: {words}")
    return done.stdout


def require_gpus(flags: Flags, gpus: int) -> None:
    """Checks that one machine's GPUs suffice; a server on several machines is vLLM's own matter.

    Raises: ConfigError: they do not.
    """
    if any(flag.base in _SEVERAL_MACHINES for flag in flags.flags):
        return
    sizes = [flags.number(f"--{kind}-parallel-size", 1) for kind in ("tensor", "pipeline", "data")]
    needed = sizes[0] * sizes[1] * sizes[2]
    if needed > gpus:
        raise ConfigError(
            f"tensor x pipeline x data parallel = {sizes[0]} x {sizes[1]} x {sizes[2]} needs {needed} GPUs, "
            f"found {gpus} (nvidia-smi, CUDA_VISIBLE_DEVICES): lower a size"
        )


def remark_on(chosen: Flags, flags: Flags, *, cpu: bool) -> list[str]:
    """What a person should know about these flags, a line each.

    Args:
        chosen: as they were before `check_known`.
    """
    left_out = [flag.name for flag in chosen.flags if flag not in flags.flags]
    remarks = [f"this vllm has no {name}: left out" for name in left_out]
    if cpu and flags.has("--enable-chunked-prefill"):
        remarks.append("on a CPU, a prompt split by chunked prefill kills the engine where there is a seed")
    if flags.value("--mm-processor-cache-gb") in {"0", "0.0"}:
        remarks.append(
            "without a multimodal cache no image can be referred to: --set teacher.reuse_images=false"
        )
    if flags.number("--data-parallel-size", 1) > 1 and flags.number("--api-server-count", 0) != 1:
        remarks.append(
            "each data-parallel rank has an API server with images of its own: a server per GPU, all in "
            "teacher.url, or -- --api-server-count 1 sends fewer"
        )
    return remarks
