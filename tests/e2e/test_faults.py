"""A backend that breaks in every way a real one does: the client is told, and nothing runs on for nobody."""

from __future__ import annotations

import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

import harness
import scripted as script
from harness import Gateway, Key
from scripted import Reply, Scripted

GONE_SECONDS_MAX = 1.0


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory, scripted: Scripted) -> Iterator[Gateway]:
    """A gateway with the scripted backend as its only one, and little patience."""
    backend = {"url": scripted.url, "model": "scripted"}
    timeouts = {"begin_s": 5, "idle_s": 3, "total_s": 6}
    models = {"scripted": {"backends": [backend], "timeouts": timeouts}}
    limits = {"requests_per_minute": 1_000_000}
    with harness.closing(Gateway(tmp_path_factory.mktemp("faults"), {"models": models, "limits": limits})) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def asker(before: Gateway) -> Key:
    return before.new_key("user")


def ask(gateway: Gateway, key: Key, **more: Any) -> httpx.Response:
    return gateway.chat(harness.chat_body("scripted", **more), key.bearer)


def data(answer: httpx.Response) -> list[str]:
    """What a streamed answer says, event by event, as its bytes are."""
    return [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]


def expect_failure(error: dict[str, Any], *codes: str) -> None:
    assert error["forebay_code"] in codes, error
    harness.expect_plain_words(json.dumps(error))


WHOLE_FAULTS = {
    "truncated": script.truncated,
    "cut-short": script.cut_short,
    "error-inside": script.error_inside,
    "refused": script.refuse(500),
}


@pytest.mark.parametrize("fault", WHOLE_FAULTS.values(), ids=WHOLE_FAULTS)
def test_a_whole_answer_that_is_none_is_an_error(before: Gateway, asker: Key, scripted: Scripted, fault: Reply) -> None:
    scripted.will(fault)
    answer = ask(before, asker)
    assert answer.status_code in {500, 502}, answer.text
    expect_failure(answer.json()["error"], "upstream_failed", "upstream_truncated")
    assert len(scripted.heard) == 1, "with one backend there is nobody else to ask"


STREAM_FAULTS = {
    "truncated": script.truncated,
    "dies-at-once": script.dies(1),
    "dies": script.dies(3),
    "error-inside": script.error_inside,
}


@pytest.mark.parametrize("fault", STREAM_FAULTS.values(), ids=STREAM_FAULTS)
def test_a_stream_that_broke_never_looks_complete(
    before: Gateway, asker: Key, scripted: Scripted, fault: Reply
) -> None:
    scripted.will(fault)
    answer = ask(before, asker, stream=True)
    assert answer.status_code == 200, answer.text
    told = data(answer)
    assert "[DONE]" not in told, told
    events = [json.loads(text) for text in told]
    assert "error" in events[-1], told
    finished = [choice for event in events for choice in event.get("choices", []) if choice["finish_reason"]]
    assert not finished, told


def test_openais_own_client_raises_when_a_stream_breaks(before: Gateway, asker: Key, scripted: Scripted) -> None:
    scripted.will(script.dies(3))
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{before.url}/v1", api_key=asker.key, max_retries=0, http_client=http) as client:
        stream = client.chat.completions.create(**harness.chat_body("scripted", stream=True))
        with pytest.raises(openai.APIError):
            list(stream)


def test_events_that_come_in_parts_and_slowly_arrive_whole(before: Gateway, asker: Key, scripted: Scripted) -> None:
    scripted.will(script.trickles(0.2, times=5))
    answer = ask(before, asker, stream=True)
    told = data(answer)
    assert told[-1] == "[DONE]", told
    choices = [choice for text in told[:-1] for choice in json.loads(text)["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "xxxxx"


def test_words_without_end_are_ended(before: Gateway, asker: Key, scripted: Scripted) -> None:
    scripted.will(script.endless)
    began = time.monotonic()
    answer = ask(before, asker, stream=True)
    assert time.monotonic() - began < 30, "the time for the whole answer is a few seconds here"
    told = data(answer)
    expect_failure(json.loads(told[-1])["error"], "upstream_timed_out")
    assert scripted.gone.get(timeout=10), "and the backend is not left talking"


def test_a_silence_in_mid_stream_is_a_timeout(before: Gateway, asker: Key, scripted: Scripted) -> None:
    def falls_silent(wire: script.Wire) -> None:
        wire.begin()
        wire.event(next(script.Message("begun").chunks("scripted")))
        script.silent(wire)

    scripted.will(falls_silent)
    told = data(ask(before, asker, stream=True))
    expect_failure(json.loads(told[-1])["error"], "upstream_timed_out")


@pytest.mark.parametrize("reply", [script.endless, script.trickles(0.5, times=100)], ids=["endless", "trickling"])
def test_a_client_that_leaves_in_mid_stream_is_noticed_upstream_at_once(
    before: Gateway, asker: Key, scripted: Scripted, reply: Reply
) -> None:
    scripted.will(reply)
    body = harness.chat_body("scripted", stream=True)
    with before.http.stream("POST", "/v1/chat/completions", json=body, headers=asker.bearer) as answer:
        next(answer.iter_lines())
    left = time.monotonic()
    assert scripted.gone.get(timeout=30) - left <= GONE_SECONDS_MAX


def test_a_client_that_leaves_before_the_first_word_is_noticed_upstream_at_once(
    before: Gateway, asker: Key, scripted: Scripted
) -> None:
    scripted.will(script.silent)
    with pytest.raises(httpx.ReadTimeout):
        body = harness.chat_body("scripted", stream=True)
        before.http.post("/v1/chat/completions", json=body, headers=asker.bearer, timeout=1.0)
    left = time.monotonic()
    assert scripted.gone.get(timeout=30) - left <= GONE_SECONDS_MAX


def test_a_gateway_that_saw_all_of_this_still_answers(before: Gateway, asker: Key, scripted: Scripted) -> None:
    scripted.will()
    answer = ask(before, asker)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == script.GREETING


@pytest.fixture
def corpse(tmp_path: pathlib.Path, start: Callable[..., Gateway]) -> Gateway:
    """A gateway whose backend is not there at all."""
    backend = {"url": f"http://127.0.0.1:{harness.free_port()}/v1"}
    return start({"models": {"scripted": {"backends": [backend]}}})


def test_a_backend_that_is_not_there_is_said_in_plain_words(corpse: Gateway) -> None:
    answer = ask(corpse, corpse.admin)
    assert answer.status_code == 502, answer.text
    expect_failure(answer.json()["error"], "upstream_failed")
