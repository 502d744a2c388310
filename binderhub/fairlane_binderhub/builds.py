"""The builds that one BinderHub follows, each once for all who wait for it."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from tornado.ioloop import IOLoop

from .ask import Ask, outcome_of
from .errors import Away, Misconfigured, Refused
from .follow import Follow
from .queue import Queue
from .settings import Settings
from .watcher import Watcher

#: How often to check whether watchers need a keepalive.
TICK_S = 1.0
#: How long somebody waits for the queue's response about a build that is already being followed.
JOIN_S = 5.0

_SHARED: weakref.WeakKeyDictionary[IOLoop, dict[tuple[int, Settings], Builds]] = weakref.WeakKeyDictionary()


class Builds:
    """The builds being followed. Runs on BinderHub's event loop, without a thread or any state outside the process."""

    def __init__(self, settings: Settings, log: Any) -> None:
        self._queue = Queue(settings, log)
        self.watchers: set[Watcher] = set()
        self._follows: dict[str, Follow] = {}
        self._homes: dict[Watcher, Follow] = {}
        self._runs: dict[Follow, asyncio.Task[None]] = {}
        self._ticker: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, loop: IOLoop, owner: object, settings: Settings, log: Any) -> Builds:
        """The one object for this event loop, BinderHub and settings."""
        shared = _SHARED.setdefault(loop, {})
        key = (id(owner), settings)
        if key not in shared:
            shared[key] = cls(settings, log)
        return shared[key]

    def enter(self, watcher: Watcher, ask: Ask) -> None:
        """Adds a watcher, who starts to wait for a build."""
        self.watchers.add(watcher)
        if self._ticker is None or self._ticker.done():
            self._ticker = self._queue.spawn(self._tick())
        self._queue.spawn(self._enter(watcher, ask))

    def leave(self, watcher: Watcher) -> None:
        """Removes a watcher, who stops waiting."""
        watcher.leave()
        self.watchers.discard(watcher)
        follow = self._homes.pop(watcher, None)
        if follow is not None:
            follow.remove(watcher)

    def _forget(self, follow: Follow) -> None:
        """Drops a build that nobody waits for, or that has ended."""
        if self._follows.get(follow.ask.image) is follow:
            del self._follows[follow.ask.image]
        task = self._runs.pop(follow, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def _tick(self) -> None:
        while self.watchers:
            await asyncio.sleep(TICK_S)
            for watcher in list(self.watchers):
                watcher.tick()

    async def _enter(self, watcher: Watcher, ask: Ask) -> None:
        try:
            await self._join_or_follow(watcher, ask)
        except Exception as error:
            watcher.finish(outcome_of(error, self._queue.log, ask, ""))

    async def _join_or_follow(self, watcher: Watcher, ask: Ask) -> None:
        follow, answer = self._follows.get(ask.image), None
        if follow is not None and follow.is_open and follow.id and not follow.is_troubled:
            # Everybody's request is sent, even if the build is already followed: the repository may be banned
            # by now, the build may just have ended, and credentials may be newer. If the queue does not respond,
            # the known build is used.
            try:
                answer = await asyncio.wait_for(self._queue.ask_once(ask), JOIN_S)
            except (Away, Misconfigured, asyncio.TimeoutError):
                answer = None
            except Refused as refused:
                if not refused.is_passing:
                    raise
        if watcher.is_done:
            return
        follow = self._follows.get(ask.image)
        fits = follow is not None and follow.is_open and (answer is None or follow.id in ("", answer.id))
        if follow is None or not fits:
            follow = Follow(self._queue, ask, answer, self._forget)
            self._follows[ask.image] = follow
            self._runs[follow] = self._queue.spawn(follow.run())
        self._homes[watcher] = follow
        follow.add(watcher)
