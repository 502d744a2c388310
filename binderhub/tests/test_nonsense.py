"""Responses that no dispatcher of this release sends: each ends in a message and a log line, never in a hang."""

import logging
import socket

import pytest
from fake_dispatcher import ID, FakeDispatcher, answer, asked, end, events, problem, state
from replica import Replica
from visitor import LIMIT_S, Visitor, until

HASTY = {"submit_timeout": 0.5, "resume_timeout": 0.5, "request_timeout": 0.5, "silence_timeout": 1.0}
OTHER_ID = ID.replace("0198", "0199")


def named(value):
    """Short test names, because the responses are long."""
    return repr(value)[:60] if not isinstance(value, bytes) else repr(value.partition(b"\r\n\r\n")[2] or value)[:60]


def only(post, stream=answer(404, "?")):  # noqa: B008
    return lambda method, path: post if method == "POST" else stream


async def meets(respond, holds=False, **settings):
    """What a person is told with such a dispatcher, and how often it received a build request."""
    async with FakeDispatcher(respond, holds) as fake:
        async with Replica([fake.url], **{**HASTY, **settings}) as replica, Visitor(replica, "demo") as visitor:
            failed = await visitor.reaches("failed")
            await visitor.end()
            assert visitor.phases().count("failed") == 1 and replica.errors == []
            assert "Traceback" not in visitor.text
            return failed["message"], fake


@pytest.mark.parametrize(
    "post",
    [
        answer(200, "<html>Welcome</html>", "text/html"),
        answer(502, "<html>Bad gateway</html>", "text/html"),
        answer(404, "default backend", "text/plain"),
        answer(200, {"job": 1}),
        answer(200, [1]),
        answer(200, "{"),
        answer(200, "x" * 2_000_000),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 1000\r\n\r\n{",
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"",
        None,
        problem(500, "internal"),
        problem(503, "redis-away", headers="Retry-After: 60\r\n"),
        problem(503, "wrong-schema", headers="Retry-After: nonsense\r\n"),
    ],
    ids=named,
)
async def test_what_is_no_answer_to_a_request(post, caplog):
    told, _ = await meets(only(post))
    assert "nothing can be built at the moment" in told
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
    assert [r for r in caplog.records if r.exc_info] == []


@pytest.mark.parametrize(
    ("post", "says"),
    [
        (problem(404, "unknown-path"), "not set up right"),
        (problem(422, "invalid-field", "repo: names no host"), "Repo: names no host"),
        (problem(409, "conflict", "image: is being built"), "is being built from another repository"),
        (problem(429, "full", headers="Retry-After: 120\r\n"), "at the moment. Please try again in about 2 minutes"),
        (problem(401, "not-signed-in"), "does not accept requests from this BinderHub"),
        (answer(401, "no"), "does not accept requests from this BinderHub"),
    ],
    ids=named,
)
async def test_refusals_end_at_once(post, says, caplog):
    told, fake = await meets(only(post), submit_timeout=60.0)
    assert says in told
    assert fake.count("POST") == 1
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1


@pytest.mark.parametrize("holds", [False, True])
@pytest.mark.parametrize(
    "stream",
    [
        answer(200, "<html></html>", "text/html"),
        answer(503, "no", "text/plain"),
        events("event: state\ndata: {not json\n\n"),
        events("event: state\ndata: [1]\n\n"),
        events("event: log\ndata: {}\n\n"),
        events("data: " + "x" * 3_000_000),
        events(("end", {"id": ID, "state": "succeeded", "image": "registry.example.org/other:1"})),
        events(("end", {"id": ID, "state": "vanished", "image": ""})),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"",
        None,
    ],
    ids=named,
)
async def test_what_is_no_stream(stream, holds, caplog):
    told, fake = await meets(only(asked(), stream), holds, silence_timeout=LIMIT_S if holds and stream else 1.0)
    assert "this page stops waiting" in told
    assert fake.count("POST") == 1, "no second build is asked for"
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
    assert [r for r in caplog.records if r.exc_info] == []


async def test_a_dispatcher_that_never_answers_is_given_up_however_slowly(monkeypatch):
    # Each try lasts longer than a stream must last to count as healthy.
    monkeypatch.setattr("fairlane_binderhub.follow.STEADY_S", 0.1)
    told, fake = await meets(only(asked(), None))
    assert "this page stops waiting" in told
    assert fake.count("POST") == 1


async def test_a_stream_that_falls_silent_is_given_up(monkeypatch):
    monkeypatch.setattr("fairlane_binderhub.follow.STEADY_S", 0.1)
    told, fake = await meets(only(asked(), events(state())), holds=True)
    assert "this page stops waiting" in told
    assert fake.count("POST") == 1


async def test_that_a_build_has_started_is_said_before_its_log_or_not_at_all():
    lines = ("log", {"run": 1, "lines": [{"text": "first"}]})
    running = state("running", expected_seconds=180, eta_seconds=180)
    for parts, shown in [
        ((running, lines), "is expected to take about 3 min.\nfirst\n"),
        ((state("starting"), lines, running), "first\n"),
    ]:
        async with FakeDispatcher(only(asked(), events(*parts, end()))) as fake, Replica([fake.url]) as replica:
            async with Visitor(replica, "demo") as visitor:
                await visitor.reaches("ready")
                assert shown in visitor.text
                assert visitor.text.count("has started") == shown.count("expected")
    late = state("running", expected_seconds=300, eta_seconds=120)
    async with FakeDispatcher(only(asked(), events(late, lines, end()))) as fake, Replica([fake.url]) as replica:
        async with Visitor(replica, "demo") as visitor:
            await visitor.sees("is running and needs about 2 min more. Its log so far:\nfirst\n")


async def test_who_left_is_noticed_though_the_queue_says_nothing():
    async with FakeDispatcher(only(asked(), events(state())), holds=True) as fake:
        async with Replica([fake.url], keepalive=0.3) as replica:
            async with Visitor(replica, "demo") as visitor:
                await visitor.sees("The build has started")
                await until(lambda: visitor.events[-1] == {"phase": "building", "message": ""}, "a sign of life")
            await until(lambda: replica.open == 0, "the one who left is noticed")


async def test_events_that_are_not_known_are_passed_over():
    stream = events(state(), ("weather", {"sun": True}), "event: later\ndata: not even JSON\n\n", end())
    async with FakeDispatcher(only(asked(), stream)) as fake, Replica([fake.url]) as replica:
        async with Visitor(replica, "demo") as visitor:
            await visitor.reaches("ready")


async def test_builds_that_are_always_lost_are_not_asked_for_for_ever():
    told, fake = await meets(only(asked(), problem(404, "unknown-build")))
    assert "nothing can be built" in told or "stops waiting" in told
    assert 1 < fake.count("POST") <= 5


async def test_a_build_that_moved_is_followed_where_it_went():
    def respond(method, path):
        if method == "POST":
            return asked()
        return events(state(), ("moved", {"id": ID, "to": OTHER_ID})) if ID in path else events(state(), end())

    async with FakeDispatcher(respond) as fake, Replica([fake.url]) as replica, Visitor(replica, "demo") as visitor:
        await visitor.reaches("ready")
        assert "The log starts over" in visitor.text
        assert fake.count("POST") == 1


async def test_the_window_after_redis_was_emptied_is_waited_for():
    answers = iter([problem(503, "refilling", headers="Retry-After: 1\r\n"), asked("succeeded")])
    async with FakeDispatcher(lambda *_: next(answers)) as fake, Replica([fake.url]) as replica:
        async with Visitor(replica, "demo") as visitor:
            await visitor.sees("Trying again")
            await visitor.reaches("ready")


@pytest.mark.parametrize(
    "limit", [problem(429, "token-limit", headers="Retry-After: 1\r\n"), problem(429, "full")], ids=named
)
async def test_a_limit_of_requests_keeps_nobody_from_a_build_that_is_known(limit):
    answers = iter([asked(), limit])
    stream = events(state("queued", position=1))
    async with FakeDispatcher(lambda method, _: next(answers) if method == "POST" else stream, holds=True) as fake:
        async with Replica([fake.url]) as replica, Visitor(replica, "demo") as first:
            await first.sees("Position 1")
            async with Visitor(replica, "demo") as second:
                await second.sees("Position 1")
                assert fake.count("POST") == 2


async def test_a_queue_that_is_slow_keeps_nobody_from_a_build_that_is_known(monkeypatch):
    monkeypatch.setattr("fairlane_binderhub.builds.JOIN_S", 0.2)
    answers = iter([asked(), None])
    stream = events(state("queued", position=1))
    async with FakeDispatcher(lambda method, _: next(answers) if method == "POST" else stream, holds=True) as fake:
        async with Replica([fake.url], request_timeout=LIMIT_S) as replica, Visitor(replica, "demo") as first:
            await first.sees("Position 1")
            async with Visitor(replica, "demo") as second:
                await second.sees("Position 1", limit=LIMIT_S / 2)


async def test_a_limit_of_requests_is_waited_for():
    limit = problem(429, "token-limit", headers="Retry-After: 1\r\n")
    answers = iter([limit, asked("succeeded")])
    async with FakeDispatcher(lambda *_: next(answers)) as fake, Replica([fake.url]) as replica:
        async with Visitor(replica, "demo") as visitor:
            await visitor.reaches("ready")


async def test_another_build_of_the_image_is_not_taken_for_ours():
    def respond(method, path):
        if method == "POST":
            return problem(409, "conflict", "image: is being built from another repository", build=OTHER_ID)
        return answer(
            200, {"id": OTHER_ID, "state": "running", "repo": "https://elsewhere.example.org/a/b", "ref": "0123abc"}
        )

    told, _ = await meets(respond)
    assert "another repository" in told


async def test_an_infrastructure_failure_says_whose_fault_it_is_not():
    ended = end(
        "failed", **{"class": "infrastructure", "reason": "no space left on node a\x1b[31m", "log_tail": "last line"}
    )
    told, _ = await meets(only(asked(), events(state(), ended)))
    assert "no space left on node a" in told and "not the repository's fault" in told
    assert "last line" in told and "\x1b" not in told


async def test_one_that_refuses_us_does_not_hide_one_that_does_not():
    async with FakeDispatcher(only(problem(401, "not-signed-in"))) as bad:
        async with FakeDispatcher(only(asked("succeeded"))) as good:
            async with Replica([bad.url, good.url, "http://127.0.0.1:9"]) as replica:
                async with Visitor(replica, "demo") as visitor:
                    await visitor.reaches("ready")


async def test_many_people_behind_one_address_of_several_dispatchers_is_told_by_opening_anew(monkeypatch):
    monkeypatch.setattr("fairlane_binderhub.head_count.GATHER_S", 0.05)

    def respond(method, path):
        if method == "PUT":
            return problem(421, "other-dispatcher")
        return asked() if method == "POST" else events(state("queued", position=1))

    async with FakeDispatcher(respond, holds=True) as fake, Replica([fake.url]) as replica:
        async with Visitor(replica, "demo") as one:
            await one.sees("Position 1")
            async with Visitor(replica, "demo") as two:
                await until(lambda: any("watchers=2" in path for _, path, _, _ in fake.requests), "two are told")
                assert "Reconnected" not in one.text + two.text
                cursors = [
                    fields.get("last-event-id") for method, path, fields, _ in fake.requests if "watchers=2" in path
                ]
                assert cursors[-1] == "1:0-0:1", "the stream goes on where it was"


async def test_a_reader_that_reads_nothing_does_not_fill_the_memory():
    lines = [("log", {"run": 1, "lines": [{"text": f"line {i} " + "x" * 3000}] * 5}) for i in range(1500)]
    stream = events(state(), *lines, ("log", {"run": 1, "lines": [{"text": "LAST"}]}))
    async with FakeDispatcher(only(asked(), stream), holds=True) as fake:
        async with Replica([fake.url], log_bytes_max=4_000_000) as replica:
            async with Visitor(replica, "demo", reads=False) as lazy:
                await until(lambda: replica.queues, "the lazy one has come")
                async with Visitor(replica, "demo") as other:
                    await other.sees("LAST", limit=60)
                assert 100 < replica.queues[0].qsize() <= 257
                lazy.start()
                await lazy.sees("LAST", limit=60)
                assert "lines are left out here" in lazy.text


async def test_a_host_that_takes_no_connections_is_given_up(caplog):
    # With a full backlog, further connections are neither accepted nor refused.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)
            url = f"http://127.0.0.1:{address[1]}"
            async with Replica([url], connect_timeout=0.2, **HASTY) as replica, Visitor(replica, "demo") as visitor:
                failed = await visitor.reaches("failed")
                assert "nothing can be built at the moment" in failed["message"]
    assert "no connection within 0.2 s" in caplog.text


async def test_an_address_in_the_environment_that_is_none_is_told(caplog, monkeypatch):
    monkeypatch.setenv("FAIRLANE_DISPATCHER_URL", "fairlane:8600")
    async with Replica(None) as replica, Visitor(replica, "demo") as visitor:
        failed = await visitor.reaches("failed")
        assert "not set up right" in failed["message"]
    assert "is not a dispatcher's address" in caplog.text
