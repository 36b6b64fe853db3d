"""Those who wait for tasks: while the gateway ends, while its database is away, and while all its places are taken."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import signal
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import harness
import scripted as script
from harness import Gateway, Key
from parts import Database, postgres
from scripted import Scripted
from test_contexts import events, held_midway
from test_tasks import CONTEXTS, TASKS, config, contents, context, done, held, note, shown, submit, tomorrow
from test_worker import secret, store

# What anybody has patience for who is not held up.
SOON_SECONDS = 6
WORKERS = 16


def asked(gateway: Gateway, key: Key, about: str, text: str, **query: Any) -> httpx.Response:
    path = f"{CONTEXTS}/{about}/prompt"
    return gateway.http.post(path, json={"prompt": text}, params=query, headers=key.bearer)


def streamed(gateway: Gateway, key: Key, about: str, begun: threading.Event | None = None) -> list[tuple[str, Any]]:
    """All that a stream tells, by its names."""
    told = []
    body = {"prompt": "a stream", "stream": True}
    with gateway.http.stream("POST", f"{CONTEXTS}/{about}/prompt", json=body, headers=key.bearer) as answer:
        assert answer.status_code == 200
        for event in events(answer):
            told.append(event)
            if begun:
                begun.set()
    return told


def heard(scripted: Scripted, count: int) -> None:
    harness.wait_for(f"{count} questions", lambda: len(scripted.heard) >= count)


def test_a_gateway_that_ends_holds_nobody_up(tmp_path: pathlib.Path, scripted: Scripted) -> None:
    gateway = Gateway(tmp_path / "gateway", config(scripted, server={"drain_seconds": 50}))
    with harness.closing(gateway), concurrent.futures.ThreadPoolExecutor(8) as clients:
        key = gateway.new_key("user")
        busy, told = context(gateway, key), context(gateway, key)
        go, begun = threading.Event(), threading.Event()
        scripted.will(held_midway(go), held(go, "at last"))
        streaming = clients.submit(streamed, gateway, key, told, begun)
        heard(scripted, 1)
        answering = clients.submit(asked, gateway, key, busy, "and you?")
        heard(scripted, 2)
        later = note(gateway, key, busy, "in a day", run_at=tomorrow())["id"]
        watching = clients.submit(shown, gateway, key, later, wait="50s")
        tool = {"name": "get_task", "arguments": {"task_id": later, "wait": "50s"}}
        calling = clients.submit(gateway.rpc, "tools/call", tool, key)
        # It stands behind the other prompt of its context, and so nothing of it runs.
        behind = clients.submit(streamed, gateway, key, busy)
        assert begun.wait(harness.WAIT_SECONDS_MAX)

        def waiting() -> bool:
            listed = gateway.http.get(TASKS, params={"type": "mcp.add_prompt"}, headers=key.bearer).json()["tasks"]
            return len(listed) == 3

        harness.wait_for("the third prompt", waiting)
        since = time.monotonic()
        gateway.child.send_signal(signal.SIGTERM)
        watched, answer, called = (one.result(SOON_SECONDS) for one in (watching, answering, calling))
        left = behind.result(SOON_SECONDS)
        assert time.monotonic() - since < SOON_SECONDS
        assert watched.status_code == 200 and watched.json()["status"] == "scheduled", watched.text
        assert answer.status_code == 202 and answer.json()["status"] == "running", answer.text
        assert answer.headers["x-task-id"] == answer.json()["id"]
        assert called.json()["result"]["structuredContent"]["status"] == "scheduled", called.text
        (last,) = left
        assert last[0] == "error" and last[1]["code"] == "overloaded", left
        unheard = last[1]["details"]["task_id"]
        # What runs here may come to its end, and who hears it hears all of it.
        go.set()
        assert [name for name, _ in streaming.result(harness.WAIT_SECONDS_MAX)][-1] == "node"
        assert gateway.child.wait(harness.WAIT_SECONDS_MAX) == 0
    scripted.will(script.say("after all"))
    with harness.closing(Gateway(tmp_path / "gateway", config(scripted))) as again:
        assert done(again, key, unheard)["status"] == "completed"
        assert contents(again, key, busy) == ["and you?", "at last", "a stream", "after all"]


@pytest.fixture(scope="module")
def working(folder: pathlib.Path, scripted: Scripted) -> Iterator[Gateway]:
    with harness.closing(Gateway(folder / "tasks-waiting", config(scripted))) as started:
        yield started


@pytest.fixture
def ann(working: Gateway) -> Key:
    return working.new_key("user")


@pytest.fixture
def apart(tmp_path: pathlib.Path, scripted: Scripted) -> Iterator[tuple[Gateway, Database]]:
    """A gateway on a database of its own, that can be taken away."""
    with postgres(tmp_path) as (address, _):
        settings = config(scripted, store=store(address))
        # Nothing is lost in the time for which the database is away here.
        settings["tasks"] |= {"lease_s": 600}
        with harness.closing(Gateway(tmp_path / "gateway", settings, **secret(address))) as gateway:
            yield gateway, Database(address)


class Away:
    """The database answers nobody meanwhile."""

    def __init__(self, gateway: Gateway, database: Database) -> None:
        settings = json.loads(gateway.config.read_text(encoding="utf-8"))
        self.gateway, self.database = gateway, database
        self.name = urllib.parse.urlsplit(settings["store"]["url"]).path.removeprefix("/")

    def __enter__(self) -> None:
        # Others connect to another database, and stay.
        self.database.sql(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        self.database.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")
        harness.wait_for("unreadiness", lambda: self.gateway.http.get("/readyz").status_code == 503)

    def __exit__(self, *_: object) -> None:
        self.database.sql(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")
        harness.wait_for("readiness", lambda: self.gateway.http.get("/readyz").status_code == 200)


def test_a_database_that_is_away_for_a_while_fails_no_request_that_waits(
    apart: tuple[Gateway, Database], scripted: Scripted
) -> None:
    gateway, database = apart
    key = gateway.new_key("user")
    patient, hasty, told = (context(gateway, key) for _ in range(3))
    go = threading.Event()
    scripted.will(held(go, "to the patient"), held(go, "to the hasty"), held_midway(go))
    with concurrent.futures.ThreadPoolExecutor(4) as clients:
        waiting = clients.submit(asked, gateway, key, patient, "?")
        heard(scripted, 1)
        leaving = clients.submit(asked, gateway, key, hasty, "?", wait="4s")
        heard(scripted, 2)
        streaming = clients.submit(streamed, gateway, key, told)
        heard(scripted, 3)
        with Away(gateway, database):
            # Its patience ends while nobody can look at the task.
            left = leaving.result(harness.WAIT_SECONDS_MAX)
            assert left.status_code == 202, left.text
            assert left.json()["id"] == left.headers["x-task-id"] and left.json()["type"] == "mcp.add_prompt"
            assert left.headers["location"] == f"{TASKS}/{left.json()['id']}"
            assert not waiting.done() and not streaming.done()
        go.set()
        answer = waiting.result(harness.WAIT_SECONDS_MAX)
        assert answer.status_code == 200 and answer.json()["node"]["content"] == "to the patient", answer.text
        assert answer.headers["x-task-id"] == answer.json()["task_id"]
        assert streaming.result(harness.WAIT_SECONDS_MAX)[-1][0] == "node"
    ended = done(gateway, key, left.json()["id"])
    assert (ended["status"], ended["attempts"]) == ("completed", 1)
    assert len(scripted.heard) == 3, "nobody asked twice"


def test_a_failure_says_which_task_it_was(working: Gateway, ann: Key, scripted: Scripted) -> None:
    about = context(working, ann)
    scripted.will(script.refuse(400))
    refused = asked(working, ann, about, "?")
    assert refused.status_code == 400, refused.text
    task = refused.headers["x-task-id"]
    assert refused.json()["details"]["task_id"] == task
    assert shown(working, ann, task).json()["error"]["code"] == refused.json()["code"]


def test_tools_that_wait_do_not_wait_inside_a_task(working: Gateway, ann: Key) -> None:
    later = note(working, ann, context(working, ann), "in a day", run_at=tomorrow())["id"]
    look = {"name": "get_task", "arguments": {"task_id": later, "wait": "5m"}}
    tasks = [submit(working, ann, "tools/call", look)["id"] for _ in range(WORKERS)]
    make = submit(working, ann, "tools/call", {"name": "create_context", "arguments": {"model_id": "scripted"}})["id"]
    for task in tasks:
        ended = done(working, ann, task)
        assert ended["output"]["structuredContent"]["status"] == "scheduled", ended
    made = done(working, ann, make)["output"]["structuredContent"]
    assert made["task"]["status"] == "pending", "the task at once, and not what comes of it"
    assert done(working, ann, made["task_id"])["status"] == "completed"


def test_what_waits_for_a_model_leaves_places_to_what_does_not(tmp_path: pathlib.Path, scripted: Scripted) -> None:
    with harness.closing(Gateway(tmp_path / "gateway", config(scripted))) as gateway:
        key, go = gateway.new_key("user"), threading.Event()
        wait_and_say = held(go, "done")
        scripted.will(*[wait_and_say] * (2 * WORKERS))
        about = [context(gateway, key) for _ in range(WORKERS)]
        tasks = []
        for each in about:
            response = {"model": "scripted", "input": "?", "background": True}
            queued = gateway.http.post("/v1/responses", json=response, headers=key.bearer)
            assert queued.status_code == 200, queued.text
            tasks.append(submit(gateway, key, "mcp.add_prompt", {"context_id": each, "prompt": "?"})["id"])
        heard(scripted, WORKERS * 3 // 4)
        since = time.monotonic()
        try:
            for _ in range(3):
                context(gateway, key)
            assert time.monotonic() - since < SOON_SECONDS
            assert len(scripted.heard) == WORKERS * 3 // 4, "and no more of them were begun"
        finally:
            go.set()
        for task in tasks:
            assert done(gateway, key, task)["status"] == "completed"
