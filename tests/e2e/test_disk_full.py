"""On a full disk the gateway refuses what it cannot write, with a code of its own, and does everything else."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import socket
import stat
import threading
import time
from typing import Any

import httpx
import pytest

import harness
import scripted as script
from harness import Gateway, Key
from scripted import Scripted

TASKS = "/api/v1/mcp/tasks"
CONTEXTS = "/api/v1/mcp/contexts"
# Anybody may mount a small disk in namespaces of their own.
MOUNT = 'mount -t tmpfs -o size=24m none "$0" && exec "$@"'
# As long as health checks that watch a gateway need to take it for gone.
FULL_SECONDS = 2.5
# More than may wait to be recorded before nothing is begun any more that spends.
MANY = 9_000


def config(scripted: Scripted, disk: pathlib.Path) -> dict[str, Any]:
    backends = {"backends": [{"url": scripted.url, "model": "by-script", "probe": {"interval_s": 0}}]}
    once = backends | {"retry": {"attempts": 1}, "timeouts": {"begin_s": 50}}
    return {
        "store": {"url": f"sqlite://{disk}/forebay.db"},
        "models": {
            "scripted": once | {"price": {"input": 0, "output": 0}},
            "priced": once | {"price": {"input": 1, "output": 1}},
        },
        "limits": {"requests_per_minute": 1_000_000},
        "tasks": {"poll_ms": 50},
        "budgets": [{"scope": "tenant", "window": "60m", "limit_usd": 50}],
    }


@pytest.fixture
def small(tmp_path: pathlib.Path, scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A gateway whose database alone lies on a small disk, and that disk as it is seen from here."""
    disk = tmp_path / "disk"
    disk.mkdir()
    namespaces = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT, str(disk), str(harness.BINARY)]
    start = tmp_path / "start"
    start.write_text(f'#!/bin/sh\nexec {shlex.join(namespaces)} "$@"\n', encoding="utf-8")
    start.chmod(stat.S_IRWXU)
    with monkeypatch.context() as patch:
        patch.setattr(harness, "BINARY", start)
        gateway = Gateway(tmp_path / "gateway", config(scripted, disk))
    with harness.closing(gateway):
        yield gateway, pathlib.Path(f"/proc/{gateway.child.pid}/root{disk}")


def fill(file: pathlib.Path) -> None:
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as rest:
        while rest.write(b"\1" * 4096):
            pass


def writes(gateway: Gateway, key: Key, about: str) -> list[httpx.Response]:
    task = {"type": "mcp.add_node", "input": {"context_id": about, "content": "no room"}}
    ask = {"model": "priced", "messages": [{"role": "user", "content": "no room"}], "max_tokens": 5}
    bodies = [
        (TASKS, task),
        (CONTEXTS, {"model_id": "scripted"}),
        (f"{CONTEXTS}/{about}/prompt", {"prompt": "no room"}),
        ("/v1/chat/completions", ask),
    ]
    return [gateway.http.post(path, json=body, headers=key.bearer) for path, body in bodies]


def expect_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 507, (answer.url, answer.text)
    body = answer.json()
    assert (body.get("code") or body["error"]["forebay_code"]) == "store_full", body
    assert int(answer.headers["retry-after"]) > 0


def expect_read(gateway: Gateway, key: Key, about: str, task: str) -> None:
    for path in ("/livez", "/readyz", "/health", "/mcp/health"):
        assert gateway.http.get(path).status_code == 200, path
    for path in (f"{CONTEXTS}/{about}", CONTEXTS, f"{TASKS}/{task}", TASKS, "/v1/models", "/api/v1/status"):
        answer = gateway.http.get(path, headers=key.bearer)
        assert answer.status_code == 200, (path, answer.text)
    health = gateway.http.get("/api/v1/mcp/health", headers=key.bearer).json()
    assert health["status"] == "store_full", health


def knock(gateway: Gateway, times: int) -> None:
    """Asks so often, over one connection, without waiting for answers before the next question."""
    question = f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{gateway.port}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=harness.WAIT_SECONDS_MAX) as wire:
        asking = threading.Thread(target=wire.sendall, args=(question * times,))
        asking.start()
        heard, tail = 0, b""
        while heard < times:
            some = wire.recv(1 << 16)
            assert some, f"{heard} of {times} were answered"
            found = (tail + some).count(b"HTTP/1.1 200 OK")
            heard += found
            # What may be the beginning of the next, and holds no whole one.
            tail = (tail + some)[-14:]
        asking.join()


def test_what_writes_is_refused_and_all_else_goes_on(small: tuple[Gateway, pathlib.Path], scripted: Scripted) -> None:
    gateway, disk = small
    key = gateway.new_key("user")
    about = gateway.http.post(CONTEXTS, json={"model_id": "scripted"}, headers=key.bearer).json()["id"]
    go = threading.Event()

    def late(wire: script.Wire) -> None:
        assert go.wait(harness.WAIT_SECONDS_MAX)
        script.say("It was worth the wait.")(wire)

    scripted.will(late)
    later = key.bearer | {"Prefer": "respond-async"}
    prompt = gateway.http.post(f"{CONTEXTS}/{about}/prompt", json={"prompt": "Well?"}, headers=later)
    assert prompt.status_code == 202, prompt.text
    under_way = prompt.json()["id"]
    harness.wait_for("the model to be asked", lambda: len(scripted.heard) == 1)

    fill(disk / "rest")
    free = os.statvfs(disk)
    assert free.f_bavail == 0, free
    harness.wait_for("the disk to be noticed", lambda: {507} == {a.status_code for a in writes(gateway, key, about)})
    until = time.monotonic() + FULL_SECONDS
    while time.monotonic() < until:
        for answer in writes(gateway, key, about):
            expect_refused(answer)
        expect_read(gateway, key, about, under_way)
    assert len(scripted.heard) == 1, "nothing was asked that could not be paid for"
    go.set()

    # What cannot even be told of later is not begun; what only reads goes on without that.
    ask = {"model": "scripted", "messages": [{"role": "user", "content": "free"}]}
    scripted.script.append(script.say("free of charge"))
    assert gateway.chat(ask, key.bearer).status_code == 200
    asked = len(scripted.heard)
    knock(gateway, MANY)
    expect_refused(gateway.chat(ask, key.bearer))
    expect_read(gateway, key, about, under_way)
    assert len(scripted.heard) == asked
    assert gateway.http.get(f"{TASKS}/{under_way}", headers=key.bearer).json()["status"] == "running"

    (disk / "rest").unlink()
    found = gateway.http.get(f"{TASKS}/{under_way}", params={"wait": "50s"}, headers=key.bearer).json()
    assert (found["status"], found["attempts"]) == ("completed", 1), found
    nodes = gateway.http.get(f"{CONTEXTS}/{about}", headers=key.bearer).json()["nodes"]
    assert [node["content"] for node in nodes] == ["Well?", "It was worth the wait."]
    assert len(scripted.heard) == asked, "the model was asked once"
    # What waited to be recorded is written first.
    harness.wait_for("all to be taken again", lambda: all(answer.is_success for answer in writes(gateway, key, about)))
    assert gateway.child.poll() is None
