"""A real queue: redis-server, dispatchers and workers of this checkout, and builds that the tests control."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAIRLANE = os.environ.get("FAIRLANE_TEST_BINARY", str(ROOT / "target/debug/fairlane"))
REDIS = os.environ.get("FAIRLANE_TEST_REDIS_SERVER", "redis-server")
REDIS_CLI = shutil.which("redis-cli") or "valkey-cli"
START_S = 20
SEAL_KEY = "1:" + "5a" * 32

# What a build does, unless there is a file with its repository's name.
DEFAULT_BUILD = 'say fetching "Fetching"\nsay building "Step 1"\n'
BUILD = """
dir=$1 repo=$2 ref=$3 image=$4
name=${repo##*/}
say() { printf '{"message": "%s\\\\n", "phase": "%s"}\\n' "$2" "$1"; }
gate() { read -r _ < "$dir/$1"; }
echo "$image" >> "$dir/started"
. "$dir/$name.sh"
"""


class Process:
    """A process whose output goes to a file."""

    def __init__(self, log, words, env=None):
        self.log = Path(log)
        with self.log.open("wb") as out:
            settings = {"PATH": os.environ["PATH"], "FAIRLANE_LOG": "info", **(env or {})}
            self.child = subprocess.Popen(words, stdout=out, stderr=out, env=settings)

    def wait_for(self, pattern):
        end = time.monotonic() + START_S
        while True:
            found = re.search(pattern, re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(errors="replace")))
            if found:
                return found
            alive = self.child.poll() is None and time.monotonic() < end
            assert alive, f"no {pattern!r} in {self.log.read_text(errors='replace')}"
            time.sleep(0.01)

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.kill()
        self.child.wait()


class QueueUnderTest:
    """The queue of one test, in its own folder."""

    def __init__(self, dispatchers=1, workers=1, slots=2, env=None):
        self.dir = Path(tempfile.mkdtemp(prefix="fairlane-binderhub-"))
        self.env = env or {}
        self.processes = []
        self.dispatchers, self.workers = [], []
        (self.dir / "build.sh").write_text(BUILD)
        socket = self.dir / "redis.sock"
        words = [
            REDIS,
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--dir",
            str(self.dir),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self.redis = self._start("redis", words)
        self.redis.wait_for("eady to accept connections")
        self.redis_url = f"unix://{socket}"
        self._socket = socket
        for _ in range(dispatchers):
            self.add_dispatcher()
        for _ in range(workers):
            self.add_worker(slots)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def _start(self, name, words, env=None):
        process = Process(self.dir / f"{name}-{len(self.processes)}.log", words, env)
        self.processes.append(process)
        return process

    def add_dispatcher(self, listen="127.0.0.1:0", env=None):
        words = [FAIRLANE, "dispatcher", "--redis-url", self.redis_url, "--listen", listen]
        process = self._start("dispatcher", words, {"FAIRLANE_SEAL_KEY": SEAL_KEY, **self.env, **(env or {})})
        process.address = process.wait_for(r"listens on (\S+)")[1]
        process.url = f"http://{process.address}"
        self.dispatchers.append(process)
        return process

    def add_worker(self, slots=2):
        command = f"sh {self.dir}/build.sh {self.dir} {{repo}} {{ref}} {{image}} {{push}} {{args}}"
        words = [FAIRLANE, "worker", "--redis-url", self.redis_url, "--slots", str(slots), "--command", command]
        # The shortest possible lease, because a killed worker's builds are taken over only after it.
        words += ["--lease", "4s", "--heartbeat", "1s"]
        process = self._start("worker", words, {"FAIRLANE_SEAL_KEY": SEAL_KEY, **self.env})
        self.workers.append(process)
        return process

    @property
    def urls(self):
        return [dispatcher.url for dispatcher in self.dispatchers]

    def builds_as(self, name, script=DEFAULT_BUILD):
        """Sets what builds of a repository do, as a shell script: ``say PHASE TEXT``, ``gate NAME``, ``exit 1``."""
        for gate in re.findall(r"^\s*gate (\S+)", script, re.M):
            fifo = self.dir / gate
            if not fifo.exists():
                os.mkfifo(fifo)
        (self.dir / f"{name}.sh").write_text(script)

    async def open_gate(self, name):
        """Opens a gate for one build, which may already wait there or come later."""

        def write():
            with (self.dir / name).open("w") as fifo:
                fifo.write("go\n")

        await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(None, write), START_S)

    def started(self, image=""):
        """How many runs were started, of one image or of all."""
        file = self.dir / "started"
        lines = file.read_text().splitlines() if file.exists() else []
        return len([line for line in lines if image in line])

    def ask(self, method, path, body=None, token=""):
        """Sends a request to the first running dispatcher; returns (status, response)."""
        url = next(d.url for d in self.dispatchers if d.child.poll() is None)
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                text, status = answer.read().decode(), answer.status
        except urllib.error.HTTPError as error:
            text, status = error.read().decode(), error.code
        return status, json.loads(text) if text.startswith(("{", "[")) else text

    async def asks(self, *words, **named):
        """Like ``ask``, but does not block the event loop that serves the replicas."""
        return await asyncio.get_running_loop().run_in_executor(None, lambda: self.ask(*words, **named))

    async def asks_at(self, dispatcher, path):
        """One dispatcher's response, as text."""

        def read():
            with urllib.request.urlopen(dispatcher.url + path, timeout=10) as answer:
                return answer.read().decode()

        return await asyncio.get_running_loop().run_in_executor(None, read)

    async def build(self, name, token=""):
        """The latest build of a repository, as the dispatchers show it."""
        _, page = await self.asks("GET", f"/v1/builds?lane=git.example.org/people/{name}", token=token)
        return page["builds"][0] if page["builds"] else None

    async def streams(self):
        """How many event streams the dispatchers serve."""
        return await self.metric(r"^fairlane_[a-z_]*streams(?:\{[^}]*\})? (\d+)")

    async def metric(self, pattern):
        _, text = await self.asks("GET", "/metrics")
        return sum(int(value) for value in re.findall(pattern, text, re.M))

    def redis_cli(self, *words):
        """Runs a command with redis-cli; returns its output."""
        run = subprocess.run([REDIS_CLI, "-s", str(self._socket), *words], capture_output=True, text=True, check=True)
        return run.stdout

    def everything(self):
        """All values in Redis and all logs, as one text."""
        texts = [path.read_text(errors="replace") for path in self.dir.glob("*.log")]
        for key in self.redis_cli("--scan").split():
            kind = self.redis_cli("TYPE", key).strip()
            read = {
                "string": ["GET", key], "hash": ["HGETALL", key], "list": ["LRANGE", key, "0", "-1"],
                "set": ["SMEMBERS", key], "zset": ["ZRANGE", key, "0", "-1"], "stream": ["XRANGE", key, "-", "+"],
            }.get(kind)  # fmt: skip
            # The key may have been removed between the two calls.
            texts.append(key + (self.redis_cli(*read) if read else ""))
        return "\n".join(texts)
