"""The Python client of contexts and tasks where its gateway is unkind: a server here that answers from a list."""

from __future__ import annotations

import asyncio
import http.server
import json
import pathlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import harness

sys.path.insert(0, str(harness.ROOT / "sdk" / "python" / "src"))
from forebay import AsyncClient, Client, ForebayError, Retry
from forebay.retry import Pace, retry_after
from forebay.settings import Settings

Answer = tuple[int, dict[str, str], bytes]
QUICK = Retry(attempts=3, first=0.001, longest=2.0)
PROBLEM = {"detail": "There is no such context.", "hint": "Make one.", "code": "unknown_context"}


def told(status: int, body: Any, **headers: str) -> Answer:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode()


class Unkind:
    """Answers each request with the next of a list, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer | None] = []
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.arrived: list[float] = []
        unkind = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                unkind.arrived.append(time.monotonic())
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                headers = {name.lower(): value for name, value in self.headers.items()}
                unkind.asked.append((self.command, self.path, headers, body))
                answer = unkind.answers.pop(0)
                self.close_connection = True
                if answer is None:
                    return
                status, more, content = answer
                self.send_response(status)
                # A stream may say that more is to come than does.
                more = {"content-length": str(len(content)), "connection": "close", **more}
                for name, value in more.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def keys(self) -> list[str | None]:
        return [headers.get("idempotency-key") for _, _, headers, _ in self.asked]


@pytest.fixture
def unkind() -> Iterator[Unkind]:
    server = Unkind()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def client(unkind: Unkind) -> Iterator[Client]:
    with Client(unkind.url, "fb_key", retry=QUICK, timeout=20) as made:
        yield made


def test_a_change_is_sent_again_under_one_key(unkind: Unkind, client: Client) -> None:
    unkind.answers = [None, told(503, PROBLEM), told(201, {"id": "c1", "task_id": "t1"})]
    made = client.contexts.create("m", [{"content": "Be kind.", "role": "system"}], metadata={"a": 1})
    assert made.id == "c1"
    keys = unkind.keys()
    assert len(keys) == 3 and keys[0] and len(set(keys)) == 1
    method, path, headers, body = unkind.asked[0]
    assert (method, path, headers["authorization"]) == ("POST", "/api/v1/mcp/contexts", "Bearer fb_key")
    assert body == {"model_id": "m", "nodes": [{"content": "Be kind.", "role": "system"}], "metadata": {"a": 1}}


def test_it_waits_as_long_as_it_is_told(unkind: Unkind, client: Client) -> None:
    unkind.answers = [told(429, PROBLEM, retry_after="1"), told(200, {"contexts": []})]
    begun = time.monotonic()
    assert client.contexts.list(limit=5).contexts == []
    assert time.monotonic() - begun >= 1
    assert unkind.asked[0][1] == "/api/v1/mcp/contexts?limit=5"


def test_a_full_disk_is_asked_again_when_it_says_so(unkind: Unkind, client: Client) -> None:
    unkind.answers = [told(507, PROBLEM, retry_after="1"), told(202, {"id": "t1", "status": "pending"})]
    begun = time.monotonic()
    assert client.contexts.prompt("c1", "Where?", respond_async=True).id == "t1"
    assert time.monotonic() - begun >= 1 and len(set(unkind.keys())) == 1
    unkind.answers = [told(507, PROBLEM)]
    with pytest.raises(ForebayError) as refused:
        client.contexts.get("c1")
    assert (refused.value.status, len(unkind.asked)) == (507, 3), "and only then"


def test_it_does_not_wait_for_ever(unkind: Unkind, client: Client) -> None:
    unkind.answers = [told(429, PROBLEM, retry_after="3600")]
    with pytest.raises(ForebayError) as refused:
        client.contexts.get("c1")
    assert (refused.value.status, refused.value.code, len(unkind.asked)) == (429, "unknown_context", 1)


def test_the_last_attempt_tells_its_error(unkind: Unkind, client: Client) -> None:
    unkind.answers = [told(503, PROBLEM), (502, {}, b"<html>"), told(503, PROBLEM)]
    with pytest.raises(ForebayError, match=r"There is no such context\. Make one\.") as refused:
        client.contexts.delete("a/b")
    assert refused.value.code == "unknown_context"
    assert [path for _, path, _, _ in unkind.asked] == ["/api/v1/mcp/contexts/a%2Fb"] * 3


def test_what_cannot_be_mended_is_asked_once(unkind: Unkind, client: Client) -> None:
    unkind.answers = [told(404, PROBLEM)]
    with pytest.raises(ForebayError) as refused:
        client.contexts.add_node("c1", "text")
    assert (refused.value.status, len(unkind.asked)) == (404, 1)


def test_nobody_at_the_address(client: Client, unkind: Unkind) -> None:
    unkind.server.shutdown()
    unkind.server.server_close()
    with pytest.raises(ForebayError) as refused:
        client.health()
    assert refused.value.code == "unreachable"
    with pytest.raises(ForebayError) as refused:
        client.get("/healthz")
    assert refused.value.code == "unreachable"


def test_a_task_that_takes_longer_is_waited_for(unkind: Unkind, client: Client) -> None:
    task = {"id": "t1", "status": "running"}
    over = {"id": "t1", "status": "completed", "output": {"context_id": "c1", "node": {"content": "Paris"}}}
    unkind.answers = [told(202, task), told(200, task), told(503, PROBLEM), told(200, over)]
    answer = client.contexts.prompt("c1", "Where?", max_tokens=8)
    assert (answer.node.content, answer.task_id) == ("Paris", "t1")
    assert unkind.asked[1][1] == "/api/v1/mcp/tasks/t1?wait=20s"
    assert unkind.asked[0][3] == {"prompt": "Where?", "max_tokens": 8}


def test_a_task_that_fails_tells_why(unkind: Unkind, client: Client) -> None:
    failed = {
        "id": "t1",
        "status": "dead",
        "error": {"code": "upstream_failed", "message": "It broke.", "hint": "Wait."},
    }
    unkind.answers = [told(202, {"id": "t1", "status": "pending"}), told(200, failed)]
    with pytest.raises(ForebayError, match=r"It broke\. Wait\.") as refused:
        client.contexts.prompt("c1", "Where?")
    assert refused.value.code == "upstream_failed"


def test_a_failure_names_its_task(unkind: Unkind, client: Client) -> None:
    unkind.answers = [told(409, PROBLEM, x_task_id="t1")]
    with pytest.raises(ForebayError) as refused:
        client.contexts.prompt("c1", "Where?")
    assert (refused.value.task_id, unkind.asked[0][2]["prefer"]) == ("t1", "wait=20")
    running = {"id": "t1", "status": "running"}
    unkind.answers = [told(200, running)] * 2
    with pytest.raises(ForebayError, match="running") as unfinished:
        client.tasks.wait("t1", timeout=0)
    assert (unfinished.value.task_id, unfinished.value.code) == ("t1", "timed_out")


def test_what_will_be_made_counts_too(unkind: Unkind) -> None:
    client = Client(unkind.url, "fb_key", settings=Settings.of(unkind.url, "fb_key", max_contexts=1, retry=QUICK))
    begun = {"id": "t1", "type": "mcp.create_context", "status": "pending"}
    unkind.answers = [told(202, begun)]
    client.contexts.create("m", respond_async=True)
    with pytest.raises(ForebayError) as refused:
        client.contexts.create("m")
    assert refused.value.code == "context_limit"
    done = begun | {"status": "completed", "output": {"id": "c1"}}
    unkind.answers = [told(200, done), told(200, {"id": "c1", "deleted": True}), told(202, begun | {"id": "t2"})]
    client.contexts.delete(client.tasks.wait("t1").output.id)
    client.contexts.create("m", respond_async=True)
    unkind.answers = [told(200, begun | {"id": "t2", "status": "failed"}), told(201, {"id": "c2"})]
    client.tasks.get("t2")
    assert client.contexts.create("m").id == "c2", "what failed made none"


def test_answered_later_is_not_waited_for(unkind: Unkind, client: Client) -> None:
    unkind.answers = [told(202, {"id": "t1", "status": "pending"})]
    assert client.contexts.prompt("c1", "Where?", respond_async=True).status == "pending"
    assert unkind.asked[0][2]["prefer"] == "respond-async"
    with pytest.raises(ValueError):
        client.contexts.stream("c1", "Where?", respond_async=True)


STREAM = b'event: delta\ndata: {"content":"Par"}\n\n: still here\n\nevent: delta\ndata: {"content":"is"}\n\n'
NODE = b'event: node\ndata: {"context_id":"c1","node":{"content":"Paris"}}\n\n'
CHAT = b'data: {"choices":[{"index":0,"delta":{"content":"Paris"}}]}\n\ndata: [DONE]\n\n'


def test_a_stream_ends_with_its_node(unkind: Unkind, client: Client) -> None:
    unkind.answers = [(200, {"content-type": "text/event-stream"}, STREAM + NODE)]
    events = list(client.contexts.stream("c1", "Where?"))
    assert [event.event for event in events] == ["delta", "delta", "node"]
    assert "".join(event.content for event in events[:2]) == events[2].node.content == "Paris"
    assert unkind.asked[0][3] == {"prompt": "Where?", "stream": True}


@pytest.mark.parametrize("length", [len(STREAM), len(STREAM) + 100])
def test_a_stream_that_is_cut_is_no_answer(unkind: Unkind, client: Client, length: int) -> None:
    unkind.answers = [(200, {"content-length": str(length)}, STREAM)]
    with pytest.raises(ForebayError) as broken:
        list(client.contexts.stream("c1", "Where?"))
    assert broken.value.code == "upstream_truncated"


def test_a_stream_that_fails_tells_why(unkind: Unkind, client: Client) -> None:
    error = b"event: error\ndata: " + json.dumps(PROBLEM).encode() + b"\n\n"
    unkind.answers = [(200, {}, STREAM + error), told(404, PROBLEM)]
    for _ in range(2):
        with pytest.raises(ForebayError) as refused:
            list(client.contexts.stream("c1", "Where?"))
        assert refused.value.code == "unknown_context"


def test_tasks_are_submitted_listed_and_ended(unkind: Unkind, client: Client) -> None:
    task = {"id": "t1", "status": "pending"}
    unkind.answers = [told(202, task), told(200, {"tasks": [task]}), told(200, task), told(200, task), told(200, task)]
    assert client.tasks.submit("mcp.add_node", {"context_id": "c1"}, priority="high").id == "t1"
    assert client.tasks.list(status="pending", task_type="x").tasks[0].id == "t1"
    client.tasks.get("t1", with_input=True)
    client.tasks.cancel("t1")
    client.tasks.requeue("t1")
    assert [(method, path) for method, path, _, _ in unkind.asked] == [
        ("POST", "/api/v1/mcp/tasks"),
        ("GET", "/api/v1/mcp/tasks?status=pending&type=x"),
        ("GET", "/api/v1/mcp/tasks/t1?input=true"),
        ("POST", "/api/v1/mcp/tasks/t1/cancel"),
        ("POST", "/api/v1/mcp/tasks/t1/requeue"),
    ]


def test_the_same_for_programs_that_await(unkind: Unkind) -> None:
    async def all_of_it() -> None:
        async with AsyncClient(unkind.url, "fb_key", retry=QUICK, timeout=20) as client:
            unkind.answers = [None, told(201, {"id": "c1"}), (200, {}, STREAM + NODE), (200, {}, STREAM)]
            assert (await client.contexts.create("m")).id == "c1"
            assert unkind.keys()[0] == unkind.keys()[1] is not None
            events = [event async for event in client.contexts.stream("c1", "Where?")]
            assert events[-1].node.content == "Paris"
            with pytest.raises(ForebayError) as broken:
                _ = [event async for event in client.contexts.stream("c1", "Where?")]
            assert broken.value.code == "upstream_truncated"
            over = {"id": "t1", "status": "completed", "output": {"deleted": True}}
            unkind.answers = [told(202, {"id": "t1", "status": "running"}), told(200, over), told(404, PROBLEM)]
            assert (await client.contexts.delete("c1")).task_id == "t1"
            with pytest.raises(ForebayError) as refused:
                await client.tasks.get("t2")
            assert refused.value.code == "unknown_context"

    asyncio.run(all_of_it())


def test_programs_that_await_wait_as_long_as_they_are_told(unkind: Unkind) -> None:
    async def both() -> None:
        async with AsyncClient(unkind.url, "fb_key", retry=QUICK, timeout=20) as client:
            for status in (429, 503, 507):
                unkind.answers = [told(status, PROBLEM, retry_after="1"), told(201, {"id": "c1"})]
                unkind.asked.clear()
                begun = time.monotonic()
                assert (await client.contexts.create("m")).id == "c1"
                assert time.monotonic() - begun >= 1, status
                assert len(unkind.keys()) == 2 and len(set(unkind.keys())) == 1, status
            unkind.answers = [told(429, PROBLEM, retry_after="3600")]
            with pytest.raises(ForebayError) as refused:
                await client.contexts.get("c1")
            assert refused.value.status == 429, "it does not wait for ever"

    asyncio.run(both())


def held_back(arrived: list[float], begun: float) -> None:
    """A tenth of what a minute has at once, and one a second from then on."""
    assert len(arrived) == 9
    for place, came in enumerate(sorted(arrived)):
        assert came - begun >= place - 5, (place, came - begun)


def test_a_client_keeps_its_pace(unkind: Unkind) -> None:
    config = {"mcp": {"server_url": unkind.url, "requests_per_minute": 60}}
    listed = told(200, {"contexts": []})
    # One is sent again; streams and whatever has no call of its own count like any other.
    stream, chat = ((200, {"content-type": "text/event-stream"}, sent) for sent in (STREAM + NODE, CHAT))
    unkind.answers = [listed] * 4 + [told(503, PROBLEM), listed, stream, chat, told(200, {})]
    with Client.from_config(config, "fb_key") as client:
        begun = time.monotonic()
        for _ in range(5):
            client.contexts.list()
        assert len(list(client.contexts.stream("c1", "Where?"))) == 3
        words = [{"role": "user", "content": "Where?"}]
        assert len(list(client.chat.completions.create(model="m", messages=words, stream=True))) == 1
        client.get("/health")
    held_back(unkind.arrived, begun)


def test_a_client_for_programs_that_await_keeps_its_pace(unkind: Unkind) -> None:
    async def crowd() -> float:
        stream = (200, {"content-type": "text/event-stream"}, STREAM + NODE)
        unkind.answers = [told(200, {"contexts": []})] * 8 + [stream]
        async with AsyncClient(unkind.url, "fb_key", requests_per_minute=60) as client:

            async def streamed() -> list[Any]:
                return [event async for event in client.contexts.stream("c1", "Where?")]

            begun = time.monotonic()
            *_, events = await asyncio.gather(*(client.contexts.list() for _ in range(8)), streamed())
            assert len(events) == 3
            return begun

    held_back(unkind.arrived, asyncio.run(crowd()))


def test_the_seed_s_file(unkind: Unkind, tmp_path: pathlib.Path) -> None:
    """As it was written down then; only where the gateway is is said differently."""
    seed = (harness.ROOT / "crates" / "cli" / "tests" / "seed" / "contexts.yaml").read_text(encoding="utf-8")
    file = tmp_path / "config.yaml"
    file.write_text(seed.replace("http://localhost:8001", unkind.url), encoding="utf-8")
    expected = Settings(unkind.url, "fb_key", timeout=60, max_contexts=100)
    unkind.answers = [told(200, {"status": "ok"})]
    with Client.from_config(str(file), "fb_key") as client:
        assert client.settings == expected
        assert client.health().status == "ok"
    assert AsyncClient.from_config(file, "fb_key").settings == expected


@pytest.mark.parametrize(
    "text", [None, b"", b"mcp: [", b"- mcp", b"mcp:", b"mcp: here", b"mcp: {server_url: 8}", b"\xff"]
)
def test_a_file_that_is_no_configuration(tmp_path: pathlib.Path, text: bytes | None) -> None:
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_bytes(text)
    with pytest.raises(ForebayError) as refused:
        Client.from_config(file, "fb_key")
    assert refused.value.code == "invalid_config", refused.value


def test_the_seed_s_configuration(unkind: Unkind) -> None:
    section = {"enabled": True, "server_url": unkind.url, "api_version": "v1", "max_contexts": 1, "timeout": "60s"}
    client = Client.from_config({"mcp": section}, "fb_key")
    assert (client.url, client.settings.timeout) == (unkind.url, 60)
    unkind.answers = [told(201, {"id": "c1"}), told(200, {"id": "c1", "deleted": True}), told(201, {"id": "c2"})]
    client.contexts.create("m")
    with pytest.raises(ForebayError) as refused:
        client.contexts.create("m")
    assert refused.value.code == "context_limit"
    client.contexts.delete("c1")
    assert client.contexts.create("m").id == "c2"
    for wrong in (
        {"enabled": False},
        {"api_version": "v2"},
        {"timeout": "soon"},
        {"max_contexts": 0},
        {"maxcontexts": 1},
        {"requests_per_minute": 0},
        {"requests_per_minute": "fast"},
        {"requests_per_minute": True},
    ):
        with pytest.raises(ForebayError) as refused:
            Client.from_config({"mcp": {**section, **wrong}}, "fb_key")
        assert refused.value.code == "invalid_config", wrong


def test_pace_and_pauses() -> None:
    pace = Pace(60)
    assert [pace.wait(0) for _ in range(8)] == [0, 0, 0, 0, 0, 0, 1, 2]
    assert pace.wait(100) == 0
    assert Pace(None).wait(0) == 0
    patient = Retry(attempts=4, first=1, longest=3)
    assert [patient.pause(attempt, None, 1.0) for attempt in (1, 2, 3, 4)] == [1, 2, 3, None]
    assert patient.pause(1, None, 0.25) == 0.25
    assert (patient.pause(1, 2.0, 0.0), patient.pause(1, 4.0, 0.0)) == (2, None)
    assert retry_after("7", 0) == 7
    assert retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 20) == 40
    assert (retry_after("soon", 0), retry_after(None, 0)) == (None, None)
