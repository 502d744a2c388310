"""Failed builds and refused requests: people get a message, operators a log line, and the request ends."""

import logging
import re

import pytest
from queue_under_test import QueueUnderTest
from replica import Replica
from visitor import Visitor, until

FAILS = 'say building "pip install"\nsay failed "no such package"\ngate demo.gate\nexit 1\n'


async def test_a_failed_build_is_told_once_with_advice(caplog):
    with QueueUnderTest() as queue:
        queue.builds_as("demo", FAILS)
        async with Replica(queue.urls) as replica, Visitor(replica, "demo") as visitor:
            await visitor.sees("no such package\n")
            assert "failed" not in visitor.phases(), "a line is not the end of the build"
            await queue.open_gate("demo.gate")
            failed = await visitor.reaches("failed")
            assert "exit code 1" in failed["message"] and "try again" in failed["message"]
            await visitor.end()
            assert visitor.phases().count("failed") == 1
            await until(lambda: replica.open == 0, "stop() was called")
            assert replica.counts == {"success": 0, "failure": 1}
            assert replica.errors == [] and replica.pool.names == ["submit"]
            assert [r for r in caplog.records if r.exc_info] == []
            # The next person gets the outcome and the log at once.
            async with Visitor(replica, "demo") as next_one:
                failed = await next_one.reaches("failed")
                await next_one.sees(r"This build failed \d+ seconds? ago. Its log was:\n(.*\n)*pip install\n")
                assert re.match(r"\nThe build failed.* That was \d+ seconds? ago\.", failed["message"])
            assert queue.started() == 1


async def test_a_failure_lingers_and_is_never_launched():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", "exit 1\n")
        async with Replica(queue.urls, build_only=False, failure_linger=1.0) as replica:
            async with Visitor(replica, "demo") as visitor:
                await visitor.reaches("failed")
                assert not visitor.ended, "well-behaved clients hang up now"
                await visitor.end()
                assert replica.launched == [] and visitor.phases()[-1] == "failed"


async def test_a_binderhub_that_does_not_end_the_request_is_made_to():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", "exit 1\n")
        async with Replica(queue.urls) as replica:
            replica.swallows_finish = True
            async with Visitor(replica, "demo") as visitor:
                await visitor.reaches("failed")
                await visitor.end()
                assert replica.pool.names == ["submit", "stream_logs"]
                await until(lambda: replica.open == 0, "stop() was called")


async def test_banned_people_read_the_operators_words_also_when_others_wait_already():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", "say building Begun\ngate demo.gate\n")
        async with Replica(queue.urls) as replica, Visitor(replica, "demo") as early:
            await early.sees("Begun")
            rule = {"ban": {"message": "too slow; write to ops@example.org"}}
            status, answer = await queue.asks("PUT", "/v1/rules?pattern=git.example.org/people/demo", rule)
            assert status in (200, 201), answer
            async with Visitor(replica, "demo") as late:
                failed = await late.reaches("failed")
                assert failed["message"] == "\nToo slow; write to ops@example.org.\n"
                await late.end()
            await queue.open_gate("demo.gate")
            await early.reaches("ready")


async def test_a_cancelled_build_is_told():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", "say building Begun\ngate demo.gate\n")
        async with Replica(queue.urls) as replica, Visitor(replica, "demo") as visitor:
            await visitor.sees("Begun")
            build = await queue.build("demo")
            await queue.asks("DELETE", f"/v1/builds/{build['id']}?reason=maintenance")
            failed = await visitor.reaches("failed")
            assert "The build was cancelled: maintenance.\n" in failed["message"]
            await visitor.end()


async def test_an_argument_that_is_not_allowed_is_refused_at_once(caplog):
    with QueueUnderTest() as queue:
        queue.builds_as("demo")
        extra = ["--Repo2Docker.user_id=0"]
        async with Replica(queue.urls, repo2docker_extra_args=extra) as replica, Visitor(replica, "demo") as visitor:
            failed = await visitor.reaches("failed")
            assert "not set up right" in failed["message"]
            await visitor.end()
    lines = [record for record in caplog.records if "is refused" in record.getMessage()]
    assert [line.levelno for line in lines] == [logging.ERROR]
    assert "'--Repo2Docker.user_id' is not allowed here" in lines[0].getMessage()


@pytest.mark.parametrize(
    ("scopes", "token"), [("submit", "hub-token-0001"), ("submit,read", "another-token"), ("read", "hub-token-0001")]
)
async def test_a_token_that_does_not_do_is_told_without_details(caplog, tmp_path, scopes, token):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"hub {scopes} hub-token-0001\n")
    with QueueUnderTest(env={"FAIRLANE_TOKENS_FILE": str(tokens)}) as queue:
        queue.builds_as("demo", "say building Begun\n")
        async with Replica(queue.urls, token=token) as replica, Visitor(replica, "demo") as visitor:
            failed = await visitor.reaches("failed")
            assert "does not accept requests from this BinderHub" in failed["message"]
            await visitor.end()
    assert len([r for r in caplog.records if "is refused" in r.getMessage()]) == 1
    assert token not in caplog.text


async def test_a_token_from_a_file_is_read_again(tmp_path):
    tokens, token = tmp_path / "tokens", tmp_path / "token"
    tokens.write_text("hub submit,read hub-token-0001\n")
    with QueueUnderTest(env={"FAIRLANE_TOKENS_FILE": str(tokens)}) as queue:
        queue.builds_as("demo")
        async with Replica(queue.urls, token_file=str(token)) as replica:
            async with Visitor(replica, "demo") as visitor:
                failed = await visitor.reaches("failed")
                assert "not set up right" in failed["message"]
            token.write_text("hub-token-0001\n")
            async with Visitor(replica, "demo") as visitor:
                await visitor.reaches("ready")
