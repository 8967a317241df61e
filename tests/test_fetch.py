"""Images by URL, from a real server: asked only where the recipe allows it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from schemas.config import FolderSource
from schemas.records import Draft, Problem, SourceFault
from synth import fetch
from tests.rows import png
from tests.test_sources import folder, only_fault, read, row


@dataclass
class Pictures:
    """A server of pictures on a free port of 127.0.0.1, and the paths that it was asked for."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        redirects = {
            "/here": "/a.png",
            "/round": "/round",
            "/away": f"http://localhost:{self.port}/a.png",
            "/file": "file:///etc/hostname",
            "/broken": "http://[",
        }
        if path in redirects:
            return 302, {"Location": redirects[path]}, b""
        if path == "/cut":
            return 200, {"Content-Length": "9000"}, b"x"
        if path == "/busy-twice":
            return (503 if self.asked.count(path) < 3 else 200), {}, png()
        bodies = {"/big": b"x" * 3_000_000, "/page": b"<html>", "/a.png": png(), "/a.png?key=hunter2": png()}
        statuses = {"/none": 404, "/busy": 503, "/own": 401}
        return statuses.get(path, 200), {}, bodies.get(path, b"")


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pictures]:
    made = Pictures()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            made.headers.append(dict(self.headers))
            status, headers, body = made.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.path == "/slow":
                time.sleep(1.0)
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign] (a client that hangs up is no news)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(fetch, "_PAUSES_S", (0.01, 0.01))
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def url_source(tmp_path: Path, name: str, *allowed: str) -> FolderSource:
    return folder(tmp_path, [row(image=name)]).model_copy(update={"allowed_hosts": allowed})


def test_without_leave_no_request_is_sent(tmp_path: Path, pictures: Pictures) -> None:
    names = [
        f"http://{pictures.host}/a.png",
        f"HTTP://{pictures.host}/a.png",
        f"  https://{pictures.host}/a.png",
        f"http:{pictures.host}/a.png",
        f"ftp://{pictures.host}/a.png",
        f"gopher://{pictures.host}/a.png",
        f"http://user:hunter2@{pictures.host}/a.png?key=hunter2",
        "http://[",
        "http://127.0.0.1:99999999/a.png",
        "file:///etc/hostname",
        "file:images/a.png",
        "data:image/png;base64,hunter2",
    ]
    items = read(folder(tmp_path, [row(image=name) for name in names]))
    assert [item.failure.reason for item in items if isinstance(item, Draft) and item.failure] == [
        SourceFault.IMAGE_URL
    ] * len(names)
    assert "hunter2" not in str(items)
    assert pictures.asked == []


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("http://{host}/a.png", "example.org"),
        ("http://{host}/a.png", "127.0.0.1"),  # that is its port 80
        ("http://{host}/a.png", "127.0.0.1:1"),
        ("http://{host}/a.png", "0.0.1:{port}"),
        ("http://localhost:{port}/a.png", "{host}"),
        ("http://{host}@localhost:{port}/a.png", "{host}"),
        ("http://localhost:{port}\\@{host}/a.png", "{host}"),
        ("http://u:p@{host}/a.png", "{host}"),
        ("ftp://{host}/a.png", "{host}"),
        ("file://{host}/etc/hostname", "{host}"),
        ("data:image/png;base64,AAAA", "{host}"),
    ],
)
def test_leave_for_one_host_is_leave_for_no_other(
    tmp_path: Path, pictures: Pictures, name: str, allowed: str
) -> None:
    words = {"host": pictures.host, "port": pictures.port}
    found, _ = only_fault(url_source(tmp_path, name.format(**words), allowed.format(**words)))
    assert found == SourceFault.IMAGE_URL
    assert pictures.asked == []


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/a.png", ["/a.png"]),
        ("/here", ["/here", "/a.png"]),
        ("/busy-twice", ["/busy-twice"] * 3),
        ("/a.png?key=hunter2", ["/a.png?key=hunter2"]),
    ],
)
def test_an_allowed_host_is_asked_without_proxy_or_password(
    tmp_path: Path, pictures: Pictures, monkeypatch: pytest.MonkeyPatch, path: str, asked: list[str]
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password hunter2")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    source = url_source(tmp_path, f"http://{pictures.host}{path}", "example.org", pictures.host)
    (source.path / "images" / "a.png").unlink()  # a folder may hold no image of its own
    [item] = read(source)
    assert isinstance(item, Problem), item.failure
    assert item.images[0].bytes == png()
    assert item.images[0].path == f"http://{pictures.host}{path.split('?')[0]}"
    assert pictures.asked == asked
    assert not {"Authorization", "Cookie", "Referer"} & set(pictures.headers[-1])


def test_a_name_is_matched_in_any_case(tmp_path: Path, pictures: Pictures) -> None:
    source = url_source(tmp_path, f"HTTP://LocalHost:{pictures.port}/a.png", f"LOCALHOST:{pictures.port}")
    assert isinstance(read(source)[0], Problem)


@pytest.mark.parametrize(
    ("path", "reason", "words", "times"),
    [
        ("/none", SourceFault.IMAGE_MISSING, "HTTP 404", 1),
        ("/own", SourceFault.IMAGE_MISSING, "HTTP 401", 1),
        ("/busy", SourceFault.IMAGE_MISSING, "asked 3 times: HTTP 503", 3),
        ("/cut", SourceFault.IMAGE_MISSING, "asked 3 times: ", 3),
        ("/round", SourceFault.IMAGE_MISSING, "more than 5 redirects", 6),
        ("/away", SourceFault.IMAGE_URL, "localhost:", 1),
        ("/file", SourceFault.IMAGE_URL, "a file: URL", 1),
        ("/broken", SourceFault.IMAGE_MISSING, "not an address", 1),
        ("/big", SourceFault.IMAGE_TOO_LARGE, "over 1,448,576 bytes", 1),
        ("/page", SourceFault.IMAGE_UNREADABLE, "not a readable PNG", 1),
        ("/empty", SourceFault.IMAGE_UNREADABLE, "0 bytes", 1),
        ("/slow", SourceFault.IMAGE_MISSING, "no image within 0.2 s", 1),
    ],
)
def test_a_fetch_that_fails_says_why(
    tmp_path: Path,
    pictures: Pictures,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    reason: SourceFault,
    words: str,
    times: int,
) -> None:
    if path == "/slow":
        monkeypatch.setattr(fetch, "TIME_LIMIT_S", 0.2)
    source = url_source(tmp_path, f"http://{pictures.host}{path}?k", pictures.host)
    source = source.model_copy(update={"max_pixels": 100_000})
    (source.path / "items.jsonl").write_text(json.dumps(row(image=f"http://{pictures.host}{path}")))
    found, detail = only_fault(source)
    assert found == reason
    assert words in detail
    assert pictures.asked == [path] * times


def test_nobody_there_is_a_missing_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_PAUSES_S", (0.01, 0.01))
    found, detail = only_fault(url_source(tmp_path, "http://127.0.0.1:9/a.png", "127.0.0.1:9"))
    assert found == SourceFault.IMAGE_MISSING
    assert "http://127.0.0.1:9/a.png: " in detail
