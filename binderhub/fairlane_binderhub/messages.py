"""What people read: every text of the adapter, and repo2docker's lines as BinderHub's page takes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

#: Back to the beginning of the line, and clear it: the page writes messages to a terminal as they are.
AGAIN = "\r\x1b[K"
#: Longest line that is updated in place. A longer one would wrap, and only its last row would be cleared.
LINE_MAX = 78
#: Longest text of others (reasons, operators' messages) that is shown.
TEXT_MAX = 2000
#: Text of one message, in characters, after which another begins.
MESSAGE_MAX = 16 * 1024
#: Phases that BinderHub's page and its metrics take for the end of the request.
FAILURES = ("failed", "failure")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DIGITS = re.compile(r"\d+")

SUBMITTING_AGAIN = "The build queue does not answer at the moment. Trying again...\n"
LOST_CONNECTION = "The connection to the build queue broke off. The build goes on; looking for it again...\n"
RESUMED = "The connection to the build queue was taken up again.\n"
ANSWERS_AGAIN = "The build queue answers again.\n"
ASKED_AGAIN = "The queue has lost this build, so it was asked for again. The log starts anew.\n"
STARTS_ANEW = "The log starts anew.\n"
BUILT_BEFORE = "This image was built a moment ago.\n"
INCOMPLETE = "The last lines of the log did not come in time.\n"

#: Refusals that nobody who asks for a build can do anything about: the release and the settings of both sides.
_OPERATORS_MATTER = (
    "argument-not-allowed",
    "bad-parameter",
    "malformed-json",
    "no-seal-key",
    "unknown-path",
    "wrong-content-type",
    "wrong-method",
)
#: Limits that this BinderHub, its address or a dispatcher has reached.
BUSY = (
    "address-connections",
    "address-limit",
    "token-limit",
    "too-many-connections",
    "too-many-requests",
    "too-many-streams",
)
#: What a build waits for that is said once, on a line of its own.
_SAID_STAGES = ("lane", "shared-limit", "background", "held", "no-worker", "paused")
_ADVICE = {
    "repository": (
        "Something in the repository stopped the build: the last lines of the log above say what. "
        "Once it is mended there, ask again. The same commit gives the same answer for five minutes."
    ),
    "infrastructure": "This is not the repository's fault. Please try again in a few minutes.",
    "stuck": (
        "The build was stopped because it took too long or said nothing for too long. If it downloads or "
        "compiles much, make it smaller; else try again later."
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
    """Others' text without control characters but line ends and tabs, within a bound."""
    shown = _CONTROL.sub("", str(text)).strip()
    return shown if len(shown) <= length_max else shown[: length_max - 3] + "..."


def sentence(text: object) -> str:
    """Others' text as a sentence of its own."""
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
    """The same in words, within a sentence."""
    s = max(1, round(seconds))
    number, word = (s, "second") if s < 90 else (round(s / 60), "minute") if s < 5400 else (round(s / 3600), "hour")
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def omitted(lines: int) -> str:
    """In place of lines that are missing, in the dispatcher's words."""
    return f"[{lines} lines are left out here]\n"


@dataclass(frozen=True)
class Standing:
    """Where a build stands, as people are told: made once for all who wait."""

    phase: str = "waiting"
    #: Updated in place.
    line: str = ""
    #: Said on a line of its own, when it is another one than before.
    reason: str = ""
    #: The same for reasons that differ only in their numbers.
    reason_key: str = ""
    #: Said once for each value: that the build has started.
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
        reason = text or "The machine that ran this build is gone. Another one takes the build over."
        return Standing(phase="building", reason=f"{reason}\n", reason_key="orphaned")
    note = clean(view.get("note") or "", 200)
    if state == "starting":
        return Standing(line=f"Starting: {note}"[:LINE_MAX] if note else "The build is starting")
    if state == "running":
        return Standing(phase="building", started=started_line(view))
    return Standing(phase="building")


def visitor(view: dict[str, Any]) -> tuple[str, str, int | None]:
    """What a ``state`` event has for people: the stage that the build is in, a sentence, and how many builds of its
    repository stand before it."""
    found = view.get("visitor")
    fields = found if isinstance(found, dict) else {}
    ahead = fields.get("ahead")
    return str(fields.get("stage", "")), clean(fields.get("text") or "", 400), ahead if isinstance(ahead, int) else None


def retried(view: dict[str, Any]) -> str:
    """Said once a run has failed and the build is tried again."""
    stage, text, _ = visitor(view)
    if stage != "retry" or not text:
        attempt = view.get("attempt")
        before = attempt - 1 if isinstance(attempt, int) else 1
        text = f"Attempt {before} failed: {clean(view.get('reason') or 'no reason was given')}"
        text = f"{text.rstrip('.')}. It is tried again."
    return f"[{text}]\n"


def remembered(seconds_ago: float) -> str:
    """Said before the log of a build that failed a while ago and is not tried again yet."""
    return f"This build failed {spoken(seconds_ago)} ago. Its log was:\n"


def started_line(view: dict[str, Any]) -> str:
    """Said when a build runs, or by the time that somebody comes."""
    expected, left = view.get("expected_seconds"), view.get("eta_seconds")
    if not isinstance(expected, (int, float)):
        return "The build has started.\n"
    # What is left shrinks while it runs, and grows beyond what was expected where it is late.
    if not isinstance(left, (int, float)) or abs(expected - left) < 10:
        return f"The build has started; it is expected to take about {span(expected)}.\n"
    rest = f"about {span(left)} more" if left > 0 else "longer than expected"
    return f"The build is under way and takes {rest}. Its log so far:\n"


def place_line(view: dict[str, Any]) -> str:
    """Place in line and expected time, short enough to be updated in place."""
    position, length, eta = view.get("position"), view.get("line"), view.get("eta_seconds")
    people = view.get("people")
    parts = ["Waiting in line"]
    if isinstance(position, int):
        parts = [f"Place {position} of {length} in line" if isinstance(length, int) else f"Place {position} in line"]
    if isinstance(eta, (int, float)):
        parts.append(f"ready in about {span(eta)}")
    if isinstance(people, int) and people > 1:
        parts.append(f"{people} people wait for it")
    return ", ".join(parts)[:LINE_MAX]


def failure(class_word: object, reason: object, log_tail: object = None, seconds_ago: float | None = None) -> str:
    """Why a build failed, with advice. The tail of the log is for those to whom no log was shown; ``seconds_ago`` is
    when it failed, if that was before they asked."""
    said = sentence(reason)
    when = "" if seconds_ago is None else f"This failed {spoken(seconds_ago)} ago. "
    said = said if said.startswith("The build") else f"The build failed: {clean(reason).rstrip('.')}."
    text = f"\n{when}{said}\n"
    if log_tail:
        text = f"\nThe last lines of its log:\n{clean(log_tail, 4 * TEXT_MAX)}\n{text}"
    advice = _ADVICE.get(str(class_word))
    return f"{text}{advice}\n" if advice else text


def cancelled(reason: object) -> str:
    """A build that an operator, or its asker, has ended."""
    text = clean(reason).rstrip(".")
    said = f"The build was {text}." if text.startswith("cancelled") else f"The build was cancelled: {text}."
    return f"\n{said}\nTo have it built all the same, ask again.\n"


def refused(word: str, detail: str, retry_after: float, message: str | None = None) -> str:
    """Why the dispatcher does not take a build. ``message`` is what it says to people itself."""
    when = f"in about {spoken(retry_after)}" if retry_after else "later"
    if word == "banned":
        return f"\n{sentence(message or detail)}\n"
    if word in ("full", "memory"):
        return f"\nThe build queue takes no more builds at the moment. Please try again {when}.\n"
    if word in BUSY:
        return f"\nToo many people ask for builds at the moment. Please try again {when}.\n"
    if word == "conflict":
        return (
            "\nAn image of this name is being built from another repository or another version at the moment. "
            "Please try again in a few minutes.\n"
        )
    if word in _OPERATORS_MATTER:
        return misconfigured()
    if word in ("not-signed-in", "forbidden"):
        return "\nThe build queue does not take requests of this BinderHub. Its operators find the cause in its log.\n"
    return f"\nThe build queue does not take this build. {sentence(detail)}\n"


def away(once_accepted: bool) -> str:
    """The queue did not answer for too long."""
    if once_accepted:
        return (
            "\nThe build queue has not answered for too long, so this page stops waiting. The build itself may go on: "
            "try again in a few minutes.\n"
        )
    return (
        "\nThe build queue does not answer, so nothing can be built at the moment. Please try again in a few minutes.\n"
    )


def unreadable() -> str:
    """The queue's answers make no sense: it is of another release."""
    return (
        "\nThe build queue's answers cannot be read here, so this page stops waiting. The build itself may go on: "
        "try again in a few minutes.\n"
    )


def internal() -> str:
    """A fault of the adapter's."""
    return "\nSomething went wrong while following the build; the log of this BinderHub says what. Please try again.\n"


def misconfigured() -> str:
    """A setting that cannot be used."""
    return "\nThis BinderHub's connection to its build queue is not set up right; its log says what is wrong.\n"


def log_messages(lines: Iterable[Any], phase: str) -> Iterator[tuple[str, str, int]]:
    """Lines of a log as few messages: (message, phase, number of lines). ``phase`` is that of the line before.

    A line that says ``failed`` is shown as any other: whether the build has failed is not for a line to
    say, for it may be tried again.
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
    """A line of repo2docker's: its text, its phase if it names one, and itself if its other fields count."""
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
