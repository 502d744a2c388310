"""What the requests of one BinderHub share: dispatchers, and the builds that are being followed."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from logging import LoggerAdapter
from typing import Any

from tornado.ioloop import IOLoop

from . import messages
from .ask import Answer, Ask, outcome_of
from .client import Client
from .dispatchers import Dispatcher, Dispatchers, Log, round_pause
from .errors import Away, Misconfigured, Refused
from .follow import Follow
from .settings import Settings
from .watcher import Watcher

#: How often watchers are looked at for having been told nothing.
TICK_S = 1.0
#: How long somebody waits for the queue's word on a build that is followed already.
JOIN_S = 5.0
#: Short requests on their way at once: a crowd that comes in one second must not open hundreds of sockets.
CALLS_MAX = 32

_HUBS: weakref.WeakKeyDictionary[IOLoop, dict[tuple[int, Settings], Hub]] = weakref.WeakKeyDictionary()


class _Prefixed(LoggerAdapter):  # type: ignore[type-arg]
    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        return f"Fairlane: {msg}", kwargs


class Hub:
    """Lives on BinderHub's event loop. Holds no thread and no state that outlives the process."""

    def __init__(self, settings: Settings, log: Any) -> None:
        self.settings = settings
        self.log: Log = _Prefixed(log, {})
        self.dispatchers = Dispatchers(settings.urls, self.log)
        self.client = Client(settings)
        self.watchers: set[Watcher] = set()
        self._follows: dict[str, Follow] = {}
        self._homes: dict[Watcher, Follow] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runs: dict[Follow, asyncio.Task[None]] = {}
        self._calls = asyncio.Semaphore(CALLS_MAX)
        self._ticker: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, loop: IOLoop, owner: object, settings: Settings, log: Any) -> Hub:
        """The hub of this event loop, BinderHub and settings."""
        hubs = _HUBS.setdefault(loop, {})
        key = (id(owner), settings)
        if key not in hubs:
            hubs[key] = cls(settings, log)
        return hubs[key]

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs something beside the rest; the loop itself would not keep it from being collected."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("a fault in the adapter", exc_info=error)

    def enter(self, watcher: Watcher, ask: Ask) -> None:
        """Somebody waits for a build."""
        self.watchers.add(watcher)
        if self._ticker is None or self._ticker.done():
            self._ticker = self.spawn(self._tick())
        self.spawn(self._enter(watcher, ask))

    def leave(self, watcher: Watcher) -> None:
        """Somebody does not wait any more."""
        watcher.leave()
        self.watchers.discard(watcher)
        follow = self._homes.pop(watcher, None)
        if follow is not None:
            follow.remove(watcher)

    def forget(self, follow: Follow) -> None:
        """Nobody waits for it any more, or it has ended."""
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
            watcher.finish(outcome_of(error, self.log, ask, ""))

    async def _join_or_follow(self, watcher: Watcher, ask: Ask) -> None:
        follow, answer = self._follows.get(ask.image), None
        if follow is not None and follow.is_open and follow.id and not follow.is_troubled:
            # Everybody asks, also for what is followed already: the repository may be banned by now,
            # the build may just have ended, and credentials may be fresher. Where the queue does not
            # answer, the build that is known will do.
            try:
                answer = await asyncio.wait_for(self._ask_once(ask), JOIN_S)
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
            follow = Follow(self, ask, answer)
            self._follows[ask.image] = follow
            self._runs[follow] = self.spawn(follow.run())
        self._homes[watcher] = follow
        follow.add(watcher)

    async def call(self, dispatcher: Dispatcher, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """A short request to one dispatcher."""
        async with self._calls:
            return await self.client.call(dispatcher.url, method, path, body)

    async def submit(self, ask: Ask, tell: Callable[[str], None]) -> Answer:
        """Asks for a build until a dispatcher has answered or the time is over."""
        loop = asyncio.get_running_loop()
        began, rounds, told = loop.time(), 0, False
        while True:
            try:
                return await self._ask_once(ask)
            except Refused as refused:
                if not refused.is_passing:
                    raise
                error: Exception = refused
                retry_after = refused.retry_after
            except Away as away:
                error, retry_after = away, away.retry_after
            pause = max(round_pause(rounds), retry_after)
            if loop.time() + pause - began > self.settings.submit_timeout:
                raise error
            if not told and (rounds == 2 or pause >= 1):
                told = True
                tell(messages.SUBMITTING_AGAIN)
            rounds += 1
            await asyncio.sleep(pause)

    async def _ask_once(self, ask: Ask) -> Answer:
        """Asks each dispatcher until one has answered; raises what the last one that did not said."""
        last: Exception = Away("no dispatcher is named; set FairlaneBuildExecutor.dispatcher_urls")
        tried: set[str] = set()
        while len(tried) < len(self.dispatchers.all):
            async with self._calls:
                # Chosen when its turn has come: those before may have found that one does not answer.
                dispatcher = next(d for d in self.dispatchers.in_order() if d.url not in tried)
                tried.add(dispatcher.url)
                try:
                    return await self._ask_at(dispatcher, ask)
                except Refused as refused:
                    # All dispatchers share one queue and one count of requests: at a limit, and at a
                    # definite no, the next one would say the same.
                    shared = refused.status == 429 and refused.word != "address-connections"
                    if shared or not (refused.is_passing or refused.is_about_us):
                        raise
                    self.dispatchers.failed(dispatcher, refused)
                    last = refused
                except Away as away:
                    self.dispatchers.failed(dispatcher, away)
                    # That one is away says less than that another one refuses.
                    last = last if isinstance(last, Refused) else away
        raise last

    async def _ask_at(self, dispatcher: Dispatcher, ask: Ask) -> Answer:
        try:
            answer = Answer.read(await self.client.call(dispatcher.url, "POST", "/v1/builds", ask.body))
        except Refused as refused:
            if refused.word != "conflict" or not refused.build:
                raise
            return await self._join_other(dispatcher, ask, refused)
        self.dispatchers.worked(dispatcher)
        return answer

    async def _join_other(self, dispatcher: Dispatcher, ask: Ask, conflict: Refused) -> Answer:
        """The image is being built with other arguments. BinderHub takes whatever build has the image's
        name, and so do we, as long as it is made of the same commit: during an upgrade that changes
        arguments, two builds would only race for the name."""
        view = await self.client.call(dispatcher.url, "GET", f"/v1/builds/{conflict.build}")
        same = isinstance(view, dict) and all(
            str(view.get(name)).casefold() == str(ask.body[name]).casefold() for name in ("repo", "ref")
        )
        if not same:
            raise conflict
        return Answer.read(view)
