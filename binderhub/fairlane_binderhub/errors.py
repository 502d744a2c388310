"""Errors between BinderHub and the dispatchers, grouped by how to react to them."""

from __future__ import annotations


class Away(Exception):
    """A dispatcher did not respond, or not like a dispatcher. Another one may, or the same one later."""

    def __init__(self, why: str, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        #: Seconds to wait before trying again.
        self.retry_after = retry_after


class Nonsense(Away):
    """A dispatcher's response that cannot be parsed: it runs another release."""


class Refused(Exception):
    """A dispatcher rejected the request with a problem document; asking it again gives the same answer."""

    def __init__(
        self,
        status: int,
        word: str,
        detail: str,
        build: str | None = None,
        retry_after: float = 0.0,
        message: str | None = None,
    ) -> None:
        super().__init__(f"{status} {word}: {detail}")
        self.status = status
        #: The last part of the problem's type, such as ``banned``.
        self.word = word
        self.detail = detail
        self.build = build
        #: What people are told: the operators' message, for a ban.
        self.message = message
        self.retry_after = retry_after

    @property
    def is_passing(self) -> bool:
        """Whether it is worth asking again: overload, Redis away, the window after Redis was emptied."""
        return self.status in (408, 425, 429) or self.status >= 500

    @property
    def is_about_us(self) -> bool:
        """Whether this dispatcher rejects this BinderHub's credentials; another one may accept them."""
        return self.status == 401 or (self.status == 403 and self.word == "forbidden")


class Misconfigured(Exception):
    """A setting of this BinderHub that cannot be used."""
