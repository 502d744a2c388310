"""Makes repo2docker wait before it pushes, until the file that FAIRLANE_PUSH_GATE names is not empty."""

import json
import os
import sys
import time

from repo2docker.app import Repo2Docker
from traitlets.config.loader import ConfigFileNotFound, JSONFileConfigLoader, PyFileConfigLoader


def wait():
    line = {"message": "Built; waiting to push\n", "phase": "waiting-to-push"}
    print(json.dumps(line), file=sys.stderr, flush=True)
    while True:
        try:
            if os.path.getsize(os.environ["FAIRLANE_PUSH_GATE"]):
                return
        except OSError:
            pass
        time.sleep(0.2)


def hold_push_image():
    push_image = Repo2Docker.push_image

    def held(self):
        wait()
        push_image(self)

    Repo2Docker.push_image = held


def hold_build():
    """Since 2025.08 an image is built and pushed in one step. Build first; the second step pushes from the cache."""
    get_engine = Repo2Docker.get_engine

    def held(self):
        engine = get_engine(self)
        build = engine.build

        def build_then_push(*args, **kwargs):
            if kwargs.get("push"):
                yield from build(*args, **{**kwargs, "push": False})
                wait()
                if kwargs.get("fileobj"):
                    kwargs["fileobj"].seek(0)
            yield from build(*args, **kwargs)

        engine.build = build_then_push
        return engine

    Repo2Docker.get_engine = held


if hasattr(Repo2Docker, "push_image"):
    hold_push_image()
else:
    hold_build()

# The configuration that repo2docker would have read.
name = os.path.splitext(os.environ.get("FAIRLANE_REPO2DOCKER_CONFIG") or "repo2docker_config.py")[0]
for loader, ending in [(PyFileConfigLoader, ".py"), (JSONFileConfigLoader, ".json")]:
    try:
        c.merge(loader(name + ending, path=os.getcwd()).load_config())  # noqa: F821
    except ConfigFileNotFound:
        pass
