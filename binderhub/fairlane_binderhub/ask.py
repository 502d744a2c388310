"""A request for a build, what a dispatcher answers, and what people are told where it ends in an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import messages
from .dispatchers import Log
from .errors import Away, Misconfigured, Nonsense, Refused
from .watcher import Outcome


@dataclass(frozen=True)
class Ask:
    """A request for a build. Its secrets are in ``body``, which is never shown."""

    image: str
    body: dict[str, Any] = field(repr=False)

    @property
    def repo(self) -> str:
        """The repository."""
        return str(self.body["repo"])


@dataclass(frozen=True)
class Answer:
    """What a dispatcher answered to a request."""

    id: str
    state: str
    #: How long ago it ended, where the queue answers with what it remembers.
    ended_seconds_ago: float | None = None

    @classmethod
    def read(cls, data: Any) -> Answer:
        """Nonsense if it is none."""
        if isinstance(data, dict) and isinstance(data.get("id"), str) and isinstance(data.get("state"), str):
            ago = data.get("ended_seconds_ago")
            return cls(data["id"], data["state"], ago if isinstance(ago, (int, float)) else None)
        raise Nonsense(
            "the answer to a request for a build names no id and state; is the dispatcher of another release?"
        )


def outcome_of(error: Exception, log: Log, ask: Ask, id: str) -> Outcome:
    """What people are told of an error that ends their request; the operator gets one line in the log."""
    about = f"build of {ask.repo} ({id})" if id else f"build of {ask.repo}"
    is_busy = isinstance(error, Refused) and (error.status == 429 or (error.word in messages.BUSY and not id))
    if isinstance(error, Refused) and (is_busy or not error.is_passing):
        (log.info if error.word == "banned" else log.error)("%s is refused: %s", about, error)
        return Outcome(messages.refused(error.word, error.detail, error.retry_after, error.message))
    if isinstance(error, (Away, Refused)):
        log.error("%s is given up, because no dispatcher serves it: %s", about, error)
        return Outcome(messages.unreadable() if id and isinstance(error, Nonsense) else messages.away(bool(id)))
    if isinstance(error, Misconfigured):
        log.error("%s: %s", about, error)
        return Outcome(messages.misconfigured())
    # A fault of our own ends here, instead of in a request that hangs.
    log.error("%s: a fault in the adapter", about, exc_info=error)
    return Outcome(messages.internal())
