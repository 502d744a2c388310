"""Parses server-sent events from a stream of bytes."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import Nonsense

#: Longest event, in bytes. A dispatcher's largest events have 32 KiB of log, up to six times that as JSON.
EVENT_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True)
class Event:
    """One event: its cursor (empty if it has none), its name and its data."""

    id: str
    name: str
    data: str


class Parser:
    """Splits a stream into events. Comments are ignored; they only show that the stream is alive."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._id = ""
        self._name = ""
        self._data: list[str] = []
        self._bytes = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Adds bytes; returns the events that they complete."""
        self._rest += chunk
        events: list[Event] = []
        start = 0
        while (end := self._rest.find(b"\n", start)) >= 0:
            line = bytes(self._rest[start:end]).rstrip(b"\r")
            start = end + 1
            if line:
                self._field(line)
            elif self._data:
                events.append(Event(self._id, self._name or "message", "\n".join(self._data)))
                self._reset()
            else:
                self._reset()
        del self._rest[:start]
        if len(self._rest) + self._bytes > EVENT_BYTES_MAX:
            raise Nonsense(f"an event of more than {EVENT_BYTES_MAX} bytes")
        return events

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        text = value.removeprefix(b" ").decode("utf-8", "replace")
        if name == b"data":
            self._data.append(text)
            self._bytes += len(text)
        elif name == b"event":
            self._name = text
        elif name == b"id" and "\0" not in text:
            self._id = text

    def _reset(self) -> None:
        self._id, self._name, self._data, self._bytes = "", "", [], 0
