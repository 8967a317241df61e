"""A stub teacher for measurements and crash tests: a process of its own, cheap, and faulty where asked to be.

    python -m tests.stub_server [--port 0] [--latency fixed:0.1 | lognormal:1.0,0.8] [--faults SHARE]
        [--tokens 400] [--slots N] [--log FILE] [--model stub]

Prints {"url": ...} once it listens, and ends on SIGTERM. Answers, latencies and faults are functions of the
request (tests/stub_answers.py). It reads HTTP as aiohttp and httpx write it: one request at a time on a
connection, with a Content-Length. Besides the API: GET /stats, POST /reset, GET /health.

With `--slots N` it stands for a vLLM: N requests run at once, the others wait in order, GET /metrics says so,
and an image may be referred to by the `uuid` that it was sent with. With `--log FILE` every request appends
`+ SHA256 NANOSECONDS` (monotonic) when it has arrived, and `- SHA256` when its answer is with the kernel.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.stub_answers import parse_latency

ROOT = Path(__file__).parent.parent
_PARENT_S = 0.25
_STOP_S = 5.0


# ------------------------------------------------------------------------------------- from outside


class StubServer:
    """A running stub. `options` are those of the command line, without the dashes."""

    def __init__(self, **options: object) -> None:
        self._options = options
        self._start()

    def _start(self) -> None:
        given = [part for name, value in self._options.items() for part in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "tests.stub_server", "--parent", str(os.getpid()), *given]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the stub server did not start: {' '.join(given)}")
        self.url: str = json.loads(line)["url"]

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def stats(self) -> dict[str, Any]:
        """What has happened since the last reset (`tests.stub_protocol.Tally`)."""
        return self._exchange("GET", "/stats")

    def reset(self) -> None:
        """Forgets what has happened."""
        self._exchange("POST", "/reset")

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._process.kill()
        self._end()

    def stop(self) -> None:
        """SIGTERM."""
        self._process.terminate()
        self._end()

    def restart(self) -> None:
        """Starts it again at the same port, with nothing remembered, whether it was killed before or not."""
        self.kill()
        self._options["port"] = self.url.rsplit(":", 1)[1]
        self._start()

    def _end(self) -> None:
        self._process.wait(_STOP_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _exchange(self, method: str, path: str) -> dict[str, Any]:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(self.url + path, method=method)
        with direct.open(request, timeout=10) as response:
            return json.loads(response.read())


@contextmanager
def stub_server(**options: object) -> Iterator[StubServer]:
    """A stub for the length of a block, e.g. `stub_server(latency="fixed:0.05", faults=0.2)`.

    Raises: RuntimeError: it did not start.
    """
    server = StubServer(**options)
    try:
        yield server
    finally:
        server.stop()


# ---------------------------------------------------------------------------------- its own process


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stub_server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=parse_latency, default=parse_latency("fixed:0.1"))
    parser.add_argument("--faults", type=_share, default=0.0, help="share of first attempts that fail")
    parser.add_argument("--tokens", type=int, default=400, help="of an answer")
    parser.add_argument("--slots", type=int, default=0, help="requests that run at once; 0: all")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--model", default="stub")
    parser.add_argument("--parent", type=int, default=0, help="end when this is no longer the parent")
    return parser.parse_args()


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share < 1:
        raise ValueError(f"{text!r}: a share in [0, 1) is expected")
    return share


async def serve(options: argparse.Namespace) -> None:
    """Serves until SIGTERM, or until the parent is gone."""
    from tests.stub_protocol import Connection, Stub

    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    stub = Stub(options)
    server = await loop.create_server(lambda: Connection(stub), "127.0.0.1", options.port, backlog=4096)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    print(json.dumps({"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    while not ended.is_set() and options.parent in (0, os.getppid()):
        try:
            await asyncio.wait_for(ended.wait(), _PARENT_S)
        except TimeoutError:
            continue


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(parse_options()))
