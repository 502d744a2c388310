"""What people read: every message of the adapter, and repo2docker's lines in the form that BinderHub's page expects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

#: Moves to the beginning of the line and clears it; the page writes messages unchanged to a terminal.
AGAIN = "\r\x1b[K"
#: Longest line that is updated in place. A longer one would wrap, and only its last row would be cleared.
LINE_MAX = 78
#: Longest text from elsewhere (reasons, operators' messages) that is shown.
TEXT_MAX = 2000
#: Characters of one message, after which another begins.
MESSAGE_MAX = 16 * 1024
#: Phases that end a request for BinderHub's page and its metrics.
FAILURES = ("failed", "failure")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DIGITS = re.compile(r"\d+")

SUBMITTING_AGAIN = "The build queue is not responding. Trying again...\n"
LOST_CONNECTION = "The connection to the build queue was lost. The build continues; reconnecting...\n"
RESUMED = "Reconnected to the build queue.\n"
ANSWERS_AGAIN = "The build queue is responding again.\n"
ASKED_AGAIN = "The queue lost this build, so it was requested again. The log starts over.\n"
STARTS_ANEW = "The log starts over.\n"
BUILT_BEFORE = "This image was built a moment ago.\n"
INCOMPLETE = "The last lines of the log did not arrive in time.\n"

#: Errors that only operators can fix, by changing a setting or a release on one side.
_OPERATORS_MATTER = (
    "argument-not-allowed",
    "bad-parameter",
    "malformed-json",
    "no-seal-key",
    "unknown-path",
    "wrong-content-type",
    "wrong-method",
)
#: Errors for limits that this BinderHub, its address or a dispatcher has reached.
BUSY = (
    "address-connections",
    "address-limit",
    "token-limit",
    "too-many-connections",
    "too-many-requests",
    "too-many-streams",
)
#: Stages whose reason for waiting is shown once, on a separate line.
_SAID_STAGES = ("lane", "shared-limit", "background", "held", "no-worker", "paused")
_ADVICE = {
    "repository": (
        "Something in the repository made the build fail: see the last lines of the log above. "
        "Fix it there, then try again. For five minutes, the same commit gives the same answer."
    ),
    "infrastructure": "This is not the repository's fault. Please try again in a few minutes.",
    "stuck": (
        "The build was stopped because it took too long or printed nothing for too long. If it downloads or "
        "compiles a lot, make it smaller. Otherwise, try again later."
    ),
}


#: How far along BinderHub's bar is; it shows nothing for ``fetching``.
_RANK = {"waiting": 0, "fetching": 1, "building": 1, "pushing": 2}


def is_behind(phase: str, reached: str) -> bool:
    """Whether a page that has reached a phase would go back with this one."""
    return _RANK.get(phase, 0) < _RANK.get(reached, 0)


def later(reached: str, phase: str) -> str:
    """The phase to show next: never one that is behind."""
    return reached if is_behind(phase, reached) else phase


def message(phase: str, text: str) -> str:
    """One message as BinderHub sends it on."""
    return json.dumps({"phase": phase, "message": text})


def clean(text: object, length_max: int = TEXT_MAX) -> str:
    """Text from elsewhere, cut to a length and without control characters (line ends and tabs stay)."""
    shown = _CONTROL.sub("", str(text)).strip()
    return shown if len(shown) <= length_max else shown[: length_max - 3] + "..."


def sentence(text: object) -> str:
    """Text from elsewhere as a complete sentence."""
    shown = clean(text)
    if not shown:
        return ""
    return shown[0].upper() + shown[1:] + ("" if shown[-1] in ".!?" else ".")


def span(seconds: float) -> str:
    """A span of time as people say it."""
    s = max(1, round(seconds))
    if s < 90:
        return f"{s} s"
    if s < 5400:
        return f"{round(s / 60)} min"
    return f"{s // 3600} h {s % 3600 // 60} min"


def with_phase(phase: str, payload: str) -> str:
    """A message with another phase."""
    return json.dumps({**json.loads(payload), "phase": phase})


def spoken(seconds: float) -> str:
    """A span of time in words, for use within a sentence."""
    s = max(1, round(seconds))
    number, word = (s, "second") if s < 90 else (round(s / 60), "minute") if s < 5400 else (round(s / 3600), "hour")
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def omitted(lines: int) -> str:
    """Shown where lines are missing, worded as the dispatcher does."""
    return f"[{'1 line is' if lines == 1 else f'{lines} lines are'} left out here]\n"


@dataclass(frozen=True)
class Standing:
    """What people are told about a build's state; made once for everyone who waits."""

    phase: str = "waiting"
    #: Updated in place.
    line: str = ""
    #: Shown on a separate line when it differs from the last one.
    reason: str = ""
    #: Equal for reasons that differ only in their numbers.
    reason_key: str = ""
    #: That the build has started; shown once for each value.
    started: str = ""


def standing(view: dict[str, Any]) -> Standing:
    """What a ``state`` event means to people."""
    state = view.get("state")
    stage, text, ahead = visitor(view)
    if state == "queued":
        if stage not in _SAID_STAGES or not text:
            return Standing(line=place_line(view))
        # Said once, and once more when it is next; not for each number that changes.
        key = f"{stage} {ahead == 0} {_DIGITS.sub('#', text) if stage == 'held' else ''}"
        return Standing(line=place_line(view), reason=f"{text}\n", reason_key=key)
    if state == "orphaned":
        reason = text or "The machine running this build is gone. Another one is taking over the build."
        return Standing(phase="building", reason=f"{reason}\n", reason_key="orphaned")
    note = clean(view.get("note") or "", 200)
    if state == "starting":
        return Standing(line=f"Starting: {note}"[:LINE_MAX] if note else "The build is starting")
    if state == "running":
        return Standing(phase="building", started=started_line(view))
    return Standing(phase="building")


def visitor(view: dict[str, Any]) -> tuple[str, str, int | None]:
    """What a ``state`` event says for people: the build's stage, a sentence, and how many builds of its repository are
    ahead of it."""
    found = view.get("visitor")
    fields = found if isinstance(found, dict) else {}
    ahead = fields.get("ahead")
    return str(fields.get("stage", "")), clean(fields.get("text") or "", 400), ahead if isinstance(ahead, int) else None


def retried(view: dict[str, Any]) -> str:
    """Shown when a run has failed and the build is retried."""
    stage, text, _ = visitor(view)
    if stage != "retry" or not text:
        attempt = view.get("attempt")
        before = attempt - 1 if isinstance(attempt, int) else 1
        text = f"Attempt {before} failed: {clean(view.get('reason') or 'no reason was given')}"
        text = f"{text.rstrip('.')}. Trying again."
    return f"[{text}]\n"


def remembered(seconds_ago: float) -> str:
    """Shown before the log of a build that failed a short time ago and is not retried yet."""
    return f"This build failed {spoken(seconds_ago)} ago. Its log was:\n"


def started_line(view: dict[str, Any]) -> str:
    """Shown when a build starts, or to somebody who joins while it runs."""
    expected, left = view.get("expected_seconds"), view.get("eta_seconds")
    if not isinstance(expected, (int, float)):
        return "The build has started.\n"
    # The time left shrinks while the build runs, but exceeds the expected time if the build is late.
    if not isinstance(left, (int, float)) or abs(expected - left) < 10:
        return f"The build has started; it is expected to take about {span(expected)}.\n"
    rest = f"needs about {span(left)} more" if left > 0 else "is taking longer than expected"
    return f"The build is running and {rest}. Its log so far:\n"


def place_line(view: dict[str, Any]) -> str:
    """Position in line and expected time, short enough to be updated in place."""
    position, length, eta = view.get("position"), view.get("line"), view.get("eta_seconds")
    people = view.get("people")
    parts = ["Waiting in line"]
    if isinstance(position, int):
        of = f" of {length}" if isinstance(length, int) else ""
        parts = [f"Position {position}{of} in line"]
    if isinstance(eta, (int, float)):
        parts.append(f"ready in about {span(eta)}")
    if isinstance(people, int) and people > 1:
        parts.append(f"{people} people waiting")
    return ", ".join(parts)[:LINE_MAX]


def failure(class_word: object, reason: object, log_tail: object = None, seconds_ago: float | None = None) -> str:
    """Why a build failed, with advice. The tail of the log is for people who saw no log; ``seconds_ago`` is set if the
    build failed before they requested it."""
    said = sentence(reason)
    when = "" if seconds_ago is None else f" That was {spoken(seconds_ago)} ago."
    said = said if said.startswith("The build") else f"The build failed: {clean(reason).rstrip('.')}."
    text = f"\n{said}{when}\n"
    if log_tail:
        text = f"\nThe last lines of its log:\n{clean(log_tail, 4 * TEXT_MAX)}\n{text}"
    advice = _ADVICE.get(str(class_word))
    return f"{text}{advice}\n" if advice else text


def cancelled(reason: object) -> str:
    """A build that an operator, or whoever requested it, cancelled."""
    text = clean(reason).rstrip(".")
    said = f"The build was {text}." if text.startswith("cancelled") else f"The build was cancelled: {text}."
    return f"\n{said}\nTo build it anyway, launch it again.\n"


def refused(word: str, detail: str, retry_after: float, message: str | None = None) -> str:
    """Why the dispatcher rejected a build. ``message`` is its own text for people, if any."""
    when = f"in about {spoken(retry_after)}" if retry_after else "later"
    if word == "banned":
        return f"\n{sentence(message or detail)}\n"
    if word in ("full", "memory"):
        return f"\nThe build queue is full at the moment. Please try again {when}.\n"
    if word in BUSY:
        return f"\nToo many people are asking for builds at the moment. Please try again {when}.\n"
    if word == "conflict":
        return (
            "\nAn image with this name is being built from another repository or version at the moment. "
            "Please try again in a few minutes.\n"
        )
    if word in _OPERATORS_MATTER:
        return misconfigured()
    if word in ("not-signed-in", "forbidden"):
        return (
            "\nThe build queue does not accept requests from this BinderHub. "
            "BinderHub's operators can find the cause in its log.\n"
        )
    return f"\nThe build queue does not accept this build. {sentence(detail)}\n"


def away(once_accepted: bool) -> str:
    """The queue did not answer for too long."""
    if once_accepted:
        return (
            "\nThe build queue has not responded for a long time, so this page stops waiting. The build itself may "
            "continue: try again in a few minutes.\n"
        )
    return (
        "\nThe build queue is not responding, so nothing can be built at the moment. Please try again in a few "
        "minutes.\n"
    )


def unreadable() -> str:
    """The queue's responses cannot be read: it runs another release."""
    return (
        "\nThis BinderHub cannot read the build queue's answers, so this page stops waiting. The build itself may "
        "continue: try again in a few minutes.\n"
    )


def internal() -> str:
    """A bug in the adapter."""
    return "\nSomething went wrong while following the build; the log of this BinderHub says what. Please try again.\n"


def misconfigured() -> str:
    """A setting is invalid."""
    return "\nThis BinderHub's connection to its build queue is not set up right; its log says what is wrong.\n"


def log_messages(lines: Iterable[Any], phase: str) -> Iterator[tuple[str, str, int]]:
    """Combines lines of a log into few messages: (message, phase, number of lines). ``phase`` is the previous line's.

    A line with the phase ``failed`` is shown like any other: it does not decide whether the build has failed,
    because the build may be retried.
    """
    texts: list[str] = []
    length = 0
    for line in lines:
        raw = line.get("text", "") if isinstance(line, dict) else ""
        text, said, whole = read_line(str(raw))
        new = later(phase, said or phase)
        if texts and (new != phase or whole is not None or length + len(text) > MESSAGE_MAX):
            yield message(phase, "".join(texts)), phase, len(texts)
            texts, length = [], 0
        phase = new
        if whole is not None:
            yield json.dumps({**whole, "phase": phase}), phase, 1
        else:
            texts.append(text)
            length += len(text)
    if texts:
        yield message(phase, "".join(texts)), phase, len(texts)


def read_line(raw: str) -> tuple[str, str | None, dict[str, Any] | None]:
    """Reads a line of repo2docker: its text, its phase if it has one, and the whole line if its other fields matter."""
    if raw.startswith("{"):
        try:
            entry = json.loads(raw)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and isinstance(entry.get("message"), str):
            phase = entry.get("phase")
            known = phase if phase in ("fetching", "building", "pushing") else None
            text = entry["message"]
            if known == "building" and "The push refers to repository" in text:
                known = "pushing"
            if phase == "pushing" and "progress" in entry:
                return text, known, {"message": text, "progress": entry["progress"]}
            return text, known, None
    return raw + "\n", None, None
