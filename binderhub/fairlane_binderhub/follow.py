"""One build, followed once for all who wait for it in this BinderHub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from . import messages
from .ask import Answer, Ask, outcome_of
from .dispatchers import Dispatcher, round_pause
from .errors import Away, Nonsense, Refused
from .head_count import HeadCount
from .messages import Standing
from .queue import Queue
from .sse import Event, Parser
from .transcript import Transcript
from .watcher import Outcome, Watcher

#: A stream that delivered data for this long was healthy: pauses and the time limit start over.
STEADY_S = 10.0
#: How often a build may be requested again or move before its request fails.
DETOURS_MAX = 5
#: How long streams may be unreadable: longer than a rolling upgrade of the dispatchers takes.
NONSENSE_S = 60.0
#: Fewest unreadable streams in a row before that limit applies.
NONSENSE_MIN = 3


class _Row:
    """Streams in a row that could not be read."""

    def __init__(self) -> None:
        self._count, self._since = 0, 0.0

    def is_over(self, is_nonsense: bool, now: float) -> bool:
        """Counts one more stream; returns whether there were too many for too long."""
        if not is_nonsense:
            self._count = 0
            return False
        if self._count == 0:
            self._since = now
        self._count += 1
        return self._count >= NONSENSE_MIN and now - self._since >= NONSENSE_S


class _Lost(Exception):
    """The queue no longer knows the build, so it must be requested again."""


class _Moved(Exception):
    def __init__(self, to: str) -> None:
        self.to = to


class _End(Exception):
    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


class Follow:
    """Requests a build, follows it to its end through any number of dispatchers, and tells everyone who waits."""

    def __init__(
        self, queue: Queue, ask: Ask, answer: Answer | None, forget: Callable[[Follow], None]
    ) -> None:
        self._queue = queue
        self._log = queue.log
        self._forget = forget
        self.ask = ask
        self._answer = answer
        #: The build's id, once a dispatcher has given one.
        self.id = answer.id if answer else ""
        self._cursor = ""
        self._phase = "waiting"
        # The current or next attempt; 0 until it is known.
        self._attempt = 0
        self._standing = Standing()
        self._transcript = Transcript(queue.settings.log_bytes_max)
        self.watchers: set[Watcher] = set()
        self._close: Callable[[], None] | None = None
        self._stop_reason: Exception | None = None
        self._heard_at = 0.0
        # Whether the next stream resumes one that was interrupted.
        self._resumes = False
        self._head_count = HeadCount(queue, self)
        #: Whether somebody may still join.
        self.is_open = True
        #: Whether those who wait were told that the queue does not answer.
        self.is_troubled = False

    def __len__(self) -> int:
        return len(self.watchers)

    def add(self, watcher: Watcher) -> None:
        """Adds a watcher to this build."""
        self.watchers.add(watcher)
        watcher.stand(self._standing)
        watcher.read_from(self._transcript)
        watcher.pump()
        self._head_count.changed()

    def remove(self, watcher: Watcher) -> None:
        """Removes a watcher. After the last one, the stream is closed; the build continues."""
        self.watchers.discard(watcher)
        if not self.watchers:
            self.is_open = False
            self._forget(self)
        elif self.is_open:
            self._head_count.changed()

    def reopen(self) -> None:
        """Reopens the stream, which also sends the count of people."""
        if self._close is not None:
            self._close()

    async def run(self) -> None:
        """Follows the build to its end and tells everyone who waits, whatever happens."""
        try:
            outcome = await self._follow()
        except Exception as error:
            outcome = outcome_of(error, self._log, self.ask, self.id)
        finally:
            self.is_open = False
            self._head_count.stop()
        for watcher in list(self.watchers):
            watcher.finish(outcome)
        self._forget(self)

    async def _follow(self) -> Outcome:
        for _ in range(DETOURS_MAX):
            if self._answer is None:
                self._answer = await self._queue.submit(self.ask, self._tell_trouble)
                self._tell_recovery(messages.ANSWERS_AGAIN)
            self.id = self._answer.id
            if self._answer.state == "succeeded":
                self._say("waiting", messages.BUILT_BEFORE)
                return Outcome()
            if self._answer.state == "failed" and self._answer.ended_seconds_ago is not None:
                self._note(messages.remembered(self._answer.ended_seconds_ago))
            self._head_count.changed()
            try:
                await self._stream_on()
            except _End as end:
                return end.outcome
            except _Moved as moved:
                self._log.info("build %s of %s continues as %s", self.id, self.ask.repo, moved.to)
                self._answer = Answer(moved.to, "running")
                self._note(messages.STARTS_ANEW, is_anew=True)
            except _Lost as lost:
                self._log.warning("build %s of %s was lost (%s); requesting it again", self.id, self.ask.repo, lost)
                # Without an id, people who join now wait for this request instead of sending another.
                self._answer, self.id = None, ""
                self._note(messages.ASKED_AGAIN, is_anew=True)
            self._cursor, self._attempt = "", 0
        raise Away(f"the build was lost or moved {DETOURS_MAX} times")

    async def _stream_on(self) -> None:
        """Follows one build until it ends, moves or is lost; raises _End, _Moved or _Lost."""
        loop = asyncio.get_running_loop()
        lost_at, rounds, nonsense = loop.time(), 0, _Row()
        error: Exception = Away("no dispatcher is configured")
        while True:
            for dispatcher in self._queue.dispatchers.in_order():
                began, cursor = loop.time(), self._cursor
                try:
                    await self._stream_once(dispatcher)
                    error = Away("the dispatcher closed the stream")
                except Refused as refused:
                    if not refused.is_passing and not refused.is_about_us:
                        self._definitive(refused)
                    error = refused
                    self._queue.dispatchers.failed(dispatcher, refused)
                except Away as away:
                    error = away
                    self._queue.dispatchers.failed(dispatcher, away)
                if nonsense.is_over(isinstance(error, Nonsense), loop.time()):
                    raise error
                # This is until the last data arrived; the wait after it does not count.
                if self._heard_at - began > STEADY_S or cursor != self._cursor:
                    lost_at, rounds, nonsense = loop.time(), 0, _Row()
                    self._resumes = not self._head_count.take_reopened()
                    if not self._resumes:
                        break
            if isinstance(error, Refused) and error.is_about_us:
                raise error
            pause = max(round_pause(rounds), getattr(error, "retry_after", 0.0))
            if loop.time() + pause - lost_at > self._queue.settings.resume_timeout:
                raise error
            if rounds == 2 and not self.is_troubled:
                self._tell_trouble(messages.LOST_CONNECTION)
            rounds += 1
            await asyncio.sleep(pause)

    def _definitive(self, refused: Refused) -> None:
        if refused.word == "unknown-build":
            raise _Lost("no dispatcher knows it")
        if refused.word == "bad-cursor" and self._cursor:
            self._cursor = ""
            self._note(messages.STARTS_ANEW, is_anew=True)
            return
        raise refused

    async def _stream_once(self, dispatcher: Dispatcher) -> None:
        parser, loop = Parser(), asyncio.get_running_loop()
        self._stop_reason = None

        def opened(close: Callable[[], None]) -> None:
            self._close = close
            if self._stop_reason is not None:
                # The reason to stop came together with the response's headers.
                close()

        def received(chunk: bytes) -> None:
            if self._stop_reason is not None:
                return
            self._heard_at = loop.time()
            try:
                for event in parser.feed(chunk):
                    self._take(event, dispatcher)
            except Exception as reason:
                # Not raised through tornado, which would log a traceback.
                self._stop_reason = reason
                if self._close is not None:
                    self._close()

        count = len(self.watchers)
        self._head_count.opening(count)
        try:
            path = f"/v1/builds/{self.id}/events?watchers={count}"
            await self._queue.client.stream(dispatcher.url, path, self._cursor, opened, received)
        finally:
            self._close = None
            self._head_count.closed()
            if self._stop_reason is not None:
                raise self._stop_reason

    def _take(self, event: Event, dispatcher: Dispatcher) -> None:
        # Other events are from newer dispatchers; skip them.
        if event.name in ("state", "log", "notice", "moved", "end"):
            try:
                data = json.loads(event.data)
            except ValueError:
                data = None
            if not isinstance(data, dict):
                raise Nonsense(f"cannot parse the event {event.name!r}; does the dispatcher run another release?")
            self._take_known(event.name, data, dispatcher)
        if event.id:
            self._cursor = event.id

    def _take_known(self, name: str, data: dict[str, Any], dispatcher: Dispatcher) -> None:
        if name == "state":
            self._take_state(data, dispatcher)
        elif name == "log":
            self._take_log(data)
        elif name == "notice":
            self._take_notice(data)
        elif name == "moved":
            raise _Moved(str(data.get("to")))
        else:
            raise _End(self._outcome(data))

    def _take_state(self, data: dict[str, Any], dispatcher: Dispatcher) -> None:
        subscriber = data.get("subscriber")
        if isinstance(subscriber, str):
            # The first event of a stream that can be read.
            self._queue.dispatchers.worked(dispatcher)
            self._head_count.opened(dispatcher, subscriber)
            if self._resumes or self.is_troubled:
                self._resumes, self.is_troubled = False, False
                self._note(messages.RESUMED)
        attempt = data.get("attempt")
        if isinstance(attempt, int):
            self._take_attempt(attempt, data)
        self._standing = messages.standing(data)
        self._phase = messages.later(self._phase, self._standing.phase)
        for watcher in list(self.watchers):
            watcher.stand(self._standing)

    def _take_attempt(self, attempt: int, data: dict[str, Any]) -> None:
        """Says, after the log of the failed run, that another run follows, and why."""
        before, self._attempt = self._attempt, attempt
        is_next = 0 < before < attempt
        if is_next or (before != attempt and messages.visitor(data)[0] == "retry"):
            self._note(messages.retried(data))

    def _take_log(self, data: dict[str, Any]) -> None:
        lines = data.get("lines")
        if not isinstance(lines, list):
            raise Nonsense("a log event has no lines; does the dispatcher run another release?")
        for payload, phase, count in messages.log_messages(lines, messages.later("building", self._phase)):
            self._phase = phase
            self._transcript.append(phase, payload, count)
        self._pump()

    def _take_notice(self, data: dict[str, Any]) -> None:
        kind, text = data.get("kind"), messages.sentence(data.get("text") or "")
        if kind == "waiting":
            self._say("waiting", f"{text}\n")
            return
        if kind == "log-incomplete":
            text = messages.INCOMPLETE.rstrip()
        dropped = data.get("dropped")
        self._note(f"[{text}]\n", dropped if isinstance(dropped, int) else 0, is_anew=kind == "attempt")

    def _outcome(self, data: dict[str, Any]) -> Outcome:
        state = data.get("state")
        if state is None:
            raise _Lost("the queue lost it with its data")
        if state == "succeeded" and data.get("image") == self.ask.image:
            return Outcome()
        if state == "failed":
            reason = data.get("reason") or "no reason was given"
            level = self._log.info if data.get("class") == "repository" else self._log.warning
            level(
                "build %s of %s failed (%s): %s",
                self.id,
                self.ask.repo,
                data.get("class"),
                messages.clean(reason),
            )
            tail = data.get("log_tail") if self._transcript.lines == 0 else None
            ago = self._answer.ended_seconds_ago if self._answer else None
            return Outcome(messages.failure(data.get("class"), reason, tail, ago))
        if state == "cancelled":
            self._log.info("build %s of %s was cancelled", self.id, self.ask.repo)
            return Outcome(messages.cancelled(data.get("reason") or "no reason was given"))
        raise Nonsense(f"the build ended in an unexpected way: state {state!r}, image {data.get('image')!r}")

    def _tell_trouble(self, text: str) -> None:
        self.is_troubled = True
        self._note(text)

    def _tell_recovery(self, text: str) -> None:
        if self.is_troubled:
            self.is_troubled = False
            self._note(text)

    def _note(self, text: str, lines: int = 0, is_anew: bool = False) -> None:
        """Adds a note to the log at this point, also for people who join later."""
        if is_anew and self._phase == "pushing":
            self._phase = "building"
        self._transcript.append(self._phase, messages.message(self._phase, text), lines, is_anew)
        self._pump()

    def _say(self, phase: str, text: str) -> None:
        for watcher in list(self.watchers):
            watcher.say(phase, text)

    def _pump(self) -> None:
        for watcher in list(self.watchers):
            watcher.pump()
