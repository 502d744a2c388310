"""Credentials reach the build, and appear nowhere else."""

import json
import logging

from queue_under_test import QueueUnderTest
from replica import Replica
from visitor import Visitor, until

GIT = "username=x-token\npassword=gitsecret7d1f"
REGISTRY = {"registry": "registry.example.org", "username": "robot", "password": "regsecret93ac"}
SECRETS = ("gitsecret7d1f", "regsecret93ac", "tokensecret41be", "x-token")
SCRIPT = """
printf '%s' "$GIT_CREDENTIAL_ENV" > "$dir/git"
printf '%s' "$CONTAINER_ENGINE_REGISTRY_CREDENTIALS" > "$dir/registry"
echo "$@" > "$dir/words"
say building Begun
gate demo.gate
"""


async def test_credentials_are_in_the_builds_environment_and_nowhere_else(caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    tokens = tmp_path / "tokens"
    tokens.write_text("hub submit,read tokensecret41be\nops operate,read,submit opstoken0001\n")
    with QueueUnderTest(slots=1, env={"FAIRLANE_TOKENS_FILE": str(tokens)}) as queue:
        queue.builds_as("busy", "gate busy.gate\n")
        queue.builds_as("demo", SCRIPT)
        async with Replica(queue.urls, token="tokensecret41be") as replica, Visitor(replica, "busy") as busy:
            await until(lambda: queue.started("busy") == 1, "the slot is taken")
            replica.git_credentials, replica.registry_credentials = GIT, REGISTRY
            async with Visitor(replica, "demo") as visitor:
                await visitor.sees("in line")
                seen = queue.everything()
                await queue.open_gate("busy.gate")
                await visitor.sees("Begun")
                assert (queue.dir / "git").read_text() == GIT
                assert "regsecret93ac" in (queue.dir / "registry").read_text()
                assert "--push" in (queue.dir / "words").read_text()
                await queue.open_gate("demo.gate")
                await visitor.reaches("ready")
                seen += queue.everything() + visitor.text + busy.text + caplog.text
                for path in ("/metrics", "/v1/queue"):
                    _, text = await queue.asks("GET", path, token="opstoken0001")
                    seen += str(text)
                seen += str(await queue.build("demo", token="opstoken0001"))
                assert "demo" in seen
                for secret in SECRETS:
                    assert secret not in seen


async def test_credentials_in_an_address_reach_the_build_and_no_log_and_no_page(caplog):
    caplog.set_level(logging.DEBUG)
    with QueueUnderTest() as queue:
        queue.builds_as("demo", SCRIPT)
        async with Replica(queue.urls) as replica:
            replica.repo_url = "https://oauth2:gitsecret7d1f@git.example.org/people/{name}"
            async with Visitor(replica, "demo") as visitor:
                await visitor.sees("Begun")
                assert (queue.dir / "git").read_text() == "username=oauth2\npassword=gitsecret7d1f"
                assert "oauth2" not in (queue.dir / "words").read_text()
                seen = queue.everything()
                await queue.open_gate("demo.gate")
                await visitor.reaches("ready")
            # A refused URL is logged without the credentials in it.
            replica.repo_url = "https://oauth2:gitsecret7d1f@/{name}"
            async with Visitor(replica, "other") as refused:
                await refused.reaches("failed")
            assert "names no host" in refused.text and "is refused" in caplog.text
            assert "gitsecret7d1f" not in seen + queue.everything() + visitor.text + refused.text + caplog.text


async def test_registry_credentials_of_kubernetes_build_executor_reach_the_builder():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", SCRIPT)
        settings = {"registry_credentials": REGISTRY}
        async with Replica(queue.urls, kubernetes=settings) as replica, Visitor(replica, "demo") as visitor:
            await visitor.sees("Begun")
            assert json.loads((queue.dir / "registry").read_text()) == REGISTRY
            await queue.open_gate("demo.gate")
            await visitor.reaches("ready")


async def test_without_a_registry_nothing_is_pushed():
    with QueueUnderTest() as queue:
        queue.builds_as("demo", 'echo "$@" > "$dir/words"\n')
        async with Replica(queue.urls) as replica:
            replica.registry_credentials = None
            async with Visitor(replica, "demo") as visitor:
                await visitor.reaches("ready")
            assert "--push" not in (queue.dir / "words").read_text()
