"""What can go wrong between BinderHub and the dispatchers, by what is to be done about it."""

from __future__ import annotations


class Away(Exception):
    """A dispatcher that does not answer, or not as one does. Another one, or the same one later, may."""

    def __init__(self, why: str, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        #: Before so many seconds have passed there is no use in trying again.
        self.retry_after = retry_after


class Nonsense(Away):
    """A dispatcher's answer that cannot be read: it is of another release."""


class Refused(Exception):
    """A dispatcher has said no, in words of its own, and will not say anything else."""

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
        #: What people are told: the operators' words, of a ban.
        self.message = message
        self.retry_after = retry_after

    @property
    def is_passing(self) -> bool:
        """Whether it is worth asking again: overload, Redis away, the window after Redis was emptied."""
        return self.status in (408, 425, 429) or self.status >= 500

    @property
    def is_about_us(self) -> bool:
        """Whether this dispatcher does not let this BinderHub in; another one may."""
        return self.status == 401 or (self.status == 403 and self.word == "forbidden")


class Misconfigured(Exception):
    """A setting of this BinderHub that cannot be used."""
