"""HAProxy in front of dispatchers, configured as in deploy/compose."""

import csv
import re
import shutil
import socket
import subprocess

import pytest
from queue_under_test import ROOT

HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"
needs_haproxy = pytest.mark.skipif(
    shutil.which(HAPROXY) is None, reason="haproxy is not installed: apt-get install haproxy"
)


class HaProxy:
    """HAProxy with the configuration from deploy/compose. Only addresses differ, nothing that affects clients."""

    def __init__(self, folder, dispatchers):
        self._stats = folder / "haproxy.sock"
        text = (ROOT / "deploy/compose/haproxy.cfg").read_text()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        number = self._listener.fileno()
        text = self._with(text, r"bind :8600$", f"bind fd@{number}")
        text = self._with(text, r"^global$", f"global\n    stats socket {self._stats}")
        # Docker's resolver does not exist here.
        text = self._with(text, r" resolvers docker init-addr last,libc,none", "")
        text = self._with(text, r"^resolvers docker\n(    .*\n)+", "")
        for place, dispatcher in enumerate(dispatchers, 1):
            text = self._with(text, rf"dispatcher-{place}:8600", dispatcher.address)
        config = folder / "haproxy.cfg"
        config.write_text(text)
        with (folder / "haproxy.log").open("wb") as log:
            self._child = subprocess.Popen(
                [HAPROXY, "-db", "-f", str(config)], stdout=log, stderr=log, pass_fds=[number]
            )
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @staticmethod
    def _with(text, pattern, new):
        changed, count = re.subn(pattern, new, text, flags=re.M)
        assert count >= 1, f"haproxy.cfg has no {pattern!r} any more"
        return changed

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._child.kill()
        self._child.wait()
        self._listener.close()

    def _row(self, proxy, server):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(str(self._stats))
            except OSError:
                return {}
            client.sendall(b"show stat\n")
            text = b""
            while chunk := client.recv(65536):
                text += chunk
        rows = csv.DictReader(text.decode().lstrip("# ").splitlines())
        return next((row for row in rows if row["pxname"] == proxy and row["svname"] == server), {})

    def servers_up(self):
        """How many dispatchers HAProxy considers up."""
        return int(self._row("dispatchers", "BACKEND").get("act") or 0)

    def own_errors(self):
        """How many requests HAProxy answered with an error, its own or a dispatcher's."""
        return int(self._row("fairlane", "FRONTEND").get("hrsp_5xx") or 0)
