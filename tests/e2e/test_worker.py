"""`forebay worker` beside a gateway, on PostgreSQL: it does the gateway's tasks, is killed, drained, and cut off."""

from __future__ import annotations

import contextlib
import json
import pathlib
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import harness
import scripted as script
from harness import BINARY, Gateway, Key, Process
from parts import Database, postgres
from scripted import Scripted
from test_contexts import events
from test_tasks import CONTEXTS, config, contents, context, done, held, note, shown, submit

# Enough that a worker which took them by chance would be seen.
STREAMS = 8


def store(address: str) -> dict[str, Any]:
    url = urllib.parse.urlsplit(address)
    shown_url = url._replace(netloc=f"{url.username}@{url.hostname}:{url.port}").geturl()
    return {"url": shown_url, "password": {"env": "STORE_PASSWORD"}}


def address_of(database: Database) -> str:
    return database.cluster._replace(path=f"/{database.name}").geturl()


def secret(address: str) -> dict[str, str]:
    return {"STORE_PASSWORD": urllib.parse.urlsplit(address).password or ""}


class Worker(Process):
    def __init__(self, gateway: Gateway, folder: pathlib.Path, *options: str, **env: str) -> None:
        folder.mkdir(parents=True)
        self.port = harness.free_port()
        metrics = ["--metrics", f"127.0.0.1:{self.port}"]
        command = [str(BINARY), "worker", "--config", str(gateway.config), "--data", str(folder / "data")]
        super().__init__("worker", [*command, *metrics, *options], folder / "worker.log", harness.clean_env(**env))
        self.wait_until_ready(f"http://127.0.0.1:{self.port}/metrics")


@pytest.fixture
def pair(
    tmp_path: pathlib.Path, database: Database, scripted: Scripted
) -> Iterator[tuple[Gateway, Callable[..., Worker]]]:
    """A gateway that leaves all tasks to others, and a way to start those."""
    address = address_of(database)
    settings = config(scripted, store=store(address))
    settings["tasks"] |= {"workers": 0}
    started: list[Worker] = []
    gateway = Gateway(tmp_path / "gateway", settings, **secret(address))

    def start(*options: str) -> Worker:
        started.append(Worker(gateway, tmp_path / f"worker-{len(started)}", *options, **secret(address)))
        return started[-1]

    with harness.closing(gateway):
        yield gateway, start
        for worker in started:
            worker.kill()


def test_a_worker_does_what_the_gateway_leaves_to_it(pair: tuple[Gateway, Callable[..., Worker]]) -> None:
    gateway, start = pair
    key = gateway.new_key("user")
    made = submit(gateway, key, "mcp.create_context", {"model_id": "scripted"})["id"]
    assert shown(gateway, key, made, wait="1s").json()["status"] == "pending", "nobody works yet"
    worker = start()
    about = done(gateway, key, made)["output"]["id"]
    task = note(gateway, key, about, "from afar")["id"]
    assert done(gateway, key, task)["status"] == "completed"
    assert contents(gateway, key, about) == ["from afar"]
    assert not (worker.log_path.parent / "data" / "admin.key").exists(), "the key stands where the gateway is"
    assert worker.terminate() == 0
    harness.expect_plain_words(worker.log)


def test_a_killed_workers_task_is_done_by_another_once_in_effect(
    pair: tuple[Gateway, Callable[..., Worker]], scripted: Scripted
) -> None:
    gateway, start = pair
    doomed = start()
    key = gateway.new_key("user")
    about, go = context(gateway, key), threading.Event()
    scripted.will(held(go, "lost with its reader"), script.say("from the other"))
    before = len(scripted.heard)
    asked = submit(gateway, key, "mcp.add_prompt", {"context_id": about, "prompt": "anybody?"})["id"]
    harness.wait_for("the model to be asked", lambda: len(scripted.heard) > before)
    doomed.kill()
    go.set()
    start()
    ended = done(gateway, key, asked)
    assert (ended["status"], ended["attempts"]) == ("completed", 2)
    assert contents(gateway, key, about) == ["anybody?", "from the other"]


def test_a_worker_that_is_asked_to_go_gives_back_what_it_cannot_finish(
    pair: tuple[Gateway, Callable[..., Worker]], scripted: Scripted
) -> None:
    gateway, start = pair
    settings = json.loads(gateway.config.read_text(encoding="utf-8"))
    settings["server"] = {"drain_seconds": 3}
    # Far longer than the test: what was not given back would wait for it.
    settings["tasks"] |= {"lease_s": 600}
    gateway.config.write_text(json.dumps(settings), encoding="utf-8")
    leaving = start()
    key = gateway.new_key("user")
    about, go = context(gateway, key), threading.Event()
    scripted.will(held(go, "lost with its reader"), script.say("from the other"))
    before = len(scripted.heard)
    asked = submit(gateway, key, "mcp.add_prompt", {"context_id": about, "prompt": "anybody?"})["id"]
    harness.wait_for("the model to be asked", lambda: len(scripted.heard) > before)
    assert leaving.terminate() == 0
    go.set()
    assert shown(gateway, key, asked).json()["status"] == "pending"
    start()
    assert done(gateway, key, asked)["status"] == "completed"


def streamed(gateway: Gateway, key: Key, about: str) -> tuple[list[tuple[str, Any]], str]:
    """All that the stream of a prompt tells, by its names, and its task."""
    body = {"prompt": "count", "stream": True}
    with gateway.http.stream("POST", f"{CONTEXTS}/{about}/prompt", json=body, headers=key.bearer) as answer:
        assert answer.status_code == 200, answer.read()
        return list(events(answer)), answer.headers["x-task-id"]


def runs(port: int, **headers: str) -> int:
    """Prompts that a process has run to their end."""
    told = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers, trust_env=False).text
    name = 'forebay_task_runs_total{type="mcp.add_prompt",outcome="completed"}'
    return sum(int(line.removeprefix(name)) for line in told.splitlines() if line.startswith(name))


def test_where_no_gateway_works_a_stream_has_the_node_alone(
    pair: tuple[Gateway, Callable[..., Worker]], scripted: Scripted
) -> None:
    gateway, start = pair
    worker = start()
    key = gateway.new_key("user")
    about = context(gateway, key)
    scripted.will(script.say("one two three", pieces=3))
    (only,), task = streamed(gateway, key, about)
    assert only[0] == "node" and only[1]["node"]["content"] == "one two three"
    assert only[1]["task_id"] == task and shown(gateway, key, task).json()["status"] == "completed"
    # It is counted a moment after it is told.
    harness.wait_for("the run to be counted", lambda: runs(worker.port) == 1)


def test_a_stream_runs_where_its_pieces_are_told(
    tmp_path: pathlib.Path, database: Database, scripted: Scripted
) -> None:
    address = address_of(database)
    settings = config(scripted, store=store(address))
    settings["tasks"] |= {"workers": 1}
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(harness.closing(Gateway(tmp_path / "gateway", settings, **secret(address))))
        # The other one has places enough, and looks as often.
        worker = Worker(gateway, tmp_path / "worker", "--workers", "8", **secret(address))
        stack.callback(worker.kill)
        key = gateway.new_key("user")
        about = context(gateway, key)
        for turn in range(1, STREAMS + 1):
            scripted.will(script.say("one two three", pieces=3))
            told, _ = streamed(gateway, key, about)
            *pieces, (last, whole) = told
            assert last == "node" and {name for name, _ in pieces} == {"delta"}, (turn, told)
            assert "".join(piece["content"] for _, piece in pieces) == whole["node"]["content"] == "one two three"
        harness.wait_for("the runs to be counted", lambda: runs(gateway.port, **gateway.admin.bearer) == STREAMS)
        assert runs(worker.port) == 0
        assert len(contents(gateway, key, about)) == 2 * STREAMS


def test_a_worker_needs_a_database_that_can_be_shared(tmp_path: pathlib.Path) -> None:
    refused = harness.run([str(BINARY), "worker", "--data", str(tmp_path / "data")])
    assert refused.returncode == 1, refused.stderr
    assert "PostgreSQL" in refused.stderr and "tasks.workers" in refused.stderr
    assert not (tmp_path / "data").exists(), "nothing is left behind"
    harness.expect_plain_words(refused.stderr)


def test_tasks_outlive_that_the_database_cuts_everybody_off(tmp_path: pathlib.Path, scripted: Scripted) -> None:
    with postgres(tmp_path) as (address, _):
        settings = config(scripted, store=store(address))
        with harness.closing(Gateway(tmp_path / "gateway", settings, **secret(address))) as gateway:
            key = gateway.new_key("user")
            about = context(gateway, key)
            tasks = [note(gateway, key, about, f"node {number}")["id"] for number in range(50)]
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            for _ in range(5):
                Database(address).sql(cut, "postgres")
            for task in tasks:
                ended = harness.wait_for(
                    f"the end of {task}",
                    lambda task=task: (
                        (answer := shown(gateway, key, task, wait="20s")).status_code == 200
                        and answer.json()["status"] == "completed"
                    ),
                )
                assert ended
            assert contents(gateway, key, about) == [f"node {number}" for number in range(50)]
