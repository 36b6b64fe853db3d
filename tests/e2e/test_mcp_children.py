"""Programs that the gateway runs as upstreams: they may die, and they never outlive it."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import harness
from harness import Gateway

SCRIPT = str(pathlib.Path(__file__).resolve().parent / "one_version.py")
# A server that has started a program of its own, which would live on for long; both show the mark.
PARENT = "import subprocess, sys, runpy; "
PARENT += "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', sys.argv[-1]]); "
PARENT += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
# What the gateway waits before it starts one again: half a second, then twice as long each time, up to this.
PAUSE_SECONDS_MAX = 30.0


def marked(mark: str) -> list[int]:
    """The processes whose arguments name the mark and which have not ended."""
    command = ["ps", "-A", "-ww", "-o", "pid=,stat=,args="]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in told.splitlines()]
    return [int(pid) for pid, stat, *args in rows if mark in " ".join(args) and not stat.startswith("Z")]


def pid_of(gateway: Gateway) -> int | None:
    """The process that answers a call; none while the upstream is away."""
    answer = gateway.rpc("tools/call", {"name": "child__pid", "arguments": {}}).json()
    if "error" in answer or answer["result"].get("isError"):
        return None
    return int(answer["result"]["content"][0]["text"])


def restarted(gateway: Gateway, before: int) -> int:
    found = harness.wait_for("another process to answer", lambda: pid_of(gateway))
    assert found != before
    return found


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_a_child_that_dies_is_started_again_and_called_again(start: Callable[..., Gateway], version: str) -> None:
    mark = secrets.token_hex(16)
    child = {"command": sys.executable, "args": [SCRIPT, version, mark]}
    gateway = start({"upstreams": {"child": child}})
    pid = harness.wait_for("the child to answer", lambda: pid_of(gateway))
    assert pid in marked(mark)
    for _ in range(3):
        os.kill(pid, signal.SIGKILL)
        pid = restarted(gateway, pid)
    assert pid in marked(mark)
    assert gateway.child.poll() is None


def test_a_child_that_always_dies_is_started_ever_more_seldom(
    start: Callable[..., Gateway], tmp_path: pathlib.Path
) -> None:
    starts = tmp_path / "starts"
    program = f"import time; open({str(starts)!r}, 'a').write(f'{{time.monotonic()}}\\n')"
    # Of one known version, it is started once each time, and not once more to ask for the other era.
    child = {"command": sys.executable, "args": ["-c", program], "protocol": "legacy"}
    gateway = start({"upstreams": {"child": child}})

    def times() -> list[float] | None:
        seen = [float(line) for line in starts.read_text().splitlines()] if starts.exists() else []
        return seen if len(seen) >= 5 else None

    seen = harness.wait_for("five starts", times)
    pauses = [after - before for before, after in itertools.pairwise(seen)]
    assert pauses[3] > 2 * pauses[0], pauses
    assert all(pause < PAUSE_SECONDS_MAX for pause in pauses)
    shown = gateway.http.get("/api/v1/upstreams/child", headers=gateway.admin.bearer).json()["upstream"]
    assert shown["trouble"], shown
    assert gateway.rpc("tools/call", {"name": "calculator", "arguments": {"expression": "6*7"}}).json()["result"]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_no_process_outlives_the_gateway(start: Callable[..., Gateway], end: signal.Signals) -> None:
    mark = secrets.token_hex(16)
    child: dict[str, Any] = {"command": sys.executable, "args": ["-c", PARENT, SCRIPT, "2025-11-25", mark]}
    gateway = start({"upstreams": {"child": child}})
    harness.wait_for("the child to answer", lambda: pid_of(gateway))
    assert len(marked(mark)) >= 2, "the server, and what it has started itself"
    gateway.child.send_signal(end)
    gateway.child.wait(timeout=harness.WAIT_SECONDS_MAX)
    harness.wait_for(f"nothing to be left of {json.dumps(child)}", lambda: not marked(mark))
