"""The inside of the stub server (tests/stub_server.py): counts, queues and answers requests over HTTP."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import socket
import struct
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import cast

from tests.stub_answers import (
    AT_ONCE,
    RETRY_AFTER_S,
    Asked,
    build_body,
    build_templates,
    fault_of,
    read_request,
)

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_REFERRED = re.compile(rb'"image_url":\s*null,\s*"uuid":\s*"([^"]+)"')
_SENT = re.compile(rb'"uuid":\s*"([^"]+)"')
_LOOK_AGAIN_S = 0.001
_ERRORS = {
    "rate_limited": (429, "Too Many Requests", "RateLimitError"),
    "unavailable": (503, "The queue is full", "ServiceUnavailableError"),
    "internal": (500, "Internal server error", "InternalServerError"),
    "refused": (400, "This request is refused for good", "BadRequestError"),
}


class Tally:
    """What has happened since the last reset. Times are monotonic seconds, the same in every process."""

    def __init__(self) -> None:
        self.calls = self.answered = self.aborted = self.in_flight = self.most_in_flight = 0
        self.faults: Counter[str] = Counter()
        self.latency_s = 0.0
        self._first = self._last = self._changed = self._area = self._area_at_last = 0.0

    def enter(self) -> None:
        """A request has arrived."""
        now = self._add_area()
        if not self.calls:
            self._first = self._last = now
        self.calls += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def leave(self, fault: str | None, *, aborted: bool = False) -> None:
        """A request was answered, failed, or was given up by its client."""
        self._last = self._add_area()
        self._area_at_last = self._area
        self.in_flight -= 1
        if aborted:
            self.aborted += 1
        elif fault:
            self.faults[fault] += 1
        else:
            self.answered += 1

    def _add_area(self) -> float:
        now = time.monotonic()
        self._area += self.in_flight * (now - self._changed) if self.calls else 0.0
        self._changed = now
        return now

    def to_dict(self) -> dict[str, object]:
        """As /stats answers. `mean_in_flight` is over `span_s`, from the first arrival to the last answer."""
        span = self._last - self._first
        return {
            "calls": self.calls,
            "answered": self.answered,
            "aborted": self.aborted,
            "in_flight": self.in_flight,
            "mean_in_flight": self._area_at_last / span if span else 0.0,
            "span_s": span,
            "most_in_flight": self.most_in_flight,
            "faults": dict(self.faults),
            "latency_s": self.latency_s,
            "first_at_s": self._first,
        }


@dataclass(slots=True, eq=False)
class Call:
    """One request, and how it will be answered."""

    connection: Connection
    asked: Asked
    name: str
    fault: str | None
    timer: asyncio.TimerHandle | None = None


class Stub:
    """Takes requests and answers them in time."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.loop = asyncio.get_running_loop()
        self.latency = options.latency
        self.share, self.slots = options.faults, options.slots
        self.tokens, self.model = options.tokens, options.model
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.log = os.open(options.log, flags, 0o644) if options.log else None
        self.templates = build_templates(options.model, options.tokens)
        self.tally = Tally()
        self.attempts: Counter[bytes] = Counter()
        self.images: set[bytes] = set()
        self.running = 0
        self.waiting: deque[Call] = deque()

    def arrive(self, connection: Connection, body: bytes) -> None:
        """Takes a request: it is refused, begins to run, or waits for a slot."""
        self.tally.enter()
        asked = read_request(body)
        name = ""
        if self.log is not None:
            name = hashlib.sha256(body).hexdigest()
            os.write(self.log, f"+ {name} {time.monotonic_ns()}\n".encode())
        connection.call = call = Call(connection, asked, name, self._draw_fault(asked, body))
        if call.fault in AT_ONCE:
            self._answer(call)
        elif self.slots and self.running >= self.slots:
            self.waiting.append(call)
        else:
            self._run(call)

    def _draw_fault(self, asked: Asked, body: bytes) -> str | None:
        if self.slots and (referred := _REFERRED.findall(body)) and not self.images.issuperset(referred):
            return "refused"
        if self.slots:
            self.images.update(_SENT.findall(body))
        if not self.share:
            return None
        self.attempts[asked.digest] += 1
        return fault_of(asked.digest, self.attempts[asked.digest] - 1, self.share)

    def _run(self, call: Call) -> None:
        seconds = self.latency.of(call.asked.seed)
        self.running += 1
        self.tally.latency_s += seconds
        call.timer = self.loop.call_later(seconds, self._finish, call)

    def _finish(self, call: Call) -> None:
        call.timer = None
        self._free_slot()
        self._answer(call)

    def _free_slot(self) -> None:
        self.running -= 1
        if self.waiting:
            self._run(self.waiting.popleft())

    def _answer(self, call: Call) -> None:
        call.connection.call = None
        self.tally.leave(call.fault)
        if call.fault is None:
            call.connection.send(200, build_body(self.templates, call.asked, self.tokens))
            if self.log is not None:
                # uvloop hands what was written to the kernel at the end of its next turn.
                self.loop.call_soon(self.loop.call_soon, self._note_answer, call)
        else:
            call.connection.fail(call.fault, build_body(self.templates, call.asked, self.tokens))

    def _note_answer(self, call: Call) -> None:
        transport = call.connection.transport
        if self.log is None or transport.is_closing():
            return
        if transport.get_write_buffer_size():  # a client that reads slowly
            self.loop.call_later(_LOOK_AGAIN_S, self._note_answer, call)
            return
        os.write(self.log, f"- {call.name}\n".encode())

    def give_up(self, call: Call) -> None:
        """The client has gone: its slot is free, as vLLM does it."""
        self.tally.leave(None, aborted=True)
        if call.timer is not None:
            call.timer.cancel()
            self._free_slot()
        else:
            self.waiting.remove(call)

    def look_up(self, method: bytes, path: bytes) -> tuple[int, bytes]:
        """Status and body of everything but a completion."""
        if (method, path) == (b"GET", b"/v1/models"):
            card = {"id": self.model, "object": "model", "owned_by": "vllm" if self.slots else "stub"}
            return 200, json.dumps({"object": "list", "data": [card]}).encode()
        if (method, path) == (b"GET", b"/stats"):
            return 200, json.dumps(self.tally.to_dict()).encode()
        if (method, path) == (b"GET", b"/health"):
            return 200, b"{}"
        if (method, path) == (b"GET", b"/metrics") and self.slots:
            return 200, self._metrics().encode()
        if (method, path) == (b"POST", b"/reset"):
            in_flight, self.tally = self.tally.in_flight, Tally()
            self.tally.in_flight = in_flight
            self.attempts.clear()
            return 200, b"{}"
        return 404, b'{"error": {"message": "Not Found", "type": "NotFoundError", "code": 404}}'

    def _metrics(self) -> str:
        gauges = {
            "num_requests_running": ("Number of requests in model execution batches.", self.running),
            "num_requests_waiting": ("Number of requests waiting to be processed.", len(self.waiting)),
            "kv_cache_usage_perc": ("KV-cache usage. 1 means 100 percent usage.", self.running / self.slots),
        }
        labels = f'{{engine="0",model_name="{self.model}"}}'
        return "".join(
            f"# HELP vllm:{name} {help_text}\n# TYPE vllm:{name} gauge\nvllm:{name}{labels} {float(value)}\n"
            for name, (help_text, value) in gauges.items()
        )


class Connection(asyncio.Protocol):
    """One client's connection: requests come one after the other."""

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.call: Call | None = None
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives up what nobody will read."""
        if self.call is not None:
            self.stub.give_up(self.call)

    def data_received(self, data: bytes) -> None:
        """Collects a request and hands it over once it is whole."""
        data = self.received = self.received + data if self.received else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(data, 0, end)
        size = end + 4 + (int(length[1]) if length else 0)
        if len(data) < size:
            return
        self.received = data[size:]
        method, path, _ = data[: data.find(b"\r\n")].split(b" ", 2)
        if (method, path) == (b"POST", b"/v1/chat/completions"):
            self.stub.arrive(self, data[end + 4 : size])
        else:
            self.send(*self.stub.look_up(method, path))

    def send(self, status: int, body: bytes, headers: bytes = b"", *, missing: int = 0) -> None:
        """Writes an answer; `missing` bytes that it promises never come."""
        head = b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
        self.transport.write(head % (status, headers, len(body) + missing) + body)

    def fail(self, fault: str, body: bytes) -> None:
        """Fails as `fault` says, in the place of the answer `body`."""
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)  # closing then sends RST
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        elif fault == "truncated":
            self.send(200, body[: len(body) // 2], missing=len(body) - len(body) // 2)
            self.transport.close()
        elif fault == "malformed":
            self.send(200, body[: len(body) // 2])
        else:
            status, message, kind = _ERRORS[fault]
            error = {"message": message, "type": kind, "param": None, "code": status}
            wait = b"Retry-After: %g\r\n" % RETRY_AFTER_S if fault == "rate_limited" else b""
            self.send(status, json.dumps({"error": error}).encode(), wait)
