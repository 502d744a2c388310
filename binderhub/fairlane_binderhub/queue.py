"""The queue as the adapter sees it: requests to its dispatchers, whichever of them answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from logging import LoggerAdapter
from typing import Any

from . import messages
from .ask import Answer, Ask
from .client import Client
from .dispatchers import Dispatcher, Dispatchers, Log, round_pause
from .errors import Away, Refused
from .settings import Settings

#: Concurrent short requests: a crowd that arrives within a second must not open hundreds of sockets.
CALLS_MAX = 32


class _Prefixed(LoggerAdapter):  # type: ignore[type-arg]
    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        return f"Fairlane: {msg}", kwargs


class Queue:
    """Sends requests to dispatchers. Runs on BinderHub's event loop."""

    def __init__(self, settings: Settings, log: Any) -> None:
        self.settings = settings
        self.log: Log = _Prefixed(log, {})
        self.dispatchers = Dispatchers(settings.urls, self.log)
        self.client = Client(settings)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._calls = asyncio.Semaphore(CALLS_MAX)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a coroutine in the background and keeps a reference, so that it is not garbage-collected."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("internal error", exc_info=error)

    async def call(self, dispatcher: Dispatcher, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Sends a short request to one dispatcher."""
        async with self._calls:
            return await self.client.call(dispatcher.url, method, path, body)

    async def submit(self, ask: Ask, tell: Callable[[str], None]) -> Answer:
        """Requests a build until a dispatcher responds or the time is up."""
        loop = asyncio.get_running_loop()
        began, rounds, told = loop.time(), 0, False
        while True:
            try:
                return await self.ask_once(ask)
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

    async def ask_once(self, ask: Ask) -> Answer:
        """Tries each dispatcher until one responds; otherwise raises the last error."""
        last: Exception = Away("no dispatcher is configured; set FairlaneBuildExecutor.dispatcher_urls")
        tried: set[str] = set()
        while len(tried) < len(self.dispatchers.all):
            async with self._calls:
                # Chosen only now: requests before this one may have found that a dispatcher does not respond.
                dispatcher = next(d for d in self.dispatchers.in_order() if d.url not in tried)
                tried.add(dispatcher.url)
                try:
                    return await self._ask_at(dispatcher, ask)
                except Refused as refused:
                    # All dispatchers share one queue and one request count: after a rate limit or a
                    # definite refusal, the next one would respond the same way.
                    shared = refused.status == 429 and refused.word != "address-connections"
                    if shared or not (refused.is_passing or refused.is_about_us):
                        raise
                    self.dispatchers.failed(dispatcher, refused)
                    last = refused
                except Away as away:
                    self.dispatchers.failed(dispatcher, away)
                    # A refusal says more than a dispatcher that does not respond.
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
        """The image is being built with other arguments. BinderHub accepts any build of the image's name, and
        so do we, if it is of the same commit: during an upgrade that changes arguments, two builds would
        only race for the name."""
        view = await self.client.call(dispatcher.url, "GET", f"/v1/builds/{conflict.build}")
        same = isinstance(view, dict) and all(
            str(view.get(name)).casefold() == str(ask.body[name]).casefold() for name in ("repo", "ref")
        )
        if not same:
            raise conflict
        return Answer.read(view)
