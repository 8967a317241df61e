"""The plain loop that the engine is measured beside: what a good engineer writes in an hour.

aiohttp, orjson, uvloop, N workers, every answer in a JSON-lines file before it is used. It is fast because it
does nothing else: no retries, no resuming, no checks.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import aiohttp
import orjson

from schemas.records import Problem
from synth.prompts import anchor_prompt, describe_prompt, reason_prompt
from synth.seeds import derive_seed

_HEADERS = {"Content-Type": "application/json"}


async def run_plain(problems: Sequence[Problem], url: str, in_flight: int, journal: Path) -> int:
    """Takes every problem through the three stages. Returns: how many came to a trace."""
    rows = iter(problems)
    connector = aiohttp.TCPConnector(limit=0)
    with journal.open("ab") as file:
        async with aiohttp.ClientSession(connector=connector, headers=_HEADERS) as session:
            loop = PlainLoop(session, f"{url}/v1/chat/completions", file)
            return sum(await asyncio.gather(*(loop.work(rows) for _ in range(in_flight))))


class PlainLoop:
    """One session and one file, shared by all workers."""

    def __init__(self, session: aiohttp.ClientSession, url: str, journal: IO[bytes]) -> None:
        self.session = session
        self.url = url
        self.journal = journal

    async def work(self, rows: Iterator[Problem]) -> int:
        """Takes the next problem until there is none. Returns: traces."""
        traces = 0
        for problem in rows:
            data = base64.b64encode(problem.images[0].bytes).decode()
            image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
            text = {"type": "text", "text": describe_prompt(problem)}
            description = await self.ask("describe", problem, [image, text])
            reasoning = await self.ask("reason", problem, reason_prompt(problem, description))
            trace = await self.ask("anchor", problem, anchor_prompt(problem, reasoning))
            traces += bool(trace)
        return traces

    async def ask(self, stage: str, problem: Problem, content: object) -> str:
        """One answer, on file before it is used.

        Raises: aiohttp.ClientError: any failure; the loop has no answer to that.
        """
        body = {
            "messages": [{"role": "user", "content": content}],
            "model": "stub",
            "temperature": 0.7,
            "top_p": 0.95,
            "max_tokens": 2048,
            "seed": derive_seed(0, problem.id, stage, 0),
        }
        async with self.session.post(self.url, data=orjson.dumps(body)) as response:
            response.raise_for_status()
            answer: Any = orjson.loads(await response.read())
        text = answer["choices"][0]["message"]["content"]
        entry = {"id": problem.id, "stage": stage, "text": text, "usage": answer["usage"]}
        self.journal.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
        self.journal.flush()
        return text
