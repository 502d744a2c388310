"""The log of a build as it is shown to people: kept from its beginning, within a bound."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True)
class Passage:
    """Some lines, ready to be sent to any number of people."""

    payload: str
    #: The number of its first line, from 0.
    first_line: int
    lines: int
    #: The phase that its payload names.
    phase: str
    #: Whether another run begins here, so that a page's progress may go back.
    is_anew: bool


class Transcript:
    """Passages by number, from 0. When there are too many, those in the middle are left out.

    Half of the bound keeps the beginning, half the end, so that somebody who comes late sees both. A
    place is a number; it stays valid whatever is left out.
    """

    def __init__(self, bytes_max: int) -> None:
        self._half = max(1, bytes_max // 2)
        self._head: list[Passage] = []
        self._head_bytes = 0
        self._tail: deque[Passage] = deque()
        self._tail_bytes = 0
        #: Lines of the log, those included that are left out.
        self.lines = 0
        #: The place behind the last passage.
        self.end = 0

    def append(self, phase: str, payload: str, lines: int = 0, is_anew: bool = False) -> None:
        """Adds a passage of so many lines; a notice has none."""
        passage = Passage(payload, self.lines, lines, phase, is_anew)
        self.lines += lines
        self.end += 1
        if not self._tail and self._head_bytes + len(payload) <= self._half:
            self._head.append(passage)
            self._head_bytes += len(payload)
            return
        self._tail.append(passage)
        self._tail_bytes += len(payload)
        while self._tail_bytes > self._half and len(self._tail) > 1:
            self._tail_bytes -= len(self._tail.popleft().payload)

    def at(self, place: int) -> tuple[Passage, int] | None:
        """What stands at a place, or first after it where that is left out; and the place behind it."""
        if place < len(self._head):
            return self._head[place], place + 1
        if place >= self.end:
            return None
        tail_start = self.end - len(self._tail)
        index = max(0, place - tail_start)
        return self._tail[index], tail_start + index + 1
