"""Successful builds as people see them."""

import asyncio
import os
import re

from queue_under_test import QueueUnderTest
from replica import Replica
from visitor import Visitor, until

GATED = 'say fetching "Cloning"\nsay building "Step 1"\ngate demo.gate\nsay building "Step 2"\n'


async def test_a_person_sees_the_log_and_the_image_and_no_thread_is_held():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", GATED)
        async with Replica(queue.urls) as replica, Visitor(replica, "demo") as visitor:
            await visitor.sees("Step 1\n")
            assert replica.pool.running == 0, "no thread is held while a build runs"
            await queue.open_gate("demo.gate")
            ready = await visitor.reaches("ready")
            assert ready["imageName"] == "registry.example.org/demo:0123abc"
            await visitor.end()
            assert "Cloning\nStep 1\nStep 2\n" in visitor.text
            assert replica.pool.names == ["submit"]
            assert replica.counts == {"success": 1, "failure": 0}
            await until(lambda: replica.open == 0, "stop() was called")


async def test_a_build_is_launched_once_where_binderhub_launches():
    with QueueUnderTest() as queue:
        queue.builds_as("demo")
        async with Replica(queue.urls, build_only=False) as replica, Visitor(replica, "demo") as visitor:
            await visitor.reaches("ready")
            assert "built" in visitor.phases()
            assert replica.launched == ["registry.example.org/demo:0123abc"]


async def test_the_place_in_line_is_updated_in_place():
    with QueueUnderTest(slots=1) as queue:
        for name in ("first", "second", "third"):
            queue.builds_as(name, f"say building Begun\ngate {name}.gate\n")
        async with Replica(queue.urls) as replica:
            async with Visitor(replica, "first") as first:
                await first.sees("Begun")
                async with Visitor(replica, "second") as second:
                    await second.sees(r"\r\x1b\[KPosition 1 of 1 in line, ready in about \d+ min$")
                    async with Visitor(replica, "third") as third:
                        await third.sees(r"\r\x1b\[KPosition 2 of 2 in line")
                        await queue.open_gate("first.gate")
                        await second.sees(r"\x1b\[K[^\r\n]*\n(The build has started.*\n)?Begun\n")
                        await third.sees(r"\r\x1b\[KPosition 1 of 1 in line")
                        assert {event["phase"] for event in third.events} == {"waiting"}
                        assert "\n" not in third.text.split("...\n", 1)[1], "one line all the time"
                        await queue.open_gate("second.gate")
                        await queue.open_gate("third.gate")
                        await third.reaches("ready")


async def test_why_a_build_waits_is_said():
    with QueueUnderTest() as queue:
        queue.builds_as("demo")
        rule = {"hold": {"message": "the cache is being renewed"}}
        status, answer = await queue.asks("PUT", "/v1/rules?pattern=git.example.org/people/*", rule)
        assert status in (200, 201), answer
        async with Replica(queue.urls) as replica, Visitor(replica, "demo") as visitor:
            await visitor.sees("Builds of this repository are on hold: the cache is being renewed.\n")
            assert "rule" not in visitor.text
            await queue.asks("DELETE", "/v1/rules?pattern=git.example.org/people/*")
            await visitor.reaches("ready")


UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7")


async def test_those_behind_another_version_are_told_once_in_plain_words():
    with QueueUnderTest(slots=1) as queue:
        queue.builds_as("demo", "gate $ref.gate\n")
        for ref in ("v1", "v2", "v3"):
            os.mkfifo(queue.dir / f"{ref}.gate")
        rule = {"limit": 1}
        await queue.asks("PUT", "/v1/rules?pattern=git.example.org/people/demo", rule)
        async with Replica(queue.urls) as replica, Visitor(replica, "demo", "v1") as first:
            await until(lambda: queue.started("v1") == 1, "the first is built")
            async with Visitor(replica, "demo", "v2") as second:
                await second.sees("Another version of this repository is being built. Yours is next")
                async with Visitor(replica, "demo", "v3") as third:
                    await third.sees("Another version of this repository is being built. Yours comes after one more")
                    await queue.open_gate("v1.gate")
                    await first.reaches("ready")
                    await third.sees("in line")
                    await queue.open_gate("v2.gate")
                    await second.reaches("ready")
                    await queue.open_gate("v3.gate")
                    await third.reaches("ready")
                    for each in (second, third):
                        assert not UUID.search(each.text) and "permit" not in each.text and "borrow" not in each.text
                        assert each.text.count("Another version") == 1


async def test_a_retry_is_announced_after_the_failed_log_and_before_the_next_one_with_its_reason():
    script = (
        'say building "no space left on device"\n[ -e "$dir/again" ] && { say building Well; exit 0; }\n'
        'touch "$dir/again"\nexit 1\n'
    )
    with QueueUnderTest() as queue:
        queue.builds_as("demo", script)
        async with Replica(queue.urls) as replica, Visitor(replica, "demo") as visitor:
            await visitor.reaches("ready", limit=60)
            order = ["no space left on device\n", r"\[Attempt 1 failed: .*\.\]\n", r"\[The build has started again", "Well\n"]
            places = [re.search(pattern, visitor.text) for pattern in order]
            assert all(places), visitor.text
            assert [each.start() for each in places] == sorted(each.start() for each in places), visitor.text
            assert visitor.text.count("Attempt 1 failed") == 1


async def test_many_people_at_two_replicas_are_one_build_and_two_streams():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", GATED)
        async with Replica(queue.urls) as one, Replica(queue.urls) as two:
            visitors = [Visitor(one if i % 2 else two, "demo") for i in range(60)]
            for visitor in visitors:
                await visitor.__aenter__()
            for visitor in visitors:
                await visitor.sees("Step 1\n")

            async def all_counted():
                return (await queue.build("demo"))["people"] == 60

            await until(all_counted, "60 people are counted")
            assert await queue.streams() == 2
            assert one.pool.running == two.pool.running == 0
            for visitor in visitors[:20]:
                await visitor.leave()
            await queue.open_gate("demo.gate")
            for visitor in visitors[20:]:
                await visitor.reaches("ready")
            assert queue.started() == 1
            assert one.counts["success"] + two.counts["success"] >= 40


async def test_two_hundred_requests_in_one_moment_are_one_build():
    with QueueUnderTest(dispatchers=2) as queue:
        queue.builds_as("demo", "say building Begun\ngate demo.gate\n")
        async with Replica(queue.urls) as one, Replica(queue.urls) as two:
            visitors = [Visitor(one if i % 2 else two, "demo") for i in range(200)]
            await asyncio.gather(*(visitor.__aenter__() for visitor in visitors))
            await asyncio.gather(*(visitor.sees("Begun") for visitor in visitors))
            assert await queue.streams() <= 2
            await queue.open_gate("demo.gate")
            await asyncio.gather(*(visitor.reaches("ready") for visitor in visitors))
            assert queue.started() == 1


async def test_who_comes_late_sees_the_log_from_its_beginning():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", GATED)
        async with Replica(queue.urls) as replica, Visitor(replica, "demo") as early:
            await early.sees("Step 1\n")
            async with Visitor(replica, "demo") as late, Replica(queue.urls) as other:
                await late.sees("Cloning\nStep 1\n")
                async with Visitor(other, "demo") as elsewhere:
                    await elsewhere.sees("Cloning\nStep 1\n")
                    await queue.open_gate("demo.gate")
                    for visitor in (early, late, elsewhere):
                        await visitor.reaches("ready")
                        assert visitor.text.count("Step 1\n") == visitor.text.count("Step 2\n") == 1
            assert queue.started() == 1


async def test_of_a_long_log_the_middle_is_left_out_and_said_so():
    script = 'i=0\nwhile [ $i -lt 4000 ]; do i=$((i+1)); echo "line $i of many"; done\ngate demo.gate\n'
    with QueueUnderTest() as queue:
        queue.builds_as("demo", script)
        async with Replica(queue.urls, log_bytes_max=20_000) as replica, Visitor(replica, "demo") as early:
            await early.sees("line 4000 of many\n")
            async with Visitor(replica, "demo") as late:
                await late.sees("line 4000 of many\n")
                found = await late.sees(r"\[(\d+) lines are left out here\]\n")
                shown = len(re.findall(r"line \d+ of many\n", late.text))
                assert shown + int(found[1]) == 4000
                assert "line 1 of many\n" in late.text
                await queue.open_gate("demo.gate")
                await late.reaches("ready")


async def test_an_image_that_was_built_just_now_is_not_built_again():
    with QueueUnderTest() as queue:
        queue.builds_as("demo")
        async with Replica(queue.urls) as replica:
            for _ in range(3):
                async with Visitor(replica, "demo") as visitor:
                    await visitor.reaches("ready")
            assert queue.started() == 1
            assert "This image was built a moment ago.\n" in visitor.text


async def test_other_arguments_join_the_build_that_makes_the_image():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", GATED)
        async with Replica(queue.urls) as old, Replica(queue.urls, appendix="RUN true") as new:
            async with Visitor(old, "demo") as first:
                await first.sees("Step 1\n")
                async with Visitor(new, "demo") as second:
                    await second.sees("Step 1\n")
                    await queue.open_gate("demo.gate")
                    await second.reaches("ready")
            assert queue.started() == 1
