"""Settings that all requests of one BinderHub share: checked once, compared as a whole."""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from .errors import Misconfigured

#: How long a token from a file is used before the file is read again.
TOKEN_HOLDS_S = 5.0


@dataclass(frozen=True)
class Settings:
    """Dispatcher URLs, credentials and limits. Times are in seconds."""

    urls: tuple[str, ...]
    token: str = field(default="", repr=False)
    token_file: str = ""
    ca_file: str = ""
    connect_timeout: float = 3.0
    request_timeout: float = 10.0
    silence_timeout: float = 45.0
    submit_timeout: float = 60.0
    resume_timeout: float = 300.0
    keepalive: float = 15.0
    log_bytes_max: int = 512 * 1024


def checked_url(text: str) -> str:
    """A dispatcher's address without its last slash; ValueError says what is wrong with it."""
    url = urlsplit(text.strip())
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"{text!r} is not a dispatcher's address; one looks like http://fairlane-dispatcher:8600")
    if url.username or url.password:
        # The text itself is not repeated: it ends up in logs.
        raise ValueError("a dispatcher's address must not carry a password; set token or token_file")
    if url.query or url.fragment:
        raise ValueError(f"{text!r}: a dispatcher's address must not contain ? or #")
    if url.port is not None and url.port == 0:
        raise ValueError(f"{text!r}: 0 is not a valid port")
    return text.strip().rstrip("/")


class Credentials:
    """The token and the trusted certificates, read when they are needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token = ""
        self._read_at: float | None = None
        self._context: ssl.SSLContext | None = None

    def token(self) -> str:
        """The API token, or an empty string. A token file is reread every few seconds, so that it can change."""
        path = self._settings.token_file
        if not path:
            return self._settings.token
        now = time.monotonic()
        if self._read_at is None or now - self._read_at > TOKEN_HOLDS_S:
            try:
                token = Path(path).read_text(encoding="ascii").strip()
            except (OSError, UnicodeError) as error:
                reason = getattr(error, "strerror", None) or type(error).__name__
                raise Misconfigured(f"token_file {path} cannot be read: {reason}") from None
            self._token, self._read_at = token, now
        return self._token

    def tls(self) -> ssl.SSLContext:
        """How the dispatchers' certificates are checked."""
        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._settings.ca_file or None)
            except (OSError, ssl.SSLError) as error:
                reason = getattr(error, "strerror", None) or type(error).__name__
                raise Misconfigured(f"ca_file {self._settings.ca_file} cannot be used: {reason}") from None
        return self._context
