"""The class that BinderHub makes one of for each request."""

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

#: What a worker sets by itself, for every build.
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
#: What may stand in a repository's path as it is; dispatchers take printable ASCII without these: "'`<>\\^{|}*[]
_PATH_SAFE = "/%?#:@!$&()+,;=~"
_SCP_LIKE = re.compile(r"^(?P<user>[A-Za-z0-9._-]+)@(?P<host>[A-Za-z0-9.-]+):(?!//)(?P<path>.+)$")


class BuildFailed(Exception):
    """Ends a request whose BinderHub does not end it otherwise."""


class _EndOfRequest(ProgressEvent):  # type: ignore[misc]
    """Ends a request without another word to the person.

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
    """Has images built by Fairlane: asks a dispatcher, follows the build's events, holds no thread."""

    dispatcher_urls = List(
        Unicode(),
        help="""
        Addresses of dispatchers, such as http://fairlane-dispatcher:8600. The first that answers is
        used; when it is gone, the next one is. Default: FAIRLANE_DISPATCHER_URL, comma-separated.
        """,
    ).tag(config=True)
    token = Unicode(help="The token to show; it needs the scopes submit and read. Default: FAIRLANE_TOKEN.").tag(
        config=True
    )
    token_file = Unicode(help="A file that holds the token, read again every few seconds. Wins over `token`.").tag(
        config=True
    )
    ca_file = Unicode(
        help="Certificates (PEM) by which dispatchers at https:// are trusted, instead of the system's."
    ).tag(config=True)
    priority = Enum(
        ("interactive", "background"),
        "interactive",
        help="Whether people wait for these builds; background ones stand behind all others.",
    ).tag(config=True)
    labels = Dict(
        value_trait=Unicode(),
        key_trait=Unicode(),
        help="Words of your own that are kept with each build, such as the name of this BinderHub.",
    ).tag(config=True)
    push_secret = Unicode(
        help="""
        Whether images are pushed: they are, unless this is empty. As with KubernetesBuildExecutor,
        BinderHub empties it where use_registry is off. The secret of that name is the worker's to
        mount; its name is not sent. Default: that of KubernetesBuildExecutor.
        """
    ).tag(config=True)
    connect_timeout = Float(3.0, min=0.1, help="Seconds to connect to a dispatcher.").tag(config=True)
    request_timeout = Float(10.0, min=0.1, help="Seconds for a dispatcher to answer.").tag(config=True)
    silence_timeout = Float(
        45.0, min=1.0, help="Seconds of silence after which a stream is dead; dispatchers speak every 15 s."
    ).tag(config=True)
    submit_timeout = Float(
        60.0,
        min=0.0,
        help="Seconds to go on trying to place a request before people are told that it failed.",
    ).tag(config=True)
    resume_timeout = Float(
        300.0, min=0.0, help="Seconds to go on looking for a build whose stream broke off, before giving up."
    ).tag(config=True)
    keepalive = Float(
        15.0,
        min=0.1,
        max=25.0,
        help="Seconds without news after which something is sent: so BinderHub notices who has left.",
    ).tag(config=True)
    failure_linger = Float(
        25.0,
        min=0.0,
        help="""
        Seconds between telling a failure and closing the request, in which well-behaved clients hang up
        by themselves instead of coming back at once. None where BinderHub only builds
        (enable_api_only_mode).
        """,
    ).tag(config=True)
    log_bytes_max = Integer(
        512 * 1024,
        min=4096,
        help="Most of a build's log kept for those who come late: half from its beginning, half from its end.",
    ).tag(config=True)
    in_place = Bool(
        True,
        help="Whether the place in line is updated in place. Turn off for clients that are no terminals.",
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

    # What was set for KubernetesBuildExecutor goes on to hold, so that one line moves a BinderHub over
    # and back. (Inheriting from it would bring along its health check, which lists pods.)

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

    # For those who keep BinderHub's health check that counts pods (health_handler_class =
    # binderhub.health.KubernetesHealthHandler): it asks its example of a builder for these.

    @property
    def namespace(self) -> str:
        """Where that check counts pods."""
        return str(self._carried_over("namespace", os.environ.get("BUILD_NAMESPACE", "default")))

    @property
    def api(self) -> Any:
        """By what it does; made only when it asks."""
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
        """Called on a thread of BinderHub's pool: hands over to the event loop, and gives the thread back."""
        if not self.stop_event.is_set():
            self.main_loop.add_callback(self._attach)

    def stream_logs(self) -> None:
        """Not called: no RUNNING is ever sent, but where a failed request would not end otherwise."""
        raise BuildFailed("the build has failed; its reason was told before")

    def stop(self) -> None:
        """The person has left, or was served. The build goes on."""
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
            # Out of the environment, which nobody has looked at before.
            self.log.error("Fairlane: %s", error)
            watcher.finish(Outcome(messages.misconfigured()))
        except Exception:
            # The event loop would only log it, and the request would hang.
            self.log.exception("Fairlane: build of %s: a fault in the adapter", self.image_name)
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
        # Those in the address come first, as they do for git.
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

    # All of this runs on the event loop, so that events can be put at once: `progress` would put them in
    # the loop's next turn, and the backlog would not show them until then.

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
        raise TraitError("FairlaneBuildExecutor.dispatcher_urls names no dispatcher")
    return checked


def repository(url: str) -> tuple[str, str]:
    """A repository as dispatchers take it, and the credentials in its address as git takes them, empty if none.

    Git's short form for ssh is written out, and what is not ASCII is percent-encoded. Credentials leave the address,
    which is shown to people and logged.
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
    # With ssh a name says whom to log in as; passwords are nothing that git takes from there.
    kept = f"{user}{at}" if scheme == "ssh" else ""
    path = quote(rest[end:], safe=_PATH_SAFE)
    return f"{scheme}://{kept}{host}{path}", "" if scheme == "ssh" else _git_credentials(user, password)


def _git_credentials(user: str, password: str) -> str:
    """What a credential helper of git would answer."""
    fields = {"username": unquote(user), "password": unquote(password)}
    if not user and not password:
        return ""
    if any(ord(character) < 32 for value in fields.values() for character in value):
        # A line end would add a field of its own.
        fields = {"username": user, "password": password}
    return "\n".join(f"{name}={value}" for name, value in fields.items())


def arguments(options: list[str]) -> list[str]:
    """What is left of repo2docker's options when those are taken away that a worker sets by itself.

    Each in one word, ``--option=value``: a value may begin with a dash.
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
