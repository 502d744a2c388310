"""Whether repo2docker's own code waits at the gate before it pushes. `cargo xtask test` runs this with several releases.

The container engine is replaced; everything else is repo2docker's.
"""

import json
import os
import sys
import tempfile
import threading
from pathlib import Path

from repo2docker.app import Repo2Docker
from repo2docker.engine import ContainerEngine, Image

HOOK = Path(__file__).parent.parent / "src/settings/push_hook.py"
events = []
waiting = threading.Event()


class Engine(ContainerEngine):
    string_output = True

    def build(self, *args, push=False, fileobj=None, **kwargs):
        size = len(fileobj.read()) if fileobj else 0
        assert size > 0 or fileobj is None, "the second build has no context"
        events.append("push" if push else "build")
        yield "Step 1/1 : FROM scratch\n"

    def push(self, image_spec):
        events.append("push")
        yield "pushed\n"

    def inspect_image(self, image):
        return None

    def images(self):
        return []


class Log:
    """Notices the line that says that the run waits."""

    def write(self, text):
        if '"waiting-to-push"' in text:
            assert json.loads(text)["phase"] == "waiting-to-push"
            events.append("waiting")
            waiting.set()
        return len(text)

    def flush(self):
        pass


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "repo").mkdir()
        (folder / "repo" / "Dockerfile").write_text("FROM scratch\n")
        (folder / "own.py").write_text('c.Repo2Docker.git_workdir = "/from-own-configuration"\n')
        gate = folder / "gate"
        gate.write_text("")
        os.environ["FAIRLANE_PUSH_GATE"] = str(gate)
        os.environ["FAIRLANE_REPO2DOCKER_CONFIG"] = str(folder / "own.py")
        Repo2Docker.get_engine = lambda self: Engine(parent=self)
        sys.stderr = Log()

        # Only now, because the command line is read when the application is made.
        from repo2docker.__main__ import make_r2d

        arguments = [f"--config={HOOK}", "--json-logs", "--no-run", "--push", "--image-name=r.example.org/i:1"]
        app = make_r2d([*arguments, "--user-id=1000", "--user-name=jovyan", str(folder / "repo")])
        assert app.git_workdir == "/from-own-configuration", "the command's own configuration was not read"
        app.initialize()
        build = threading.Thread(target=app.start, daemon=True)
        build.start()
        assert waiting.wait(60), f"it did not wait: {events}"
        # An empty gate is closed: without the hook, the push would be over by now.
        build.join(1)
        events.append("open")
        gate.write_text("open")
        build.join(60)
        assert events == ["build", "waiting", "open", "push"], events
    print("repo2docker waits before it pushes:", app.version)


try:
    main()
finally:
    sys.stderr, sys.excepthook = sys.__stderr__, sys.__excepthook__
