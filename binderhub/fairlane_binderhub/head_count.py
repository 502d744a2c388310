"""Tells a dispatcher how many people share the one event stream of a build."""

from __future__ import annotations

import asyncio
from typing import Protocol

from .dispatchers import Dispatcher, round_pause
from .errors import Away, Misconfigured, Refused
from .queue import Queue

#: Pause before a new count is sent, so that sixty people who arrive together cause one request.
GATHER_S = 0.25
#: Tries when a dispatcher says that another one has the stream: if several dispatchers share one address,
#: each new connection may reach another one.
OTHER_TRIES = 4
#: Shortest time between two reconnects whose only purpose is to send the count.
REOPEN_GAP_S = 15.0


class Followed(Protocol):
    """A build whose stream is open."""

    id: str

    def __len__(self) -> int: ...

    def reopen(self) -> None: ...


class HeadCount:
    """Keeps the count up to date while a stream is open."""

    def __init__(self, queue: Queue, follow: Followed) -> None:
        self._queue = queue
        self._follow = follow
        self._told = -1
        self._where: tuple[Dispatcher, str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._reopened = False
        self._reopened_at = -REOPEN_GAP_S

    def opening(self, count: int) -> None:
        """A stream is being opened with this count."""
        self._told, self._where = count, None

    def opened(self, dispatcher: Dispatcher, subscriber: str) -> None:
        """The stream is open; the dispatcher knows it by this name."""
        self._where = (dispatcher, subscriber)
        self.changed()

    def closed(self) -> None:
        """The stream is gone, and the dispatcher no longer counts its people."""
        self._where = None

    def take_reopened(self) -> bool:
        """Whether the stream was closed only to send the count."""
        was, self._reopened = self._reopened, False
        return was

    def changed(self) -> None:
        """The count may have changed."""
        if self._where is None or self._told == len(self._follow):
            return
        if self._task is None or self._task.done():
            self._task = self._queue.spawn(self._tell())

    def stop(self) -> None:
        """Stops sending counts."""
        self._where = None
        if self._task is not None:
            self._task.cancel()

    async def _tell(self) -> None:
        tries = 0
        while True:
            await asyncio.sleep(GATHER_S if tries == 0 else round_pause(tries))
            where, count = self._where, len(self._follow)
            if where is None or count in (0, self._told):
                return
            dispatcher, subscriber = where
            body = {"subscriber": subscriber, "count": count}
            try:
                await self._queue.call(dispatcher, "PUT", f"/v1/builds/{self._follow.id}/watchers", body)
                tries = 0
                if self._where is where:
                    self._told = count
            except Refused as refused:
                tries += 1
                if refused.word != "other-dispatcher" and not refused.is_passing:
                    # The stream is about to end, or was reopened, which sent the count.
                    return
                if refused.word == "other-dispatcher" and tries >= OTHER_TRIES:
                    return self._open_anew(where)
            except Away:
                # The stream will soon show whether the dispatcher is gone.
                tries += 1
            except Misconfigured:
                return

    def _open_anew(self, where: tuple[Dispatcher, str]) -> None:
        loop = asyncio.get_running_loop()
        wait = self._reopened_at + REOPEN_GAP_S - loop.time()
        if wait > 0:
            loop.call_later(wait, self.changed)
        elif self._where is where:
            self._reopened_at, self._reopened = loop.time(), True
            self._follow.reopen()
