"""A replica: the part of BinderHub that handles build requests and drives executors."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

from binderhub.build import ProgressEvent
from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.netutil import bind_sockets
from tornado.queues import Queue
from tornado.web import Application, Finish, RequestHandler
from traitlets import Bool
from traitlets.config import Config, LoggingConfigurable

from fairlane_binderhub import FairlaneBuildExecutor

KIND, STATUS = ProgressEvent.Kind, ProgressEvent.BuildStatus


class App(LoggingConfigurable):
    enable_api_only_mode = Bool(False).tag(config=True)


class CountingPool(ThreadPoolExecutor):
    """A thread pool that counts its jobs so far and its running jobs."""

    def __init__(self, threads):
        super().__init__(threads)
        self.jobs, self.running, self.names = 0, 0, []

    def submit(self, job):
        self.jobs += 1
        self.running += 1
        self.names.append(job.__name__)
        future = super().submit(job)
        future.add_done_callback(lambda _: setattr(self, "running", self.running - 1))
        return future


class BuildHandler(RequestHandler):
    """``GET /build/<name>/<ref>``: sends a build's events until its image is there or it has failed."""

    def initialize(self, replica):
        self.replica = replica
        self.build = None

    async def get(self, name, ref):
        self.set_header("Content-Type", "text/event-stream")
        self.replica.open += 1
        replica, q = self.replica, Queue()
        replica.queues.append(q)
        image = f"registry.example.org/{name}:{ref}"
        self.build = build = FairlaneBuildExecutor(
            parent=replica.app, q=q, name=f"build-{name}", repo_url=replica.repo_url.format(name=name),
            ref=ref, image_name=image, git_credentials=replica.git_credentials,
        )  # fmt: skip
        if replica.registry_credentials is None:
            build.push_secret = ""
        elif replica.registry_credentials:
            build.registry_credentials = replica.registry_credentials
        self.done = self.failed = False
        self.watch(replica.pool.submit(build.submit))
        await self.emit({"phase": "waiting", "message": "Waiting for build to start...\n"})
        await self.follow(build, q, image)
        if not replica.build_only:
            if not self.failed:
                replica.launched.append(image)
                await self.emit({"phase": "ready", "url": "https://hub.example.org/"})
            await asyncio.sleep(60)

    async def follow(self, build, q, image):
        following = False
        while not self.done:
            event = await q.get()
            try:
                kind = event.kind
            except Finish:
                if self.replica.swallows_finish:
                    continue
                raise
            if kind == KIND.LOG_MESSAGE:
                data = event.payload
                if json.loads(data).get("phase") in ("failed", "failure"):
                    self.failed = True
                    self.replica.counts["failure"] += 1
            elif event.payload == STATUS.PENDING:
                continue
            elif event.payload == STATUS.RUNNING:
                if not following:
                    following = True
                    self.watch(self.replica.pool.submit(build.stream_logs))
                continue
            elif event.payload == STATUS.BUILT:
                self.done = True
                self.replica.counts["success"] += 1
                data = {"phase": "ready" if self.replica.build_only else "built", "imageName": image}
            else:
                data = {"phase": event.payload.value}
            await self.emit(data)

    def watch(self, future):
        """Ends the request if a job of the pool raises an exception."""
        loop = asyncio.get_running_loop()

        def ended(future):
            if future.exception() is not None:
                self.replica.errors.append(future.exception())
                self.done = self.failed = True
                text = "Unhandled error watching for build events. Please try again.\n"
                self.build.progress(KIND.LOG_MESSAGE, json.dumps({"phase": "failed", "message": text}))

        future.add_done_callback(lambda future: loop.call_soon_threadsafe(ended, future))

    async def emit(self, data):
        text = data if isinstance(data, str) else json.dumps(data)
        self.write(f"data: {text}\n\n")
        try:
            await self.flush()
        except StreamClosedError:
            raise Finish() from None

    def on_finish(self):
        self.replica.open -= 1
        if self.build is not None:
            self.build.stop()


class Replica:
    """One BinderHub. ``settings`` are those of FairlaneBuildExecutor."""

    def __init__(self, urls, build_only=True, threads=8, kubernetes=None, **settings):
        config = Config()
        config.FairlaneBuildExecutor.update({"failure_linger": 0.1, **settings})
        if urls is not None:
            config.FairlaneBuildExecutor.dispatcher_urls = urls
        config.App.enable_api_only_mode = build_only
        config.KubernetesBuildExecutor.update(kubernetes or {})
        self.app = App(config=config)
        self.build_only = build_only
        self.repo_url = "https://git.example.org/people/{name}"
        self.pool = CountingPool(threads)
        self.git_credentials, self.registry_credentials = "", {}
        self.counts = {"success": 0, "failure": 0}
        self.launched, self.errors, self.queues = [], [], []
        self.swallows_finish = False
        self.open = 0

    async def __aenter__(self):
        sockets = bind_sockets(0, "127.0.0.1", backlog=1024)
        self.port = sockets[0].getsockname()[1]
        self.server = HTTPServer(Application([("/build/([^/]+)/([^/]+)", BuildHandler, {"replica": self})]))
        self.server.add_sockets(sockets)
        return self

    async def __aexit__(self, *_):
        self.server.stop()
        await self.server.close_all_connections()
        self.pool.shutdown(wait=False)
