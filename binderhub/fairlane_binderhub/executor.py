"""The executor that BinderHub creates for each request."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote

from binderhub.build import BuildExecutor, ProgressEvent
from tornado.web import Finish
from traitlets import Bool, Dict, Enum, Float, Integer, List, TraitError, Unicode, default, validate
from traitlets.config import Config
from traitlets.config.loader import LazyConfigValue

from . import messages
from .ask import Ask
from .builds import Builds
from .settings import Settings, checked_url
from .watcher import Outcome, Watcher

#: Options that a worker sets itself, for every build.
_SET_BY_WORKER = (
    "--ref",
    "--image",
    "--no-clean",
    "--no-run",
    "--json-logs",
    "--user-name",
    "--user-id",
    "--push",
)
#: Characters that a repository's path may contain; dispatchers accept printable ASCII without these: "'`<>\\^{|}*[]
_PATH_SAFE = "/%?#:@!$&()+,;=~"
_SCP_LIKE = re.compile(r"^(?P<user>[A-Za-z0-9._-]+)@(?P<host>[A-Za-z0-9.-]+):(?!//)(?P<path>.+)$")


class BuildFailed(Exception):
    """Ends a request that BinderHub does not end otherwise."""


class _EndOfRequest(ProgressEvent):  # type: ignore[misc]
    """Ends a request without sending anything else.

    BinderHub's handler ends a request that has failed only when an exception comes out of a future, and
    then adds a message of its own and a trace to the log, and counts the failure twice. ``Finish`` is
    how tornado lets a handler end early; this brings it into the handler's loop.
    """

    def __init__(self) -> None:
        self.payload = ProgressEvent.BuildStatus.FAILED

    @property
    def kind(self) -> Any:
        raise Finish()


class FairlaneBuildExecutor(BuildExecutor):  # type: ignore[misc]
    """Builds images with Fairlane: requests a build, follows its events, holds no thread."""

    dispatcher_urls = List(
        Unicode(),
        help="""
        Dispatcher URLs, such as http://fairlane-dispatcher:8600. The one that answered last is tried
        first, then the others. Default: FAIRLANE_DISPATCHER_URL, comma-separated.
        """,
    ).tag(config=True)
    token = Unicode(help="API token with the scopes submit and read. Default: FAIRLANE_TOKEN.").tag(
        config=True
    )
    token_file = Unicode(help="File with the API token, reread every few seconds. Overrides `token`.").tag(
        config=True
    )
    ca_file = Unicode(
        help="CA certificates (PEM file) for https:// dispatchers; replaces the system's."
    ).tag(config=True)
    priority = Enum(
        ("interactive", "background"),
        "interactive",
        help="Priority of these builds: background builds come after all interactive ones.",
    ).tag(config=True)
    labels = Dict(
        value_trait=Unicode(),
        key_trait=Unicode(),
        help="Labels to store with each build, such as the name of this BinderHub.",
    ).tag(config=True)
    push_secret = Unicode(
        help="""
        Images are pushed unless this is empty. As with KubernetesBuildExecutor, BinderHub empties it
        if use_registry is off. Its value is not sent: name the Secret in the worker's settings.
        Default: that of KubernetesBuildExecutor.
        """
    ).tag(config=True)
    connect_timeout = Float(3.0, min=0.1, help="Seconds to wait for a connection to a dispatcher.").tag(config=True)
    request_timeout = Float(10.0, min=0.1, help="Seconds to wait for a dispatcher's response.").tag(config=True)
    silence_timeout = Float(
        45.0, min=1.0, help="Seconds without data after which a stream is dropped; dispatchers send some every 15 s."
    ).tag(config=True)
    submit_timeout = Float(
        60.0,
        min=0.0,
        help="Seconds to keep trying to submit a build before the request fails.",
    ).tag(config=True)
    resume_timeout = Float(
        300.0, min=0.0, help="Seconds to keep trying to reconnect to a build before the request fails."
    ).tag(config=True)
    keepalive = Float(
        15.0,
        min=0.1,
        max=25.0,
        help="Most seconds between messages to people; BinderHub notices that somebody left only when it sends one.",
    ).tag(config=True)
    failure_linger = Float(
        25.0,
        min=0.0,
        help="""
        Seconds between reporting a failure and closing the request. Well-behaved clients hang up in that
        time instead of reconnecting. Not used if BinderHub only builds (enable_api_only_mode).
        """,
    ).tag(config=True)
    log_bytes_max = Integer(
        512 * 1024,
        min=4096,
        help="Largest part of a build's log to keep for people who join late: half from its start, half from its end.",
    ).tag(config=True)
    in_place = Bool(
        True,
        help="Update the position in line in place. Turn this off for clients that are not terminals.",
    ).tag(config=True)

    _watcher: Watcher | None = None
    _builds: Builds | None = None

    @default("dispatcher_urls")
    def _default_dispatcher_urls(self) -> list[str]:
        urls = os.environ.get("FAIRLANE_DISPATCHER_URL", "http://127.0.0.1:8600")
        return _checked_urls(url for url in urls.split(",") if url.strip())

    @default("token")
    def _default_token(self) -> str:
        return os.environ.get("FAIRLANE_TOKEN", "")

    @validate("dispatcher_urls")
    def _check_urls(self, proposal: Any) -> list[str]:
        return _checked_urls(proposal["value"])

    # Settings of KubernetesBuildExecutor still apply, so that one line switches a BinderHub to Fairlane
    # and back. (Inheriting from it would also bring its health check, which lists pods.)

    @default("push_secret")
    def _default_push_secret(self) -> str:
        return str(self._carried_over("push_secret", "binder-build-docker-config"))

    @default("appendix")
    def _default_appendix(self) -> str:
        return str(self._carried_over("appendix", ""))

    @default("repo2docker_extra_args")
    def _default_extra_args(self) -> list[str]:
        return list(self._carried_over("repo2docker_extra_args", []))

    @default("registry_credentials")
    def _default_registry_credentials(self) -> dict[str, Any]:
        return dict(self._carried_over("registry_credentials", {}))

    @default("builder_info")
    def _default_builder_info(self) -> dict[str, Any]:
        info = self._carried_over("builder_info", None)
        image = self._carried_over("build_image", None)
        return dict(info) if info else {"build_image": image} if image else {}

    # If BinderHub keeps its health check that counts pods (health_handler_class =
    # binderhub.health.KubernetesHealthHandler), that check reads these from its example builder.

    @property
    def namespace(self) -> str:
        """The namespace in which the health check counts pods."""
        return str(self._carried_over("namespace", os.environ.get("BUILD_NAMESPACE", "default")))

    @property
    def api(self) -> Any:
        """The health check's Kubernetes client; created on first use."""
        from binderhub.build import KubernetesBuildExecutor

        return KubernetesBuildExecutor(parent=self.parent).api

    def _carried_over(self, name: str, otherwise: Any) -> Any:
        """A setting of KubernetesBuildExecutor: what was configured, else its own default, else ours."""
        import binderhub.build

        old = getattr(binderhub.build, "KubernetesBuildExecutor", None)
        trait = old.class_traits().get(name) if old is not None else None
        value = getattr(trait, "default_value", None)
        if isinstance(value, (str, list, dict)) and value:
            otherwise = value
        section = self.config.get("KubernetesBuildExecutor", Config())
        value = section.get(name, None) if isinstance(section, Config) else None
        if isinstance(value, LazyConfigValue):
            value = value.get_value(otherwise)
        return otherwise if value is None else value

    def submit(self) -> None:
        """Runs on a thread of BinderHub's pool: hands over to the event loop and releases the thread."""
        if not self.stop_event.is_set():
            self.main_loop.add_callback(self._attach)

    def stream_logs(self) -> None:
        """BinderHub calls this after RUNNING, which is only sent to end a failed request that did not end otherwise."""
        raise BuildFailed("the build failed; the reason was sent before this error")

    def stop(self) -> None:
        """The person left or got the result. The build continues."""
        self.stop_event.set()
        self.main_loop.add_callback(self._detach)

    def _attach(self) -> None:
        if self.stop_event.is_set() or self._watcher is not None:
            return
        watcher = self._watcher = Watcher(_Request(self), self.keepalive, self._linger(), self.in_place)
        try:
            self._builds = Builds.of(self.main_loop, self.parent, self._settings(), self.log)
            self._builds.enter(watcher, Ask(self.image_name, self._body()))
        except TraitError as error:
            # A setting from an environment variable, which has not been checked before.
            self.log.error("Fairlane: %s", error)
            watcher.finish(Outcome(messages.misconfigured()))
        except Exception:
            # The event loop would only log the exception, and the request would hang.
            self.log.exception("Fairlane: build of %s: internal error", self.image_name)
            watcher.finish(Outcome(messages.internal()))

    def _detach(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None and self._builds is not None:
            self._builds.leave(watcher)

    def _linger(self) -> float:
        return 0.0 if getattr(self.parent, "enable_api_only_mode", False) is True else self.failure_linger

    def _settings(self) -> Settings:
        return Settings(
            urls=tuple(self.dispatcher_urls),
            token=self.token,
            token_file=self.token_file,
            ca_file=self.ca_file,
            connect_timeout=self.connect_timeout,
            request_timeout=self.request_timeout,
            silence_timeout=self.silence_timeout,
            submit_timeout=self.submit_timeout,
            resume_timeout=self.resume_timeout,
            log_bytes_max=self.log_bytes_max,
        )

    def _body(self) -> dict[str, Any]:
        options = list(self.get_r2d_cmd_options())
        repo, git_credentials = repository(self.repo_url)
        body: dict[str, Any] = {
            "repo": repo,
            "ref": self.ref,
            "image": self.image_name,
            "name": self.name,
            "priority": self.priority,
            "push": "--push" in options,
            "repo2docker_args": arguments(options),
            "labels": dict(self.labels),
        }
        # Set between construction and submit(), if at all.
        secrets: dict[str, Any] = {}
        # Credentials in the URL take precedence, as in git.
        if git_credentials or self.git_credentials:
            secrets["git_credentials"] = git_credentials or self.git_credentials
        if self.registry_credentials:
            secrets["registry_credentials"] = json.dumps(self.registry_credentials)
        if secrets:
            body["secrets"] = secrets
        return body


class _Request:
    """The request behind an executor, as its watcher sees it."""

    def __init__(self, executor: FairlaneBuildExecutor) -> None:
        self._executor = executor

    # All of this runs on the event loop, so events can be queued immediately. `progress` would queue them
    # in the loop's next iteration, and the backlog would not show them until then.

    def say(self, payload: str) -> None:
        self._put(ProgressEvent(ProgressEvent.Kind.LOG_MESSAGE, payload))

    def built(self) -> None:
        self._status(ProgressEvent.BuildStatus.BUILT)

    def end(self) -> None:
        self._put(_EndOfRequest())

    def end_by_force(self) -> None:
        if not self._executor.stop_event.is_set():
            self._status(ProgressEvent.BuildStatus.RUNNING)

    def backlog(self) -> int:
        return int(self._executor.q.qsize())

    def _status(self, status: ProgressEvent.BuildStatus) -> None:
        self._put(ProgressEvent(ProgressEvent.Kind.BUILD_STATUS_CHANGE, status))

    def _put(self, event: ProgressEvent) -> None:
        self._executor.q.put_nowait(event)


def _checked_urls(urls: Iterable[str]) -> list[str]:
    try:
        checked = list(dict.fromkeys(checked_url(url) for url in urls))
    except ValueError as error:
        raise TraitError(f"FairlaneBuildExecutor.dispatcher_urls: {error}") from None
    if not checked:
        raise TraitError("FairlaneBuildExecutor.dispatcher_urls is empty; list at least one dispatcher URL")
    return checked


def repository(url: str) -> tuple[str, str]:
    """The repository's URL as dispatchers accept it, and the credentials in it as git accepts them (empty if none).

    Git's short form for ssh is written out, and non-ASCII characters are percent-encoded. Credentials are removed
    from the URL, because it is shown to people and logged.
    """
    short = _SCP_LIKE.match(url) if "://" not in url else None
    if short:
        url = f"ssh://{short['user']}@{short['host']}/{short['path'].lstrip('/')}"
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url, ""
    end = min((place for mark in "/?#" if (place := rest.find(mark)) >= 0), default=len(rest))
    user_info, at, host = rest[:end].rpartition("@")
    user, _, password = user_info.partition(":")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            # The dispatcher says what is wrong with it.
            pass
    # With ssh, the user name is needed to log in; git ignores a password there.
    kept = f"{user}{at}" if scheme == "ssh" else ""
    path = quote(rest[end:], safe=_PATH_SAFE)
    return f"{scheme}://{kept}{host}{path}", "" if scheme == "ssh" else _git_credentials(user, password)


def _git_credentials(user: str, password: str) -> str:
    """The credentials in the format of a git credential helper."""
    fields = {"username": unquote(user), "password": unquote(password)}
    if not user and not password:
        return ""
    if any(ord(character) < 32 for value in fields.values() for character in value):
        # A line end would start another field.
        fields = {"username": user, "password": password}
    return "\n".join(f"{name}={value}" for name, value in fields.items())


def arguments(options: list[str]) -> list[str]:
    """repo2docker's options without those that a worker sets itself.

    Each is one word, ``--option=value``, because a value may begin with a dash.
    """
    left: list[str] = []
    for option in options:
        if option.startswith("-"):
            left.append(option)
        elif left and "=" not in left[-1]:
            left[-1] = f"{left[-1]}={option}"
        else:
            left.append(option)
    return [option for option in left if option.split("=", 1)[0] not in _SET_BY_WORKER]
