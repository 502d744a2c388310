"""Dispatchers with https:// URLs."""

import subprocess

import pytest
from queue_under_test import QueueUnderTest
from replica import Replica
from visitor import Visitor


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1, and its key."""
    paths = [str(tmp_path / name) for name in ("cert.pem", "key.pem")]
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test".split()
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(words, check=True, capture_output=True)
    return paths


async def test_a_dispatcher_is_trusted_by_its_certificate_alone(certificate, caplog):
    cert, key = certificate
    with QueueUnderTest(env={"FAIRLANE_TLS_CERT": cert, "FAIRLANE_TLS_KEY": key}) as queue:
        queue.builds_as("demo")
        urls = [url.replace("http:", "https:") for url in queue.urls]
        async with Replica(urls, ca_file=cert) as replica, Visitor(replica, "demo") as visitor:
            await visitor.reaches("ready")
            assert "Step 1\n" in visitor.text
        async with Replica(urls, submit_timeout=0.5) as replica, Visitor(replica, "demo") as visitor:
            await visitor.reaches("failed")
            assert "certificate" in caplog.text.lower()
        async with Replica(urls, ca_file="/nowhere.pem") as replica, Visitor(replica, "demo") as visitor:
            failed = await visitor.reaches("failed")
            assert "not set up right" in failed["message"]
            assert "ca_file /nowhere.pem cannot be used" in caplog.text
