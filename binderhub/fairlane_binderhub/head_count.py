"""Telling a dispatcher how many people stand behind the one stream of a build."""

from __future__ import annotations

import asyncio
from typing import Protocol

from .dispatchers import Dispatcher, round_pause
from .errors import Away, Misconfigured, Refused
from .queue import Queue

#: Pause before a new number is told, so that sixty who come at once are told once.
GATHER_S = 0.25
#: Tries with a dispatcher that says that another one has the stream: behind one address for several of
#: them each new connection may reach another one.
OTHER_TRIES = 4
#: Least time between two openings of a stream only to tell the number.
REOPEN_GAP_S = 15.0


class Followed(Protocol):
    """A build whose stream is open."""

    id: str

    def __len__(self) -> int: ...

    def reopen(self) -> None: ...


class HeadCount:
    """Keeps the number up to date while a stream is open."""

    def __init__(self, queue: Queue, follow: Followed) -> None:
        self._queue = queue
        self._follow = follow
        self._told = -1
        self._where: tuple[Dispatcher, str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._reopened = False
        self._reopened_at = -REOPEN_GAP_S

    def opening(self, count: int) -> None:
        """A stream is being opened with this number."""
        self._told, self._where = count, None

    def opened(self, dispatcher: Dispatcher, subscriber: str) -> None:
        """The stream is open; the dispatcher knows it by this name."""
        self._where = (dispatcher, subscriber)
        self.changed()

    def closed(self) -> None:
        """The stream is gone, and its people with it."""
        self._where = None

    def take_reopened(self) -> bool:
        """Whether the stream was closed only to tell the number."""
        was, self._reopened = self._reopened, False
        return was

    def changed(self) -> None:
        """The number may be another one."""
        if self._where is None or self._told == len(self._follow):
            return
        if self._task is None or self._task.done():
            self._task = self._queue.spawn(self._tell())

    def stop(self) -> None:
        """Nothing more is told."""
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
                    # The stream is about to end, or was opened anew: then its number was told with it.
                    return
                if refused.word == "other-dispatcher" and tries >= OTHER_TRIES:
                    return self._open_anew(where)
            except Away:
                # The stream tells soon enough whether the dispatcher is gone.
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
