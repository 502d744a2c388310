"""All dispatchers: each request goes to the one that answered last, then to the next if that one fails."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from logging import Logger, LoggerAdapter
from typing import Any, Union
from urllib.parse import urlsplit

Log = Union[Logger, "LoggerAdapter[Any]"]

#: Pause before a dispatcher that failed is preferred again: it doubles with each failure.
DOWN_FIRST_S = 1.0
#: Longest such pause: a dispatcher that is back should not stay idle for long.
DOWN_MAX_S = 30.0
#: Pauses between rounds over all dispatchers.
ROUND_FIRST_S = 0.25
ROUND_MAX_S = 5.0


@dataclass
class Dispatcher:
    """One dispatcher and its recent failures."""

    url: str
    failures: int = 0
    down_until: float = 0.0

    @property
    def shown(self) -> str:
        """Its address, for logs."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"


class Dispatchers:
    """All dispatchers, and which of them work."""

    def __init__(self, urls: tuple[str, ...], log: Log) -> None:
        self.all = [Dispatcher(url) for url in urls]
        # Replicas start at different ones, so that the load spreads.
        random.shuffle(self.all)
        self._log = log

    def in_order(self) -> list[Dispatcher]:
        """Dispatchers in the order to try: working ones by their last success, then the others."""
        now = time.monotonic()
        return sorted(self.all, key=lambda d: d.down_until if d.down_until > now else 0.0)

    def worked(self, dispatcher: Dispatcher) -> None:
        """Notes that a dispatcher has answered."""
        if dispatcher.failures:
            self._log.info("dispatcher %s answers again", dispatcher.shown)
        dispatcher.failures, dispatcher.down_until = 0, 0.0
        if self.all[0] is not dispatcher:
            self.all.remove(dispatcher)
            self.all.insert(0, dispatcher)

    def failed(self, dispatcher: Dispatcher, why: object) -> None:
        """Notes that a dispatcher has failed."""
        dispatcher.failures += 1
        pause = min(DOWN_MAX_S, DOWN_FIRST_S * 2.0 ** min(dispatcher.failures - 1, 10))
        dispatcher.down_until = time.monotonic() + jittered(pause)
        if dispatcher.failures == 1:
            self._log.warning("dispatcher %s failed: %s", dispatcher.shown, why)


def jittered(pause: float) -> float:
    """A random pause of at least half this length, so that clients do not all return at once."""
    return pause * random.uniform(0.5, 1.0)


def round_pause(round_number: int) -> float:
    """How long to wait after a round in which no dispatcher answered."""
    return jittered(min(ROUND_MAX_S, ROUND_FIRST_S * 2.0 ** min(round_number, 10)))
