"""One person who waits: what they were told and what to tell them next."""

from __future__ import annotations

import asyncio
from typing import Protocol

from . import messages
from .messages import Standing
from .transcript import Passage, Transcript

#: Most events in a request's queue, so that a slow browser does not put the whole log into memory. The texts
#: are shared, so this many references cost little.
BACKLOG_MAX = 256
#: How often to check whether a slow reader has read something.
BACKLOG_LOOK_S = 0.1
#: Shortest time between two reasons for waiting, which change with every build that ends.
REASON_GAP_S = 10.0
#: How long a slow reader may take for the rest of the log once the build has ended.
DRAIN_S = 60.0
#: How long BinderHub may take to end a request that was asked to end.
END_S = 5.0


class Person(Protocol):
    """What a watcher needs from its executor."""

    def say(self, payload: str) -> None:
        """Puts a message into the request's queue."""

    def built(self) -> None:
        """Tells BinderHub that the image is there."""

    def end(self) -> None:
        """Makes BinderHub end the request."""

    def end_by_force(self) -> None:
        """Ends the request in another way, if BinderHub has not ended it."""

    def backlog(self) -> int:
        """Events in the request's queue that are not yet read."""


class Outcome:
    """How a build ended for the people who wait: an image, or a message that says why there is none."""

    def __init__(self, failure: str | None = None) -> None:
        self.failure = failure


class Watcher:
    """Sends messages to one request. Runs on BinderHub's event loop."""

    def __init__(self, person: Person, keepalive: float, linger: float, in_place: bool) -> None:
        self._person = person
        self._keepalive = keepalive
        self._linger = linger
        self._in_place = in_place
        self._loop = asyncio.get_running_loop()
        self._said_at = self._loop.time()
        self._transcript: Transcript | None = None
        self._place = 0
        self._lines_seen = 0
        self._standing = Standing()
        # The phase that the page's progress bar has reached.
        self._phase = "waiting"
        self._line_open = False
        self._line_at = 0.0
        self._reason_key = ""
        self._reason_at = -REASON_GAP_S
        self._has_started = False
        self._outcome: Outcome | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: The person left or was told the outcome.
        self.is_done = False

    @property
    def has_seen_log(self) -> bool:
        """Whether any line of the log was shown."""
        return self._lines_seen > 0

    def read_from(self, transcript: Transcript) -> None:
        """Shows this log from its beginning."""
        self._transcript, self._place, self._lines_seen = transcript, 0, 0

    def say(self, phase: str, text: str) -> None:
        """Shows a text once."""
        if not self.is_done and self._outcome is None:
            self._close_line()
            self._put(phase, text)

    def stand(self, standing: Standing) -> None:
        """Shows what has changed in the build's state."""
        if self.is_done or self._outcome is not None:
            return
        before, self._standing = self._standing, standing
        now = self._loop.time()
        if standing.reason_key not in ("", self._reason_key) and now - self._reason_at >= REASON_GAP_S:
            self._reason_key, self._reason_at = standing.reason_key, now
            self.say(standing.phase, standing.reason)
        if standing.started and not self._has_started:
            self._has_started = True
            # The log's first lines may arrive before the state "running".
            if not self._lines_seen:
                self.say(standing.phase, standing.started)
        if standing.line:
            self._show_line(standing, before, now)

    def _show_line(self, standing: Standing, before: Standing, now: float) -> None:
        changed = standing.line != before.line or (self._in_place and not self._line_open)
        if not self._in_place:
            # Each update leaves a line, so keep updates rare.
            if changed and now - self._line_at >= self._keepalive:
                self._line_at = now
                self._put(standing.phase, standing.line + "\n")
        elif changed and self._person.backlog() < BACKLOG_MAX:
            self._line_open = True
            self._put(standing.phase, messages.AGAIN + standing.line)

    def _close_line(self) -> None:
        if self._line_open:
            self._line_open = False
            self._put(self._phase, "\n")

    def pump(self) -> None:
        """Sends as much of the log as the reader accepts, and after it the outcome."""
        if self.is_done:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        late = self._deadline is not None and self._loop.time() >= self._deadline
        transcript = self._transcript
        room = BACKLOG_MAX - self._person.backlog()
        while transcript is not None and (found := transcript.at(self._place)) is not None and not late:
            if room <= 0:
                self._timer = self._loop.call_later(BACKLOG_LOOK_S, self.pump)
                return
            passage, self._place = found
            self._close_line()
            if passage.first_line > self._lines_seen:
                self._put(passage.phase, messages.omitted(passage.first_line - self._lines_seen))
            self._lines_seen = passage.first_line + passage.lines
            self._put_passage(passage)
            room -= 1
        if self._outcome is not None:
            self._tell_end(self._outcome)

    def finish(self, outcome: Outcome) -> None:
        """Reports the outcome once the whole log is sent."""
        if self.is_done or self._outcome is not None:
            return
        self._outcome = outcome
        self._deadline = self._loop.time() + DRAIN_S
        self.pump()

    def _tell_end(self, outcome: Outcome) -> None:
        self._close_line()
        self.is_done = True
        if outcome.failure is None:
            self._person.built()
            return
        self._person.say(messages.message("failed", outcome.failure))
        self._timer = self._loop.call_later(self._linger, self._end)

    def _end(self) -> None:
        self._person.end()
        self._timer = self._loop.call_later(END_S, self._person.end_by_force)

    def tick(self) -> None:
        """Sends a keepalive after a while without messages: only this shows BinderHub who has left."""
        if self.is_done or self._outcome is not None or self._person.backlog() > 0:
            return
        if self._loop.time() - self._said_at >= self._keepalive:
            if self._line_open:
                self._put(self._phase, messages.AGAIN + self._standing.line)
            else:
                self._put(self._phase, "")

    def leave(self) -> None:
        """Stops sending and releases the log, because the request is over."""
        self.is_done = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transcript = None

    def _put_passage(self, passage: Passage) -> None:
        payload = passage.payload
        if passage.is_anew or not messages.is_behind(passage.phase, self._phase):
            self._phase = passage.phase
        else:
            payload = messages.with_phase(self._phase, payload)
        self._hand_on(payload)

    def _put(self, phase: str, text: str) -> None:
        self._phase = messages.later(self._phase, phase)
        self._hand_on(messages.message(self._phase, text))

    def _hand_on(self, payload: str) -> None:
        self._said_at = self._loop.time()
        self._person.say(payload)
