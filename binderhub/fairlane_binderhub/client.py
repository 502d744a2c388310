"""HTTP to one dispatcher, on tornado's own streams.

BinderHub's shared client handles ten requests at a time, including registry look-ups and launches, so
streams must not use it. Also, no tornado client can abandon a stream that has gone silent. Here, each
request has its own connection, which is closed whatever happens to the request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPMessageDelegate, RequestStartLine
from tornado.iostream import IOStream, StreamClosedError
from tornado.tcpclient import TCPClient

from .errors import Away, Nonsense, Refused
from .settings import Credentials, Settings

T = TypeVar("T")

#: Largest response that is read; a build's state with the tail of its log has about 10 KiB.
ANSWER_BYTES_MAX = 1024 * 1024
#: Buffer limit of a connection: above the limits of a response and an event, so that those apply first.
STREAM_BUFFER = 4 * 1024 * 1024
#: Streams have no length, but tornado needs a limit.
UNBOUNDED = 1 << 62
PROBLEM = "urn:fairlane:error:"
#: Longest dispatcher message that is shown.
DETAIL_MAX = 1000
#: Longest Retry-After that is honored from a proxy, which knows nothing about the dispatchers.
STRANGERS_PAUSE_MAX_S = 10.0


class _Reply(HTTPMessageDelegate):
    def __init__(self, on_head: Callable[[], None], on_data: Callable[[bytes], None]) -> None:
        self.status = 0
        self.headers = HTTPHeaders()
        self.is_whole = False
        self._on_head = on_head
        self._on_data = on_data

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> Awaitable[None] | None:
        self.status, self.headers = start_line.code, headers
        self._on_head()
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self._on_data(chunk)
        return None

    def finish(self) -> None:
        self.is_whole = True


class _Silence:
    """Closes a stream that has sent nothing for too long."""

    def __init__(self, limit: float, close: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._close = close
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(limit, self._look)
        self.is_over = False

    def heard(self) -> None:
        self._heard_at = self._loop.time()

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        left = self._heard_at + self._limit - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.is_over = True
            self._close()


class Client:
    """Sends requests to dispatchers, each on its own connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._credentials = Credentials(settings)
        self._tcp = TCPClient()

    async def call(self, url: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Sends a request and returns the JSON of the response. Raises Away, Refused or Misconfigured."""
        limit = self._settings.request_timeout
        answer = bytearray()

        async def exchange() -> _Reply:
            stream = await self._connect(url)

            def take(chunk: bytes) -> None:
                answer.extend(chunk)
                if len(answer) > ANSWER_BYTES_MAX:
                    stream.close()

            reply = _Reply(lambda: None, take)
            try:
                connection = await self._send(stream, url, method, path, body, {})
                await connection.read_response(reply)
            finally:
                stream.close()
            return reply

        reply = await self._guarded(exchange(), limit)
        if len(answer) > ANSWER_BYTES_MAX:
            raise Nonsense(f"the response has more than {ANSWER_BYTES_MAX} bytes")
        if not reply.is_whole:
            raise Away("the connection was closed before the response was complete")
        if not 200 <= reply.status < 300:
            raise refusal(reply.status, reply.headers, bytes(answer))
        try:
            return json.loads(bytes(answer))
        except ValueError:
            raise Away(f"the response to {method} {path} is not JSON") from None

    async def stream(
        self,
        url: str,
        path: str,
        cursor: str,
        on_open: Callable[[Callable[[], None]], None],
        on_data: Callable[[bytes], None],
    ) -> None:
        """Opens an event stream and follows it until it ends.

        ``on_open`` gets a function that closes it. Raises Away or Refused if it does not open, and Away
        if it goes silent: dispatchers send a comment every 15 s.
        """
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if cursor:
            headers["Last-Event-ID"] = cursor
        opened: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        refused = bytearray()

        def is_stream() -> bool:
            kind = reply.headers.get("Content-Type", "")
            return reply.status == 200 and kind.startswith("text/event-stream")

        def take(chunk: bytes) -> None:
            silence.heard()
            if is_stream():
                on_data(chunk)
            elif len(refused) < ANSWER_BYTES_MAX:
                refused.extend(chunk)
            else:
                stream.close()

        limit = self._settings.request_timeout
        reply = _Reply(lambda: None if opened.done() else opened.set_result(True), take)
        stream = await self._guarded(self._connect(url), limit)
        silence = _Silence(self._settings.silence_timeout, stream.close)
        reading: asyncio.Future[bool] | None = None
        try:
            connection = await self._guarded(self._send(stream, url, "GET", path, None, headers), limit)
            reading = asyncio.ensure_future(connection.read_response(reply))
            await asyncio.wait({reading, opened}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not opened.done():
                raise Away("the connection was closed" if reading.done() else f"no response within {limit:g} s")
            if is_stream():
                on_open(stream.close)
            await self._guarded(reading, None)
        finally:
            silence.stop()
            stream.close()
            if reading is not None:
                # Closing the connection ends the read; nothing else awaits it.
                reading.cancel()
        if silence.is_over:
            raise Away(f"the stream sent nothing for {self._settings.silence_timeout:g} s")
        if reply.status != 200:
            raise refusal(reply.status, reply.headers, bytes(refused))
        if not is_stream():
            raise Away(f"the response to GET {path} is not an event stream")

    async def _connect(self, url: str) -> IOStream:
        parts = urlsplit(url)
        tls = self._credentials.tls() if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        host = parts.hostname or ""
        limit = self._settings.connect_timeout
        try:
            return await self._tcp.connect(host, port, ssl_options=tls, max_buffer_size=STREAM_BUFFER, timeout=limit)
        except (asyncio.TimeoutError, TimeoutError):
            raise Away(f"no connection within {limit:g} s") from None

    async def _send(
        self,
        stream: IOStream,
        url: str,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        headers: dict[str, str],
    ) -> HTTP1Connection:
        from . import __version__

        # Log lines should not be delayed.
        stream.set_nodelay(True)
        parts = urlsplit(url)
        content = b"" if body is None else json.dumps(body).encode()
        fields = HTTPHeaders({"Host": parts.netloc, "Connection": "close", "Accept": "application/json"})
        fields["User-Agent"] = f"fairlane-binderhub/{__version__}"
        if body is not None:
            fields["Content-Type"] = "application/json"
            fields["Content-Length"] = str(len(content))
        if token := self._credentials.token():
            fields["Authorization"] = f"Bearer {token}"
        fields.update(headers)
        parameters = HTTP1ConnectionParameters(no_keep_alive=True, max_body_size=UNBOUNDED)
        connection = HTTP1Connection(stream, True, parameters)
        start = RequestStartLine(method, parts.path.rstrip("/") + path, "HTTP/1.1")
        await connection.write_headers(start, fields, content or None)
        connection.finish()
        return connection

    async def _guarded(self, work: Awaitable[T], limit: float | None) -> T:
        """Awaits work, within a time limit, and turns every kind of connection failure into Away."""
        try:
            return await asyncio.wait_for(work, limit)
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise Away(str(error) or f"no response within {limit or 0:g} s") from None
        except StreamClosedError as error:
            raise Away(str(error.real_error or "the connection was closed")) from None
        except HTTPInputError as error:
            raise Away(f"the response is not HTTP: {error}") from None
        except (OSError, ValueError) as error:
            raise Away(str(error) or type(error).__name__) from None


def refusal(status: int, headers: HTTPHeaders, body: bytes) -> Exception:
    """The error for an unsuccessful response: Refused if a dispatcher sent it. Anything else is from a proxy in front
    of dispatchers that do not respond."""
    try:
        retry_after = max(0.0, float(headers.get("Retry-After", "0")))
    except ValueError:
        retry_after = 0.0
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    kind = problem.get("type") if isinstance(problem, dict) else None
    if not isinstance(problem, dict) or not isinstance(kind, str) or not kind.startswith(PROBLEM):
        if status in (401, 407):
            return Refused(status, "not-signed-in", "a proxy in front of the dispatcher requires credentials")
        pause = min(retry_after, STRANGERS_PAUSE_MAX_S)
        return Away(f"HTTP status {status} that is not from a dispatcher", pause)
    detail = problem.get("detail") or problem.get("title") or kind
    build, message = problem.get("build"), problem.get("message")
    return Refused(
        status,
        kind.removeprefix(PROBLEM),
        str(detail)[:DETAIL_MAX],
        build if isinstance(build, str) else None,
        retry_after,
        message if isinstance(message, str) else None,
    )
