"""Simulated people with browsers, and helpers that wait for things to happen."""

import asyncio
import json
import re

LIMIT_S = 30


async def until(condition, what, limit=LIMIT_S):
    """Waits until a condition is true, and returns its value. The condition may be a coroutine function.

    ``what`` describes it for the error message: a text, or a function that returns one.
    """
    end = asyncio.get_running_loop().time() + limit
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert asyncio.get_running_loop().time() < end, (
            f"waited {limit} s in vain until {what() if callable(what) else what}"
        )
        await asyncio.sleep(0.02)


class Visitor:
    """One build request: all events received, and whether the stream has ended."""

    def __init__(self, replica, name, ref="0123abc", reads=True):
        self._reads, self._task = reads, None
        self._address = (replica.port, f"/build/{name}/{ref}")
        self.events = []
        self.ended = False

    async def __aenter__(self):
        port, path = self._address
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
        if self._reads:
            self.start()
        return self

    def start(self):
        """Starts reading."""
        self._task = asyncio.ensure_future(self._read())

    async def __aexit__(self, *_):
        await self.leave()

    async def leave(self):
        if self._task is not None:
            self._task.cancel()
        self._writer.close()

    async def _read(self):
        while line := await self._reader.readline():
            if line.startswith(b"data: "):
                self.events.append(json.loads(line[6:]))
            elif line == b"0\r\n":
                break
        self.ended = True

    @property
    def text(self):
        """All text shown so far."""
        return "".join(event.get("message") or "" for event in self.events)

    def phases(self):
        return [event["phase"] for event in self.events]

    async def sees(self, pattern, limit=LIMIT_S):
        """Waits until the text shown matches a pattern."""
        return await until(
            lambda: re.search(pattern, self.text), lambda: f"{pattern!r} is in {self.text[-2000:]!r}", limit
        )

    async def reaches(self, phase, limit=LIMIT_S):
        """Waits for a phase; returns its event."""

        def found():
            return next((event for event in self.events if event["phase"] == phase), None)

        return await until(found, lambda: f"the phase is {phase}; there were {self.events[-3:]}", limit)

    async def end(self, limit=LIMIT_S):
        """Waits until the server has closed the stream."""
        await until(lambda: self.ended, lambda: f"the stream ends; the last events are {self.events[-3:]}", limit)
