"""Images that rows name by URL: from the hosts a recipe allows, and from no other.

No request leaves for a host that `source.allowed_hosts` does not name, and none is redirected there. An
entry is a host's name as a URL has it (`images.example.org`, `127.0.0.1`), with `:port` where the port is not
the scheme's own. No proxy, cookie, saved password or compression takes part, and the address is parsed once,
so that the host that was checked is the host that is asked. What a name resolves to is the recipe's business.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection

import aiohttp
from yarl import URL

from schemas.errors import RowError
from schemas.records import SourceFault
from synth.folders import shorten

TIME_LIMIT_S = 20.0  # for one image in all: redirects, pauses and further attempts
MAX_REDIRECTS = 5
_PAUSES_S = (0.2, 1.0)  # before the second and the third attempt
_URL = re.compile(r"\s*([a-z][a-z0-9+.-]*://|(?:https?|ftp|file|data|blob):)", re.IGNORECASE)
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class _PassingError(Exception):
    """A fault that another attempt may not meet."""


def is_url(name: str) -> bool:
    """True for a name that is an address, allowed or not, rather than a file's name."""
    return _URL.match(name) is not None


def show_url(name: str) -> str:
    """An address for a message or a dataset: without credentials, data and query, which may be secrets."""
    scheme = name.strip().split(":", 1)[0].lower()
    if scheme not in {"http", "https"}:
        return f"a {scheme}: URL"
    try:
        return shorten(str(URL(name.strip()).with_user(None).with_query(None).with_fragment(None)))
    except ValueError:
        return f"a {scheme}: URL"


def fetch_image(name: str, allowed_hosts: Collection[str], max_bytes: int) -> bytes:
    """The bytes behind a URL. Call it from a thread that runs no event loop.

    Args:
        name: the address, as a row names it.
        allowed_hosts: hosts that may be asked, from the recipe.
        max_bytes: a larger body is not read.
    Raises: RowError: not allowed (nothing was sent), not found within TIME_LIMIT_S, or too large.
    """
    try:
        url = URL(name.strip())
    except ValueError as error:
        raise RowError(SourceFault.IMAGE_URL, f"{show_url(name)}: not an address") from error
    _require_allowed(url, allowed_hosts)
    return asyncio.run(_fetch_in_time(url, allowed_hosts, max_bytes))


def _require_allowed(url: URL, allowed_hosts: Collection[str]) -> None:
    """Raises: RowError: another scheme, credentials, or a host that the recipe does not name."""
    shown = show_url(str(url))
    if url.scheme not in {"http", "https"} or not url.host:
        raise RowError(SourceFault.IMAGE_URL, f"{shown}: an image is a file of the source, or http(s)")
    if url.user is not None or url.password is not None:
        raise RowError(SourceFault.IMAGE_URL, f"{shown}: its credentials are never sent, take them out")
    name = url.host_subcomponent or ""
    host = name if url.is_default_port() else f"{name}:{url.port}"
    if not {allowed.lower() for allowed in allowed_hosts} & {host, f"{name}:{url.port}"}:
        detail = f"{shorten(host)} is not in source.allowed_hosts, no request was sent there"
        raise RowError(SourceFault.IMAGE_URL, f"{shown}: {detail}")


async def _fetch_in_time(url: URL, allowed_hosts: Collection[str], max_bytes: int) -> bytes:
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            return await _fetch_with_retries(url, allowed_hosts, max_bytes)
    except TimeoutError as error:
        raise _missing(url, f"no image within {TIME_LIMIT_S:g} s") from error


async def _fetch_with_retries(url: URL, allowed_hosts: Collection[str], max_bytes: int) -> bytes:
    pauses = iter(_PAUSES_S)
    while True:
        try:
            return await _follow(url, allowed_hosts, max_bytes)
        except (_PassingError, aiohttp.ClientError, OSError) as error:
            pause = next(pauses, None)
            if pause is None:
                reason = f"{error}" or type(error).__name__
                raise _missing(url, f"asked {len(_PAUSES_S) + 1} times: {reason}") from error
        await asyncio.sleep(pause)


async def _follow(url: URL, allowed_hosts: Collection[str], max_bytes: int) -> bytes:
    """One attempt, through redirects that lead to allowed hosts only."""
    async with aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "avar"},
        timeout=aiohttp.ClientTimeout(total=None),  # the caller's, over all attempts
        trust_env=False,
    ) as session:
        for _ in range(MAX_REDIRECTS + 1):
            async with session.get(url, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    return await _read_body(response, url, max_bytes)
                url = _redirected(url, response.headers.get("Location", ""))
            _require_allowed(url, allowed_hosts)
    raise _missing(url, f"more than {MAX_REDIRECTS} redirects")


def _redirected(url: URL, location: str) -> URL:
    try:
        return url.join(URL(location))
    except ValueError as error:
        raise _missing(url, "redirected to what is not an address") from error


async def _read_body(response: aiohttp.ClientResponse, url: URL, max_bytes: int) -> bytes:
    if response.status in _TRANSIENT:
        raise _PassingError(f"HTTP {response.status}")
    if response.status != 200:
        raise _missing(url, f"HTTP {response.status}")
    announced = response.content_length or 0
    body = bytearray()
    if announced <= max_bytes:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > max_bytes:
                break
    if max(announced, len(body)) > max_bytes:
        raise RowError(SourceFault.IMAGE_TOO_LARGE, f"{show_url(str(url))}: over {max_bytes:,} bytes")
    return bytes(body)


def _missing(url: URL, detail: str) -> RowError:
    return RowError(SourceFault.IMAGE_MISSING, f"{show_url(str(url))}: {shorten(detail)}")
