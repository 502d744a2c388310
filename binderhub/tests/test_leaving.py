"""People who leave, and requests that end before they have begun."""

from concurrent.futures import ThreadPoolExecutor

from binderhub.build import ProgressEvent
from queue_under_test import QueueUnderTest
from replica import Replica
from tornado.queues import Queue
from visitor import Visitor, until

from fairlane_binderhub import FairlaneBuildExecutor


async def test_who_left_is_noticed_while_nothing_happens():
    with QueueUnderTest(slots=1) as queue:
        queue.builds_as("busy", "say building Begun\ngate busy.gate\n")
        queue.builds_as("demo")
        async with Replica(queue.urls, keepalive=0.5) as replica, Visitor(replica, "busy") as busy:
            await busy.sees("Begun")
            async with Visitor(replica, "demo") as stays, Visitor(replica, "demo") as leaves:
                await stays.sees("in line")
                await leaves.sees("in line")
                await leaves.leave()
                await until(lambda: replica.open == 2, "the one who left is noticed")

                async def one_counted():
                    return (await queue.build("demo"))["people"] == 1

                await until(one_counted, "one person is counted")
            # The build goes on although nobody waits for it.
            await until(lambda: replica.open == 1, "the other one is noticed")
            await queue.open_gate("busy.gate")
            await until(lambda: queue.started("demo") == 1, "the build starts all the same")


async def test_the_stream_is_closed_when_nobody_waits_and_opened_when_somebody_comes_back():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", "say building Begun\ngate demo.gate\n")
        async with Replica(queue.urls, keepalive=0.3) as replica:
            async with Visitor(replica, "demo") as visitor:
                await visitor.sees("Begun")

            async def closed():
                return await queue.streams() == 0

            await until(closed, "the stream is closed")
            async with Visitor(replica, "demo") as visitor:
                await visitor.sees("Begun")
                await queue.open_gate("demo.gate")
                await visitor.reaches("ready")
            assert queue.started() == 1


def executor(queue, q, name="demo", **settings):
    """An executor, created as BinderHub does it."""
    return FairlaneBuildExecutor(
        q=q, name="n", repo_url=f"https://git.example.org/people/{name}", ref="0123abc",
        image_name=f"registry.example.org/{name}:0123abc", dispatcher_urls=queue.urls, **settings,
    )  # fmt: skip


async def test_a_submit_after_stop_does_nothing():
    with QueueUnderTest() as queue, ThreadPoolExecutor(1) as pool:
        queue.builds_as("demo")
        q, second_q = Queue(), Queue()
        gone = executor(queue, q)
        gone.stop()
        gone.stop()
        pool.submit(gone.submit).result()
        # Another executor on the same loop is served later, so the first one would have been served by then.
        other = executor(queue, second_q, "other")
        queue.builds_as("other")
        pool.submit(other.submit).result()
        await until(
            lambda: second_q.qsize() and second_q._queue[-1].payload == ProgressEvent.BuildStatus.BUILT, "built"
        )
        assert q.qsize() == 0
        assert await queue.build("demo") is None
        other.stop()


async def test_stop_right_after_submit_leaves_nothing_behind():
    with QueueUnderTest() as queue, ThreadPoolExecutor(1) as pool:
        queue.builds_as("demo", "say building Begun\ngate demo.gate\n")
        q = Queue()
        build = executor(queue, q)
        pool.submit(build.submit).result()
        build.stop()
        queue.builds_as("other")
        second_q = Queue()
        other = executor(queue, second_q, "other")
        pool.submit(other.submit).result()
        await until(
            lambda: second_q.qsize() and second_q._queue[-1].payload == ProgressEvent.BuildStatus.BUILT, "built"
        )
        assert q.qsize() == 0

        async def closed():
            return await queue.streams() == 0

        await until(closed, "no stream is open")
        other.stop()


async def test_the_constructor_does_nothing():
    example = FairlaneBuildExecutor(dispatcher_urls=["http://127.0.0.1:9"])
    assert example.builder_info == {}
    assert example._builds is None
