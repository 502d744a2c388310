"""The log of a build as people see it: kept from its beginning, up to a size limit."""

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
    #: Whether another run begins here, so that the page's progress bar may go back.
    is_anew: bool


class Transcript:
    """Numbered passages, from 0. If they are too large, those in the middle are dropped.

    Half of the size limit is for the beginning and half for the end, so that people who join late see both.
    A passage's number stays valid whatever is dropped.
    """

    def __init__(self, bytes_max: int) -> None:
        self._half = max(1, bytes_max // 2)
        self._head: list[Passage] = []
        self._head_bytes = 0
        self._tail: deque[Passage] = deque()
        self._tail_bytes = 0
        #: Lines of the log, including dropped ones.
        self.lines = 0
        #: The number after the last passage.
        self.end = 0

    def append(self, phase: str, payload: str, lines: int = 0, is_anew: bool = False) -> None:
        """Adds a passage with its number of lines; a notice has none."""
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
        """The passage with this number, or the next one if it was dropped; and the number after it."""
        if place < len(self._head):
            return self._head[place], place + 1
        if place >= self.end:
            return None
        tail_start = self.end - len(self._tail)
        index = max(0, place - tail_start)
        return self._tail[index], tail_start + index + 1
