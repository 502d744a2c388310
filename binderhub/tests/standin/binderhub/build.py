"""BuildExecutor and ProgressEvent, as far as an executor sees them."""

import enum
import threading

from tornado.ioloop import IOLoop
from traitlets import Any, Dict, List, Unicode, default
from traitlets.config import LoggingConfigurable


class ProgressEvent:
    Kind = enum.Enum("Kind", {"BUILD_STATUS_CHANGE": 1, "LOG_MESSAGE": 2})
    BuildStatus = enum.Enum(
        "BuildStatus", {word.upper(): word for word in ("pending", "running", "built", "failed", "unknown")}
    )

    def __init__(self, kind, payload):
        self.kind, self.payload = kind, payload


class BuildExecutor(LoggingConfigurable):
    q = Any()
    name = Unicode()
    repo_url = Unicode()
    ref = Unicode()
    image_name = Unicode()
    git_credentials = Unicode("").tag(config=True)
    push_secret = Unicode("").tag(config=True)
    registry_credentials = Dict().tag(config=True)
    appendix = Unicode("").tag(config=True)
    builder_info = Dict().tag(config=True)
    repo2docker_extra_args = List(Unicode()).tag(config=True)
    stop_event = Any()

    def __init__(self, **settings):
        super().__init__(**settings)
        self.main_loop = IOLoop.current()

    @default("stop_event")
    def _new_stop_event(self):
        return threading.Event()

    def get_r2d_cmd_options(self):
        fixed = ["--no-clean", "--no-run", "--json-logs", "--user-name=jovyan", "--user-id=1000"]
        appendix = ["--appendix", self.appendix] if self.appendix else []
        push = ["--push"] if self.push_secret else []
        named = [f"--ref={self.ref}", f"--image={self.image_name}"]
        return named + fixed + appendix + push + self.repo2docker_extra_args

    def progress(self, kind, payload):
        self.main_loop.add_callback(self.q.put, ProgressEvent(kind, payload))

    def submit(self):
        raise NotImplementedError

    def stream_logs(self):
        pass

    def stop(self):
        self.stop_event.set()
