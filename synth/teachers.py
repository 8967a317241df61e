"""Finds the teachers of a recipe: which servers are there, and which model answers each question."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from schemas.config import Recipe, TeacherSettings
from schemas.errors import ConfigError, TeacherError
from synth.server import Server
from synth.teacher import settle_model

_OTHER_FILES = 256  # pictures, shards, the journal, Prefect's client


@dataclass(frozen=True)
class Connected:
    """One teacher's servers, those that are away included, and its model."""

    settings: TeacherSettings
    servers: tuple[Server, ...]
    model: str


@asynccontextmanager
async def connect_teachers(
    recipe: Recipe, asked: Collection[str] | None = None
) -> AsyncIterator[Mapping[str, Connected]]:
    """The teacher of each question; questions with equal settings share one, and equal servers are one.

    Args:
        asked: the questions to connect for, all by default.
    Raises:
        TeacherError: no server of a teacher answers, or one does not serve the recipe's model.
        ConfigError: a key is not in the environment.
    """
    async with AsyncExitStack() as stack:
        servers: dict[TeacherSettings, Server] = {}
        found: dict[TeacherSettings, Connected] = {}
        wanted = {
            name: settings for name, settings in recipe.teachers.items() if asked is None or name in asked
        }
        distinct = list(dict.fromkeys(wanted.values()))
        _allow_connections(sum(settings.max_in_flight * len(settings.urls) for settings in distinct))
        for settings in distinct:
            members = [await _open_server(url, settings, servers, stack) for url in settings.urls]
            found[settings] = Connected(settings, tuple(members), await _find_model(settings, members))
        yield {name: found[settings] for name, settings in wanted.items()}


@asynccontextmanager
async def connect_teacher(settings: TeacherSettings) -> AsyncIterator[Connected]:
    """One teacher that no recipe names.

    Raises: as `connect_teachers`.
    """
    async with AsyncExitStack() as stack:
        _allow_connections(settings.max_in_flight * len(settings.urls))
        members = [await _open_server(url, settings, {}, stack) for url in settings.urls]
        yield Connected(settings, tuple(members), await _find_model(settings, members))


def _allow_connections(wanted: int) -> None:
    """Raises the process's limit of open files, which each connection counts against.

    Raises: ConfigError: the system allows fewer.
    """
    needed = wanted + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"teacher.max_in_flight: {wanted} connections in all need {needed} open files, the system allows "
            f"{hard}: lower it, or raise the hard limit (ulimit -Hn)"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def _open_server(
    url: str, settings: TeacherSettings, servers: dict[TeacherSettings, Server], stack: AsyncExitStack
) -> Server:
    """The server at a URL, one for all teachers that reach it in the same way."""
    access = settings.model_copy(update={"url": url, "model": None, "revision": "", "prices": None})
    if access not in servers:
        servers[access] = await stack.enter_async_context(Server(url, access))
    return servers[access]


async def _find_model(settings: TeacherSettings, servers: list[Server]) -> str:
    """The model that all servers serve; one that does not answer is looked for again later."""
    served: dict[str, list[str]] = {}
    failures: list[TeacherError] = []
    for server, answer in zip(servers, await asyncio.gather(*map(_list_models, servers)), strict=True):
        if isinstance(answer, TeacherError):
            server.up = False
            failures.append(answer)
        else:
            served[server.url] = answer
    wrong = [error for error in failures if not error.transient]
    if wrong or not served:
        raise (wrong or failures)[0]
    return settle_model(settings, served)


async def _list_models(server: Server) -> list[str] | TeacherError:
    try:
        return [entry.name for entry in await server.list_models()]
    except TeacherError as error:
        return error if error.fatal else TeacherError(error.fault, f"{server.url}: {error}")


async def find_models(recipe: Recipe, asked: Collection[str] | None = None) -> dict[str, str]:
    """The model that will answer each question, asked of the teachers before anything else is started.

    Raises: as `connect_teachers`.
    """
    async with connect_teachers(recipe, asked) as teachers:
        return {name: teacher.model for name, teacher in teachers.items()}
