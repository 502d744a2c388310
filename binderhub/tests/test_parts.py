"""Parts that can be tested without a queue."""

import json

import pytest
from traitlets import TraitError
from traitlets.config import Config

from fairlane_binderhub import FairlaneBuildExecutor, messages
from fairlane_binderhub.errors import Nonsense
from fairlane_binderhub.executor import arguments, repository
from fairlane_binderhub.sse import EVENT_BYTES_MAX, Event, Parser
from fairlane_binderhub.transcript import Transcript

SWHID = "swh:1:rev:94a9ed024d3859793618152ea559a168bbcbb5e2;origin=https://github.com/o/n"


def test_events_are_cut_wherever_the_bytes_are():
    text = ': hello\n\nid: 1:0-1:2\r\nevent: log\r\ndata: {"a": "ä"}\r\n\r\ndata: x\ndata: y\n\nid: 3\n\n'.encode()
    whole = Parser().feed(text)
    assert whole == [Event("1:0-1:2", "log", '{"a": "ä"}'), Event("", "message", "x\ny")]
    for size in range(1, 9):
        parser = Parser()
        assert [e for i in range(0, len(text), size) for e in parser.feed(text[i : i + size])] == whole
    parser = Parser()
    with pytest.raises(Nonsense):
        for _ in range(EVENT_BYTES_MAX // 10_000 + 2):
            parser.feed(b"data: " + b"x" * 10_000 + b"\n")


def read_all(transcript, place=0, seen=0):
    out = []
    while (found := transcript.at(place)) is not None:
        passage, place = found
        if passage.first_line > seen:
            out.append(f"[{passage.first_line - seen}]")
        seen = passage.first_line + passage.lines
        out.append(passage.payload)
    return out


def test_a_transcript_keeps_beginning_and_end():
    transcript = Transcript(12)
    for number in range(20):
        transcript.append("building", f"{number:02}", 1)
    assert read_all(transcript) == ["00", "01", "02", "[14]", "17", "18", "19"]
    # Somebody who has already read further sees no gap where nothing is missing.
    assert read_all(transcript, 18, 18) == ["18", "19"]
    assert read_all(transcript, 10, 10) == ["[7]", "17", "18", "19"]
    transcript.append("building", "x" * 100, 1)
    assert read_all(transcript)[-2:] == ["[17]", "x" * 100]


def test_lines_of_repo2docker_become_few_messages():
    lines = [
        '{"message": "Cloning\\n", "phase": "fetching"}',
        '{"message": "Picked provider\\n"}',
        '{"message": "Step 1\\n", "phase": "building"}',
        "plain",
        '{"message": "The push refers to repository [r/i]\\n", "phase": "building"}',
        '{"message": "0123: Pushed\\n", "phase": "pushing", "progress": {"0123": 5}}',
        '{"message": "oh no\\n", "phase": "failed", "exc_info": "Traceback ..."}',
        '{"message": 5}',
        "[1]",
    ]
    found = list(messages.log_messages([{"t": "", "text": line} for line in lines], "building"))
    assert [(json.loads(m)["phase"], json.loads(m)["message"], n) for m, _, n in found] == [
        ("fetching", "Cloning\nPicked provider\n", 2),
        ("building", "Step 1\nplain\n", 2),
        ("pushing", "The push refers to repository [r/i]\n", 1),
        ("pushing", "0123: Pushed\n", 1),
        ("pushing", 'oh no\n{"message": 5}\n[1]\n', 3),
    ]
    assert json.loads(found[3][0])["progress"] == {"0123": 5}


def waiting(stage, text, ahead=None, **more):
    return {"state": "queued", "visitor": {"stage": stage, "text": text, "ahead": ahead}, **more}


def test_places_and_reasons_are_short_and_plain():
    view = waiting("line", "2 builds are ahead of yours.", position=3, line=12, eta_seconds=240, people=60)
    stands = messages.standing(view)
    assert stands.line == "Position 3 of 12 in line, ready in about 4 min, 60 people waiting" and not stands.reason
    reasons = [messages.standing(waiting("lane", f"Another version. {n} more.", n)) for n in (3, 2, 1, 0)]
    assert len({each.reason_key for each in reasons}) == 2, "said once, and once more when it is next"
    held = [messages.standing(waiting("held", f"on hold for {n} minutes: be patient")) for n in (3, 2)]
    assert held[0].reason != held[1].reason and held[0].reason_key == held[1].reason_key
    # The exact reason is for operators. An older dispatcher gives no other, so people see none.
    assert not messages.standing({"state": "queued", "why": "waiting for a permit of a/b"}).reason
    assert messages.standing({}).phase == "building" and messages.span(7300) == "2 h 1 min"
    assert len(messages.place_line({"position": 10**9, "line": 10**9, "people": 10**9, "eta_seconds": 10**9})) <= 78


def test_a_build_that_takes_longer_than_expected_has_not_just_started():
    told = messages.started_line({"expected_seconds": 180, "eta_seconds": 600})
    assert told == "The build is running and needs about 10 min more. Its log so far:\n"
    assert "has started" in messages.started_line({"expected_seconds": 180, "eta_seconds": 185})


def test_no_limit_is_told_in_the_words_of_operators():
    words = [*messages.BUSY, "full", "memory", "conflict", "no-seal-key", "forbidden", "not-signed-in"]
    for word in words:
        told = messages.refused(word, "The token 'hub' may make 6 requests in 10m as build 0198c9e4-7c1f", 95.0)
        assert "token" not in told and "0198" not in told and "6 requests" not in told
    assert "in about 2 minutes" in messages.refused("token-limit", "", 95.0)
    assert messages.refused("banned", "no (rule a/b)", 0, "write to ops@example.org") == "\nWrite to ops@example.org.\n"


async def test_settings_of_kubernetes_build_executor_go_on_to_hold():
    config = Config()
    config.KubernetesBuildExecutor.push_secret = "other-secret"
    config.KubernetesBuildExecutor.appendix = "RUN true"
    config.KubernetesBuildExecutor.build_image = "repo2docker:2026"
    config.KubernetesBuildExecutor.namespace = "builds"
    config.KubernetesBuildExecutor.repo2docker_extra_args.append("--label=a=b")
    executor = FairlaneBuildExecutor(config=config)
    assert (executor.push_secret, executor.appendix) == ("other-secret", "RUN true")
    assert executor.builder_info == {"build_image": "repo2docker:2026"}
    assert executor.repo2docker_extra_args == ["--label=a=b"]
    assert executor.namespace == "builds"
    config.FairlaneBuildExecutor.push_secret = ""
    assert FairlaneBuildExecutor(config=config).push_secret == ""
    assert FairlaneBuildExecutor().push_secret == "binder-build-docker-config"


async def test_only_what_a_worker_does_not_set_is_sent():
    executor = FairlaneBuildExecutor(
        ref="1", image_name="i", appendix="RUN a\nRUN b", repo2docker_extra_args=["--subdir", "a"]
    )
    assert executor._body()["repo2docker_args"] == ["--appendix=RUN a\nRUN b", "--subdir=a"]
    assert executor._body()["push"] is True
    executor.push_secret = ""
    assert executor._body()["push"] is False
    assert arguments(["--ref=a", "--image", "b", "--push", "--label", "a=b", "--flag"]) == ["--label=a=b", "--flag"]


@pytest.mark.parametrize(
    ("url", "sent", "credentials"),
    [
        ("https://github.com/o/n", "https://github.com/o/n", ""),
        ("git@github.com:o/n.git", "ssh://git@github.com/o/n.git", ""),
        ("10.5281/zenodo.3242074", "10.5281/zenodo.3242074", ""),
        (SWHID, SWHID, ""),
        ("https://oauth2:p%40ss@h:8443/o/n?a=b", "https://h:8443/o/n?a=b", "username=oauth2\npassword=p@ss"),
        ("https://token@git.example.org/o/n", "https://git.example.org/o/n", "username=token\npassword="),
        ("https://u:a%0Ahost=evil@h/o/n", "https://h/o/n", "username=u\npassword=a%0Ahost=evil"),
        ("https://u:p@ss@h/o/n", "https://h/o/n", "username=u\npassword=p@ss"),
        ("ssh://git:pw@h/o/n", "ssh://git@h/o/n", ""),
        ("https://git.example.org/münchen/übung 1", "https://git.example.org/m%C3%BCnchen/%C3%BCbung%201", ""),
        ("https://git.example.org/m%C3%BCnchen/[x]", "https://git.example.org/m%C3%BCnchen/%5Bx%5D", ""),
        ("https://bücher.example.org/o/n", "https://xn--bcher-kva.example.org/o/n", ""),
    ],
)
def test_repositories_as_dispatchers_take_them(url, sent, credentials):
    assert repository(url) == (sent, credentials)


async def test_an_address_that_is_named_twice_is_one():
    urls = ["http://a:1", "http://a:1/", " http://b:1"]
    assert FairlaneBuildExecutor(dispatcher_urls=urls).dispatcher_urls == ["http://a:1", "http://b:1"]


@pytest.mark.parametrize(
    "settings",
    [
        {"dispatcher_urls": []},
        {"dispatcher_urls": ["fairlane:8600"]},
        {"dispatcher_urls": ["http://user:hunter2@fairlane"]},
        {"dispatcher_urls": ["http://fairlane/?a=b"]},
        {"priority": "urgent"},
        {"keepalive": 60.0},
        {"log_bytes_max": 0},
        {"submit_timeout": -1.0},
    ],
)
async def test_bad_settings_are_refused_when_binderhub_starts(settings):
    config = Config()
    config.FairlaneBuildExecutor.update(settings)
    with pytest.raises(TraitError) as refused:
        FairlaneBuildExecutor(config=config)
    assert "hunter2" not in str(refused.value)
