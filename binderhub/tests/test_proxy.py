"""A proxy in front of the dispatchers, which sends its own responses while they are away."""

import pytest
from fake_dispatcher import FakeDispatcher, answer, asked, end, events, problem, state
from proxy import HaProxy, needs_haproxy
from queue_under_test import QueueUnderTest
from replica import Replica
from visitor import Visitor, until

GATED = "say building Begun\ngate one.gate\nsay building Between\n"
#: How many tries take a few seconds.
TRIES = 6


@needs_haproxy
async def test_both_dispatchers_behind_the_shipped_haproxy_may_be_away_for_seconds():
    with QueueUnderTest(dispatchers=2) as queue, HaProxy(queue.dir, queue.dispatchers) as haproxy:
        await until(lambda: haproxy.servers_up() == 2, "haproxy sees both dispatchers")
        queue.builds_as("demo", GATED)
        queue.builds_as("other")
        async with Replica([haproxy.url]) as replica, Visitor(replica, "demo") as visitor:
            await visitor.sees("Begun")
            before = haproxy.own_errors()
            old = list(queue.dispatchers)
            for dispatcher in old:
                dispatcher.kill()
            await visitor.sees("The connection to the build queue was lost")
            async with Visitor(replica, "demo") as late, Visitor(replica, "other") as asker:
                # Whoever joins later sees the log so far, and the message below it.
                await late.sees(r"Begun\nThe connection to the build queue was lost")
                await asker.sees("The build queue is not responding")
                async with Visitor(replica, "other") as second:
                    await second.sees("The build queue is not responding")
                    await until(lambda: haproxy.own_errors() - before >= TRIES, "haproxy has answered for them")
                    for dispatcher in old:
                        queue.add_dispatcher(dispatcher.address)
                    await queue.open_gate("one.gate")
                    for each in (visitor, late):
                        await each.reaches("ready")
                        await each.sees(r"queue was lost.*\nReconnected to the build queue\.\nBetween")
                        assert each.text.count("Begun\n") == each.text.count("queue was lost") == 1
                    for each in (asker, second):
                        await each.reaches("ready")
            assert queue.started() == 2


STRANGERS = [
    answer(503, "<html><body><h1>503 Service Unavailable</h1></body></html>", "text/html"),
    answer(502, "Bad Gateway", "text/plain"),
    answer(504, "upstream request timeout", "text/plain", "Retry-After: 3600\r\n"),
    answer(429, "slow down", "text/plain"),
    answer(404, "default backend - 404", "text/plain"),
    answer(200, "<html>We are at work here</html>", "text/html"),
    answer(302, "", "text/html", "Location: https://status.example.org/\r\n"),
    b"SSH-2.0-OpenSSH_9.2\r\n",
]
#: Events that cannot be read although a dispatcher sends them, such as one of another release.
UNREADABLE = [events("event: state\ndata: {not json\n\n"), events(("end", {"state": "vanished", "image": ""}))]


@pytest.mark.parametrize("said", [*STRANGERS, *UNREADABLE], ids=lambda said: repr(said[:13] + said[-20:]))
async def test_no_number_of_such_answers_ends_a_watch_before_its_time(said, monkeypatch):
    # Short pauses, because this test is not about them.
    monkeypatch.setattr("fairlane_binderhub.dispatchers.ROUND_MAX_S", 0.05)
    monkeypatch.setattr("fairlane_binderhub.client.STRANGERS_PAUSE_MAX_S", 0.05)
    streams = [events(state(), ("log", {"run": 1, "lines": [{"text": "Begun"}]})), *[said] * 12, events(state(), end())]
    answers = iter(streams)
    async with FakeDispatcher(lambda method, _: asked() if method == "POST" else next(answers)) as fake:
        async with Replica([fake.url]) as replica, Visitor(replica, "demo") as visitor:
            await visitor.reaches("ready")
            assert visitor.text.count("queue was lost") == visitor.text.count("Reconnected") == 1
            assert fake.count("POST") == 1


async def test_a_queue_that_cannot_be_read_for_a_minute_is_given_up_in_words_that_say_so(monkeypatch):
    monkeypatch.setattr("fairlane_binderhub.follow.NONSENSE_S", 0.5)
    monkeypatch.setattr("fairlane_binderhub.dispatchers.ROUND_MAX_S", 0.05)
    async with FakeDispatcher(lambda method, _: asked() if method == "POST" else UNREADABLE[0]) as fake:
        async with Replica([fake.url]) as replica, Visitor(replica, "demo") as visitor:
            failed = await visitor.reaches("failed")
            assert "cannot read the build queue's answers" in failed["message"]


async def test_the_bar_of_a_page_never_goes_back_but_for_another_run():
    push = '{"message": "The push refers to repository [r/i]\\n", "phase": "building"}'
    layer = '{"message": "0123: Preparing\\n", "phase": "building"}'
    first = events(state("running"), ("log", {"run": 1, "lines": [{"text": push}, {"text": layer}]}))
    lost = problem(503, "redis-away")
    again = events(
        state("running"),
        ("log", {"run": 1, "lines": [{"text": layer}]}),
        ("notice", {"kind": "attempt", "text": "attempt 2 begins", "run": 2}),
        ("log", {"run": 2, "lines": [{"text": '{"message": "Step 1\\n", "phase": "building"}'}]}),
        end(),
    )
    answers = iter([first, lost, lost, lost, lost, again])
    async with FakeDispatcher(lambda method, _: asked() if method == "POST" else next(answers)) as fake:
        async with Replica([fake.url], keepalive=0.1) as replica, Visitor(replica, "demo") as visitor:
            await visitor.sees("queue was lost")
            async with Visitor(replica, "demo") as late:
                for each in (visitor, late):
                    await each.reaches("ready")
                    phases = [phase for phase in each.phases() if phase != "ready"]
                    begins = next(i for i, e in enumerate(each.events) if "ttempt 2" in (e.get("message") or ""))
                    assert phases[:begins] == sorted(phases[:begins], key=["waiting", "building", "pushing"].index)
                    assert "pushing" in phases[:begins] and set(phases[begins:]) == {"building"}
