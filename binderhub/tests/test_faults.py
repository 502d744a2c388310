"""Processes that die or freeze while people wait."""

import signal

from queue_under_test import QueueUnderTest
from replica import Replica
from visitor import Visitor, until

GATED = "say building Begun\ngate one.gate\nsay building Between\ngate two.gate\nsay building Ended\n"


async def serving(queue):
    """The dispatcher that serves the only event stream."""

    async def found():
        for dispatcher in queue.dispatchers:
            if dispatcher.child.poll() is None and "fairlane_streams 1" in await queue.asks_at(dispatcher, "/metrics"):
                return dispatcher
        return None

    return await until(found, "a dispatcher serves the stream")


async def test_a_killed_dispatcher_costs_nobody_a_line():
    with QueueUnderTest(dispatchers=2) as queue:
        queue.builds_as("demo", GATED)
        async with Replica(queue.urls) as replica, Visitor(replica, "demo") as one, Visitor(replica, "demo") as two:
            await one.sees("Begun")
            await two.sees("Begun")
            (await serving(queue)).kill()
            await one.sees("Reconnected to the build queue")
            await queue.open_gate("one.gate")
            await one.sees("Between")
            await queue.open_gate("two.gate")
            for visitor in (one, two):
                await visitor.reaches("ready")
                for line in ("Begun\n", "Between\n", "Ended\n"):
                    assert visitor.text.count(line) == 1
            assert queue.started() == 1


async def test_the_only_dispatcher_may_be_restarted():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", GATED)
        async with Replica(queue.urls) as replica, Visitor(replica, "demo") as visitor:
            await visitor.sees("Begun")
            old = queue.dispatchers[0]
            old.kill()
            await visitor.sees("The connection to the build queue was lost")
            # A person who arrives now waits for the build that is already known.
            async with Visitor(replica, "demo") as late:
                await late.sees("Begun")
                queue.add_dispatcher(old.address)
                await visitor.sees("Reconnected to the build queue")
                await queue.open_gate("one.gate")
                await queue.open_gate("two.gate")
                for each in (visitor, late):
                    await each.reaches("ready")
                    assert each.text.count("Between\n") == 1
            assert queue.started() == 1


async def test_a_frozen_dispatcher_is_left():
    with QueueUnderTest(dispatchers=2) as queue:
        queue.builds_as("demo", GATED)
        settings = {"silence_timeout": 1.0, "request_timeout": 1.0}
        async with Replica(queue.urls, **settings) as replica, Visitor(replica, "demo") as visitor:
            await visitor.sees("Begun")
            (await serving(queue)).signal(signal.SIGSTOP)
            await queue.open_gate("one.gate")
            await visitor.sees("Between")
            await queue.open_gate("two.gate")
            await visitor.reaches("ready")
            assert queue.started() == 1


async def test_a_killed_workers_build_ends_elsewhere():
    script = 'say building "Begun at $$"\n[ -e "$dir/again" ] && exit 0\ntouch "$dir/again"\ngate never.gate\n'
    with QueueUnderTest(workers=1) as queue:
        queue.builds_as("demo", script)
        async with Replica(queue.urls) as replica, Visitor(replica, "demo") as visitor:
            await visitor.sees("Begun")
            queue.workers[0].kill()
            queue.add_worker()
            await visitor.reaches("ready")
            assert queue.started() == 2 and visitor.phases().count("failed") == 0


async def test_a_restarted_replica_finds_the_build_again():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", GATED)
        async with Replica(queue.urls) as first, Visitor(first, "demo") as visitor:
            await visitor.sees("Begun")
        async with Replica(queue.urls) as second, Visitor(second, "demo") as visitor:
            await visitor.sees("Begun")
            await queue.open_gate("one.gate")
            await queue.open_gate("two.gate")
            await visitor.reaches("ready")
            assert queue.started() == 1


async def test_builds_that_redis_lost_are_asked_for_again():
    with QueueUnderTest(slots=1) as queue:
        queue.builds_as("busy", "gate busy.gate\n")
        queue.builds_as("demo")
        async with Replica(queue.urls) as replica, Visitor(replica, "busy") as busy:
            await until(lambda: queue.started("busy") == 1, "the slot is taken")
            async with Visitor(replica, "demo") as visitor:
                await visitor.sees("in line")
                queue.redis_cli("FLUSHALL")
                await visitor.sees("requested again", limit=60)
                await queue.open_gate("busy.gate")
                await visitor.reaches("ready", limit=60)
                assert queue.started("demo") == 1
            await busy.leave()


async def test_redis_away_for_a_moment_is_waited_out():
    with QueueUnderTest() as queue:
        queue.builds_as("demo")
        async with Replica(queue.urls) as replica:
            queue.redis.signal(signal.SIGSTOP)
            async with Visitor(replica, "demo") as visitor:
                await visitor.sees("The build queue is not responding")
                queue.redis.signal(signal.SIGCONT)
                await visitor.reaches("ready")


async def test_a_queue_that_stays_away_is_told_and_nothing_is_built_here(caplog):
    with QueueUnderTest() as queue:
        queue.builds_as("demo")
        urls = queue.urls
        queue.dispatchers[0].kill()
        async with Replica(urls, submit_timeout=1.0) as replica, Visitor(replica, "demo") as visitor:
            failed = await visitor.reaches("failed")
            assert "nothing can be built at the moment" in failed["message"]
            await visitor.end()
            assert queue.started() == 0
    lines = [r for r in caplog.records if "gave up" in r.getMessage()]
    assert len(lines) == 1 and lines[0].exc_info is None


async def test_a_queue_that_goes_away_for_good_lets_nobody_wait_for_ever(caplog):
    with QueueUnderTest() as queue:
        queue.builds_as("demo", "say building Begun\ngate demo.gate\n")
        async with Replica(queue.urls, resume_timeout=1.5) as replica, Visitor(replica, "demo") as visitor:
            await visitor.sees("Begun")
            queue.dispatchers[0].kill()
            failed = await visitor.reaches("failed")
            assert "The build itself may continue" in failed["message"]
            await visitor.end()
    assert len([r for r in caplog.records if "gave up" in r.getMessage()]) == 1
