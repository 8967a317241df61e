"""`avar teacher check`: sends one small image to a server and says what it supports."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from flows.teacher_probes import PROBES, Finding, Probe, ProbedServer
from schemas.config import EMBEDDED, TeacherSettings, parse_recipe
from schemas.errors import ConfigError, TeacherError, TeacherFault
from synth.replies import excerpt, parse_json
from synth.teacher import settle_model

if TYPE_CHECKING:
    from rich.console import Console

REQUIRED = ("chat", "image")  # all that avar's three stages need
_MENDS = {
    TeacherFault.UNAUTHORIZED: "not let in (401, 403, or a redirection): check the address, and name "
    "the key's variable with --api-key-env",
    TeacherFault.UNKNOWN_MODEL: "there is no such page (404): is this a teacher?",
}


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything found out about a server."""

    url: str
    model: str
    supports: Mapping[str, Finding]

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        supports = {name: asdict(finding) for name, finding in self.supports.items()}
        return {"url": self.url, "model": self.model, "supports": supports}

    def require_stages(self) -> None:
        """Raises: TeacherError: the server cannot serve avar's three stages."""
        for name in REQUIRED:
            if not (finding := self.supports[name]).ok:
                problem = f"{self.url}: {self.model} cannot serve avar's stages"
                raise TeacherError(TeacherFault.REFUSED, f"{problem}: no {name}: {finding.detail}")


def check_teacher(
    url: str, *, model: str | None = None, api_key_env: str | None = None, timeout_s: float = 60.0
) -> Findings:
    """Asks the server one question after another.

    Args:
        url: with or without /v1.
        model: served name; None: the one the server lists.
        api_key_env: name of the variable that holds the server's key.
        timeout_s: seconds each question may take.
    Raises:
        ConfigError: no URL, or the variable is not set.
        TeacherError: nothing answers there, it wants another key, or it is no such server.
    """
    given = {"url": url, "model": model, "api_key_env": api_key_env, "timeout_s": timeout_s}
    recipe = parse_recipe({"name": "check", "source": {"kind": "scenes"}, "teacher": given}, where="check")
    if recipe.teacher.url == EMBEDDED:
        raise ConfigError("check: give a URL; `avar teacher serve embedded` starts avar's own teacher")
    return asyncio.run(_check(recipe.teacher))


async def _check(settings: TeacherSettings) -> Findings:
    [url] = settings.urls
    timeout = aiohttp.ClientTimeout(total=settings.timeout_s, sock_connect=min(10.0, settings.timeout_s))
    async with aiohttp.ClientSession(timeout=timeout, headers=_headers(settings)) as session:
        server = ProbedServer(session, url, settings)
        listed = await _list_models(server)
        server.model = settle_model(settings, {url: list(listed)})
        supports = {"models": Finding(True, listed[server.model])}
        for name, probe in PROBES.items():
            supports[name] = await _find(probe, server)
        return Findings(url, server.model, supports)


async def _find(probe: Probe, server: ProbedServer) -> Finding:
    try:
        return await probe(server)
    except TeacherError as error:
        return Finding(False, str(error))


def _headers(settings: TeacherSettings) -> dict[str, str]:
    if settings.api_key_env is None:
        return {}
    key = os.environ.get(settings.api_key_env, "")
    if not key or not (key.isascii() and key.isprintable()):
        raise ConfigError(f"--api-key-env: the variable {settings.api_key_env} holds no key; export it")
    return {"Authorization": f"Bearer {key}"}


async def _list_models(server: ProbedServer) -> dict[str, str]:
    """What is known of each model that is served.

    Raises: TeacherError: this is no such server, or it does not let us in.
    """
    try:
        body = parse_json(await server.exchange("GET", "/v1/models"))
        return {str(entry["id"]): _describe_model(entry) for entry in body["data"]}
    except TeacherError as error:
        message = f"{server.url}/v1/models: {_MENDS.get(error.fault, error)}"
        raise TeacherError(error.fault, message) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise TeacherError(
            TeacherFault.MALFORMED, f"{server.url}/v1/models is no list of models: is this a teacher?"
        ) from error


def _describe_model(entry: Mapping[str, Any]) -> str:
    length = entry.get("max_model_len")
    return f"owned by {excerpt(entry.get('owned_by'), 40)}, " + (
        f"{length} tokens long at most" if isinstance(length, int) else "says no greatest length"
    )


def print_findings(console: Console, findings: Findings) -> None:
    """A table for people."""
    from rich.table import Table
    from rich.text import Text

    from flows.text import sanitize

    table = Table(title=Text(sanitize(f"{findings.model} at {findings.url}")), title_justify="left")
    for column in ("supports", "", "what showed it"):
        table.add_column(column)
    for name, finding in findings.supports.items():
        verdict = Text("yes", "green") if finding.ok else Text("no", "red" if name in REQUIRED else "yellow")
        table.add_row(name, verdict, Text(sanitize(finding.detail)))
    console.print(table)
