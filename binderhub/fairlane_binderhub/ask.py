"""A build request, a dispatcher's response to it, and what people are told if it ends in an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import messages
from .dispatchers import Log
from .errors import Away, Misconfigured, Nonsense, Refused
from .watcher import Outcome


@dataclass(frozen=True)
class Ask:
    """A build request. Its ``body`` contains secrets and is never shown."""

    image: str
    body: dict[str, Any] = field(repr=False)

    @property
    def repo(self) -> str:
        return str(self.body["repo"])


@dataclass(frozen=True)
class Answer:
    """What a dispatcher answered to a request."""

    id: str
    state: str
    #: How long ago it ended, if the queue answers with a remembered result.
    ended_seconds_ago: float | None = None

    @classmethod
    def read(cls, data: Any) -> Answer:
        """Parses a response. Raises Nonsense if it is not one."""
        if isinstance(data, dict) and isinstance(data.get("id"), str) and isinstance(data.get("state"), str):
            ago = data.get("ended_seconds_ago")
            return cls(data["id"], data["state"], ago if isinstance(ago, (int, float)) else None)
        raise Nonsense(
            "the response to a build request has no id or no state; does the dispatcher run another release?"
        )


def outcome_of(error: Exception, log: Log, ask: Ask, id: str) -> Outcome:
    """What people are told about an error that ends their request; operators get one log line."""
    about = f"build of {ask.repo} ({id})" if id else f"build of {ask.repo}"
    is_busy = isinstance(error, Refused) and (error.status == 429 or (error.word in messages.BUSY and not id))
    if isinstance(error, Refused) and (is_busy or not error.is_passing):
        (log.info if error.word == "banned" else log.error)("%s is refused: %s", about, error)
        return Outcome(messages.refused(error.word, error.detail, error.retry_after, error.message))
    if isinstance(error, (Away, Refused)):
        log.error("gave up on the %s, because no dispatcher could serve it: %s", about, error)
        return Outcome(messages.unreadable() if id and isinstance(error, Nonsense) else messages.away(bool(id)))
    if isinstance(error, Misconfigured):
        log.error("%s: %s", about, error)
        return Outcome(messages.misconfigured())
    # A bug in the adapter ends here, instead of leaving a request that hangs.
    log.error("%s: internal error", about, exc_info=error)
    return Outcome(messages.internal())
