"""A fake dispatcher that sends exactly the bytes that a test wants."""

import asyncio
import json

ID = "0198c9e4-7c1f-7d3a-9b1e-3f6f0a1b2c3d"


def answer(status, body, kind="application/json", headers=""):
    """A complete HTTP response."""
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
    return head.encode() + data


def problem(status, word, detail="why", headers="", **more):
    """An error response like a dispatcher's."""
    body = {"type": f"urn:fairlane:error:{word}", "title": word, "status": status, "detail": detail, **more}
    return answer(status, body, "application/problem+json", headers)


def asked(state="queued", id=ID):
    """The response to a build request."""
    return answer(202, {"id": id, "state": state, "joined": False, "lane": "a/b", "people": 1, "attempt": 1})


def events(*parts):
    """An unfinished event stream, from pairs of name and data or from raw text."""
    text = "retry: 1000\n\n"
    for number, part in enumerate(parts):
        if isinstance(part, str):
            text += part
        else:
            name, data = part
            text += f"id: 1:0-{number}:1\nevent: {name}\ndata: {json.dumps(data)}\n\n"
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = text.encode()
    return head.encode() + b"%x\r\n%s\r\n" % (len(data), data)


def state(word="running", **more):
    """A ``state`` event."""
    return ("state", {"id": ID, "state": word, "subscriber": "fake-1.1", **more})


def end(word="succeeded", image="registry.example.org/demo:0123abc", **more):
    """An ``end`` event."""
    return ("end", {"id": ID, "state": word, "image": image, "attempt": 1, **more})


class FakeDispatcher:
    """``respond(method, path)`` returns the bytes to send, or ``None`` for silence. The connection is closed
    after the bytes, unless ``holds`` is set."""

    def __init__(self, respond, holds=False):
        self._respond = respond
        self.holds = holds
        self.requests = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._open = set()
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in list(self._open):
            task.cancel()

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._open.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            self.requests.append((method, path, fields, body))
            data = self._respond(method, path)
            if data is not None:
                writer.write(data)
                await writer.drain()
            if data is None or (self.holds and path.split("?")[0].endswith("/events")):
                await reader.read()
        except (asyncio.CancelledError, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    def count(self, method):
        """How many requests of a method there were."""
        return sum(request[0] == method for request in self.requests)
