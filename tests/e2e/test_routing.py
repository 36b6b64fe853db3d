"""Two real engines behind one model: both are used, and one alone is enough."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import harness
import scripted as script
from harness import EMBEDDINGS, MODEL, Engine, Gateway, Key
from parts import Embeddings, cosine
from scripted import Scripted

LONG = {"max_tokens": 900, "stream": True, "ignore_eos": True}


@dataclasses.dataclass
class Pair:
    """A model with two engines, which the test may kill."""

    engines: list[Engine]
    gateway: Gateway
    key: Key

    def chat(self, **more: Any) -> httpx.Response:
        return self.gateway.chat(harness.chat_body(max_tokens=12) | more, self.key.bearer)


@pytest.fixture
def pair(tmp_path: pathlib.Path, start: Callable[..., Gateway]) -> Iterator[Pair]:
    engines = [Engine(tmp_path), Engine(tmp_path)]
    backends = [{"url": engine.url, "model": MODEL, "engine": "llamacpp"} for engine in engines]
    gateway = start({"models": {MODEL: {"backends": backends}}, "limits": {"requests_per_minute": 1_000_000}})
    yield Pair(engines, gateway, gateway.new_key("user"))
    for engine in engines:
        engine.kill()


def counted(engine: Engine, what: str) -> int:
    """A figure of this engine's own."""
    told = httpx.get(engine.url.removesuffix("/v1") + "/metrics", trust_env=False, timeout=harness.WAIT_SECONDS_MAX)
    return int(float(re.search(rf"^llamacpp:{what} (\S+)", told.text, re.MULTILINE)[1]))


def generated(engine: Engine) -> int:
    """The tokens that this engine made so far."""
    return counted(engine, "tokens_predicted_total")


def ask_at_once(pair: Pair, number: int) -> list[httpx.Response]:
    """Different questions, so that no prompt cache makes one engine better for them than the other."""
    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        bodies = [{"messages": [{"role": "user", "content": f"{n}: what is {n} and {n}?"}]} for n in range(number)]
        return list(pool.map(lambda body: pair.chat(**body), bodies))


def test_the_load_is_shared(pair: Pair) -> None:
    answers = ask_at_once(pair, 8)
    assert [answer.status_code for answer in answers] == [200] * 8
    assert all(generated(engine) > 0 for engine in pair.engines)


def test_streams_are_shared_too(pair: Pair) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        bodies = [{"messages": [{"role": "user", "content": f"{n}: count to {n}."}], "stream": True} for n in range(8)]
        answers = list(pool.map(lambda body: pair.chat(**body), bodies))
    assert [answer.text.count("data: [DONE]") for answer in answers] == [1] * 8
    assert all(generated(engine) > 0 for engine in pair.engines)


def test_embeddings_come_from_either_engine_and_one_is_enough(
    tmp_path: pathlib.Path, start: Callable[..., Gateway], embeddings: Embeddings
) -> None:
    second = Embeddings(tmp_path)
    try:
        engines = [embeddings, second]
        backends = [{"url": engine.url, "engine": "llamacpp"} for engine in engines]
        gateway = start({"models": {EMBEDDINGS: {"backends": backends}}, "limits": {"requests_per_minute": 1_000_000}})
        text = "a gate in a wall"
        [wanted] = embeddings.of(text)
        before = [counted(engine, "prompt_tokens_total") for engine in engines]

        def asked() -> list[bool]:
            body = {"model": EMBEDDINGS, "input": text}
            answer = gateway.http.post("/v1/embeddings", json=body, headers=gateway.admin.bearer)
            assert answer.status_code == 200, answer.text
            [row] = answer.json()["data"]
            assert cosine(row["embedding"], wanted) > 0.999
            now = [counted(engine, "prompt_tokens_total") for engine in engines if engine.child.poll() is None]
            return [after > first for after, first in zip(now, before, strict=False)]

        harness.wait_for("both engines at work", lambda: asked() == [True, True])
        second.kill()
        assert [asked() for _ in range(6)] == [[True]] * 6
    finally:
        second.kill()


def test_what_begins_alike_goes_to_the_engine_that_has_read_it(pair: Pair) -> None:
    for turn in range(4):
        told = [{"role": "system", "content": harness.SYSTEM}, {"role": "user", "content": harness.QUESTION}]
        further = [{"role": "assistant", "content": "Paris."}, {"role": "user", "content": f"And again, {turn}?"}]
        assert pair.chat(messages=told + further * turn).status_code == 200
    assert sorted(generated(engine) > 0 for engine in pair.engines) == [False, True]


def test_an_engine_that_dies_is_not_missed(pair: Pair) -> None:
    pair.engines[0].kill()
    assert [answer.status_code for answer in ask_at_once(pair, 6)] == [200] * 6


def test_one_is_killed_in_mid_stream_and_the_other_serves_on(pair: Pair) -> None:
    """What began cannot be taken back, and says that it broke; whoever comes next does not notice."""
    body = harness.chat_body(**LONG)
    with pair.gateway.http.stream("POST", "/v1/chat/completions", json=body, headers=pair.key.bearer) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if line.startswith("data: "))
        busy = harness.wait_for("an engine at work", lambda: next((e for e in pair.engines if at_work(e)), None))
        busy.kill()
        rest = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    assert json.loads(rest[-1])["error"]["forebay_code"] in {"upstream_truncated", "upstream_failed"}, rest[-1]
    assert "[DONE]" not in rest
    assert [answer.status_code for answer in ask_at_once(pair, 4)] == [200] * 4
    [other] = [engine for engine in pair.engines if engine is not busy]
    assert generated(other) > 0


def test_one_is_killed_over_a_whole_answer_and_nobody_notices(pair: Pair) -> None:
    """Nothing of it had gone out, so the other engine is asked."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(pair.chat, max_tokens=200, ignore_eos=True)
        busy = harness.wait_for("an engine at work", lambda: next((e for e in pair.engines if at_work(e)), None))
        busy.kill()
        answer = asked.result()
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 200
    [other] = [engine for engine in pair.engines if engine is not busy]
    assert generated(other) >= 200


def at_work(engine: Engine) -> bool:
    told = httpx.get(engine.url.removesuffix("/v1") + "/slots", trust_env=False, timeout=harness.WAIT_SECONDS_MAX)
    return any(slot["is_processing"] for slot in told.json())


@pytest.fixture
def second() -> Iterator[Scripted]:
    with harness.closing(Scripted()) as backend:
        yield backend


def scripted_pair(*backends: Scripted, **more: Any) -> dict[str, Any]:
    told = [{"url": backend.url, "model": "by-script"} for backend in backends]
    return {"models": {"scripted": {"backends": told, "timeouts": {"begin_s": 5}} | more}}


@pytest.mark.parametrize(
    "fault",
    [
        script.refuse(503),
        script.refuse(500),
        script.refuse(429, **{"Retry-After": "1"}),
        script.truncated,
        script.cut_short,
        script.error_inside,
    ],
    ids=["503", "500", "429", "truncated", "cut-short", "error-inside"],
)
def test_before_the_first_byte_another_is_asked(
    start: Callable[..., Gateway], scripted: Scripted, second: Scripted, fault: script.Reply
) -> None:
    scripted.will(*[fault] * 20)
    second.will(*[script.say("served")] * 20)
    gateway = start(scripted_pair(scripted, second))
    for _ in range(6):
        answer = gateway.chat(harness.chat_body("scripted"), gateway.admin.bearer)
        assert answer.status_code == 200 and "served" in answer.text, answer.text
    assert len(second.heard) == 6, "each question was answered once"


def test_after_the_first_byte_nobody_else_is_asked(
    start: Callable[..., Gateway], scripted: Scripted, second: Scripted
) -> None:
    scripted.will(script.dies(3))
    second.will(script.dies(3))
    gateway = start(scripted_pair(scripted, second))
    answer = gateway.chat(harness.chat_body("scripted", stream=True), gateway.admin.bearer)
    assert '"error"' in answer.text and "[DONE]" not in answer.text
    assert len(scripted.heard) + len(second.heard) == 1


def test_a_question_that_is_wrong_is_not_asked_twice(
    start: Callable[..., Gateway], scripted: Scripted, second: Scripted
) -> None:
    for backend in (scripted, second):
        backend.will(script.refuse(400, "temperature is out of range"))
    gateway = start(scripted_pair(scripted, second))
    answer = gateway.chat(harness.chat_body("scripted"), gateway.admin.bearer)
    assert answer.status_code == 400 and "temperature is out of range" in answer.text
    assert len(scripted.heard) + len(second.heard) == 1


def test_another_model_serves_where_one_cannot(
    start: Callable[..., Gateway], scripted: Scripted, second: Scripted
) -> None:
    scripted.will(*[script.refuse(503)] * 20)
    second.will(script.say("the other"))
    config = scripted_pair(scripted, fallbacks=["spare"])
    config["models"]["spare"] = {"backends": [{"url": second.url, "model": "by-script"}]}
    gateway = start(config)
    answer = gateway.chat(harness.chat_body("scripted"), gateway.admin.bearer)
    assert answer.status_code == 200 and "the other" in answer.text, answer.text


def test_the_command_line_says_why(start: Callable[..., Gateway], scripted: Scripted) -> None:
    scripted.will()
    dead = {"url": f"http://127.0.0.1:{harness.free_port()}/v1", "model": "by-script"}
    config = scripted_pair(scripted, affinity=False)
    config["models"]["scripted"]["backends"].append(dead)
    gateway = start(config)

    def explained() -> dict[str, Any]:
        told = gateway.cli("explain", "route", "scripted", "-o", "json")
        assert told.returncode == 0, told.stderr
        [step] = json.loads(told.stdout)["steps"]
        return step

    def out() -> dict[str, Any] | None:
        assert gateway.chat(harness.chat_body("scripted"), gateway.admin.bearer).status_code == 200
        step = explained()
        return step if step["backends"][1]["state"] in {"ejected", "unhealthy"} else None

    step = harness.wait_for("the dead one to be found out", out)
    lives, died = step["backends"]
    assert (lives["url"], died["url"]) == (scripted.url, dead["url"])
    assert step["chosen"] == 0 and lives["reason"].startswith("chosen"), step
    assert "failed several times" in died["reason"] or "cannot be reached" in died["reason"], step
    table = gateway.cli("explain", "route", "scripted")
    assert "takes it" in table.stdout and dead["url"] in table.stdout, table.stdout
    of_a_user = gateway.cli("explain", "route", "scripted", "-o", "json", key=gateway.new_key("user").key)
    assert of_a_user.returncode == 0 and "127.0.0.1" not in of_a_user.stdout, "addresses are the operator's own"
