"""Builds that go well, as people see them."""

import asyncio

from queue_under_test import QueueUnderTest
from replica import Replica
from visitor import Visitor, until


async def test_a_person_sees_the_line_the_log_and_the_image():
    with QueueUnderTest() as queue:
        queue.builds_as(
            "demo", 'say fetching "Cloning"\nsay building "Step 1"\ngate demo.gate\nsay building "Step 2"\n'
        )
        async with Replica(queue.urls) as replica, Visitor(replica, "demo") as visitor:
            await visitor.sees("Step 1\n")
            assert replica.pool.running == 0, "no thread is held while a build runs"
            await queue.open_gate("demo.gate")
            ready = await visitor.reaches("ready")
            assert ready["imageName"] == "registry.example.org/demo:0123abc"
            await visitor.end()
            assert replica.pool.names == ["submit"]
            assert "Cloning\n" in visitor.text and "Step 2\n" in visitor.text
            assert replica.counts == {"success": 1, "failure": 0}
            await until(lambda: replica.open == 0, "stop() was called")
