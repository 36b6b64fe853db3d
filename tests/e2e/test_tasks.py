"""Durable tasks over REST and on the command line: what is acknowledged is done, once in effect, whoever is killed."""

from __future__ import annotations

import concurrent.futures
import datetime
import json
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import harness
import scripted as script
from harness import Gateway, Key
from scripted import Scripted

TASKS = "/api/v1/mcp/tasks"
CONTEXTS = "/api/v1/mcp/contexts"


def config(scripted: Scripted, **more: Any) -> dict[str, Any]:
    model = {"backends": [{"url": scripted.url, "model": "by-script", "probe": {"interval_s": 0}}]}
    return {
        "models": {"scripted": model | {"retry": {"attempts": 1}, "timeouts": {"begin_s": 50}}},
        "limits": {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000},
        "tasks": {"lease_s": 3, "poll_ms": 50},
        **more,
    }


@pytest.fixture(scope="module")
def working(folder: pathlib.Path, scripted: Scripted) -> Iterator[Gateway]:
    with harness.closing(Gateway(folder / "tasks", config(scripted))) as started:
        yield started


@pytest.fixture
def ann(working: Gateway) -> Key:
    return working.new_key("user")


def tomorrow() -> str:
    return (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).isoformat()


def context(gateway: Gateway, key: Key) -> str:
    made = gateway.http.post(CONTEXTS, json={"model_id": "scripted"}, headers=key.bearer)
    assert made.status_code == 201, made.text
    return made.json()["id"]


def submit(gateway: Gateway, key: Key, kind: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    headers = key.bearer | more.pop("headers", {})
    taken = gateway.http.post(TASKS, json={"type": kind, "input": body} | more, headers=headers)
    assert taken.status_code == 202, taken.text
    assert taken.headers["location"] == f"{TASKS}/{taken.json()['id']}"
    return taken.json()


def note(gateway: Gateway, key: Key, context_id: str, content: str, **more: Any) -> dict[str, Any]:
    return submit(gateway, key, "mcp.add_node", {"context_id": context_id, "content": content}, **more)


def shown(gateway: Gateway, key: Key, task: str, **query: Any) -> httpx.Response:
    return gateway.http.get(f"{TASKS}/{task}", params=query, headers=key.bearer)


def done(gateway: Gateway, key: Key, task: str) -> dict[str, Any]:
    answer = shown(gateway, key, task, wait="50s")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["status"] in ("completed", "failed", "cancelled", "dead"), found
    return found


def contents(gateway: Gateway, key: Key, context_id: str) -> list[str]:
    answer = gateway.http.get(f"{CONTEXTS}/{context_id}", headers=key.bearer)
    assert answer.status_code == 200, answer.text
    return [node["content"] for node in answer.json()["nodes"]]


def held(until: threading.Event, text: str) -> script.Reply:
    """Answers when the test says so."""

    def reply(wire: script.Wire) -> None:
        assert until.wait(harness.WAIT_SECONDS_MAX)
        script.say(text)(wire)

    return reply


def test_what_is_submitted_is_done_and_kept_with_its_output(working: Gateway, ann: Key) -> None:
    about = context(working, ann)
    task = note(working, ann, about, "hello", priority=3)
    assert (task["type"], task["priority"], task["context_id"]) == ("mcp.add_node", "high", about)
    found = done(working, ann, task["id"])
    assert found["status"] == "completed" and found["output"]["node"]["content"] == "hello", found
    assert found["attempts"] == 1 and found["started_at"] <= found["completed_at"] < found["expires_at"]
    assert "input" not in found
    with_input = shown(working, ann, task["id"], input="true").json()
    assert with_input["input"]["content"] == "hello"
    listed = working.http.get(TASKS, params={"type": "mcp.add_node", "status": "completed"}, headers=ann.bearer).json()
    assert [one["id"] for one in listed["tasks"]] == [task["id"]]


def test_what_is_put_off_begins_by_itself_when_its_time_comes(working: Gateway, ann: Key) -> None:
    about = context(working, ann)
    due = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2)
    task = note(working, ann, about, "later", run_at=due.isoformat())
    assert task["status"] == "scheduled", task
    at_once = done(working, ann, note(working, ann, about, "now")["id"])
    assert at_once["status"] == "completed"
    found = done(working, ann, task["id"])
    assert (found["status"], found["attempts"]) == ("completed", 1), found
    started = datetime.datetime.fromisoformat(found["started_at"])
    late = started - datetime.datetime.fromisoformat(found["run_at"])
    assert datetime.timedelta(0) <= late < datetime.timedelta(seconds=20), found
    assert contents(working, ann, about) == ["now", "later"]


def test_lists_come_in_pages_newest_first(working: Gateway, ann: Key) -> None:
    about = context(working, ann)
    made = [note(working, ann, about, str(number))["id"] for number in range(5)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2, "type": "mcp.add_node"}
    while True:
        page = working.http.get(TASKS, params=query, headers=ann.bearer).json()
        seen += [task["id"] for task in page["tasks"]]
        if "next_cursor" not in page:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == made[::-1]


def test_the_same_key_makes_one_task(working: Gateway, ann: Key) -> None:
    about = context(working, ann)
    headers = {"Idempotency-Key": "once"}

    def send(_: int) -> str:
        return note(working, ann, about, "once", headers=headers)["id"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(send, range(8)))
    assert len(ids) == 1
    done(working, ann, ids.pop())
    assert contents(working, ann, about) == ["once"]
    body = {"type": "mcp.add_node", "input": {"context_id": about, "content": "another"}}
    other = working.http.post(TASKS, json=body, headers=ann.bearer | headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"type": "nobody.knows"}, 400, "unknown_task_type"),
        ({"type": "mcp.add_node", "input": {"content": "x"}}, 400, "invalid_request"),
        ({"type": "mcp.add_node", "input": {}, "priority": "urgent"}, 400, "invalid_request"),
        ({"input": {}}, 400, "invalid_request"),
    ],
)
def test_nonsense_is_refused_before_it_is_queued(
    working: Gateway, ann: Key, body: dict[str, Any], status: int, code: str
) -> None:
    refused = working.http.post(TASKS, json=body, headers=ann.bearer)
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    harness.expect_plain_words(refused.text)


def test_a_task_without_input_is_asked_for_what_its_type_needs(working: Gateway, ann: Key) -> None:
    refused = working.http.post(TASKS, json={"type": "mcp.add_node"}, headers=ann.bearer)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request"), refused.text
    assert "context_id" in refused.text and "null" not in refused.text, refused.text


def test_a_task_is_its_owners_and_nobody_elses(working: Gateway, ann: Key) -> None:
    task = note(working, ann, context(working, ann), "mine")["id"]
    done(working, ann, task)
    strangers = [working.new_key("user"), working.new_key("operator", tenant="other")]
    for stranger in strangers:
        for answer in (
            shown(working, stranger, task),
            working.http.post(f"{TASKS}/{task}/cancel", headers=stranger.bearer),
            working.http.post(f"{TASKS}/{task}/requeue", headers=stranger.bearer),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "unknown_task")
        assert working.http.get(TASKS, headers=stranger.bearer).json()["tasks"] == []
    assert working.http.get(TASKS, headers=working.new_key("viewer").bearer).status_code == 403


def test_what_was_asked_and_answered_is_shown_to_nobody_else(working: Gateway, ann: Key) -> None:
    about = context(working, ann)
    task = note(working, ann, about, "for my eyes")["id"]
    done(working, ann, task)
    missing = {"context_id": about, "node_id": "none"}
    failed = submit(working, ann, "mcp.delete_node", missing)["id"]
    done(working, ann, failed)
    own = shown(working, ann, task, input="true").json()
    assert own["input"]["content"] == own["output"]["node"]["content"] == "for my eyes"
    for other in (working.new_key("operator"), working.admin):
        for answer in (
            shown(working, other, task, input="true"),
            shown(working, other, task, input="true", wait="1s"),
            working.rpc("tools/call", {"name": "get_task", "arguments": {"task_id": task, "wait": "1s"}}, other),
        ):
            assert answer.status_code == 200, answer.text
            assert "for my eyes" not in answer.text and '"completed"' in answer.text.replace("\\", "")
        seen = shown(working, other, failed, input="true").json()
        assert seen["error"]["code"] == "unknown_node" and "input" not in seen, "why it failed may be seen"
        again = working.http.post(f"{TASKS}/{failed}/requeue", headers=other.bearer)
        assert again.status_code == 200 and "output" not in again.json(), again.text
        done(working, ann, failed)


def test_what_waits_is_cancelled_at_once_and_what_runs_is_asked_to_end(
    working: Gateway, ann: Key, scripted: Scripted
) -> None:
    about, go = context(working, ann), threading.Event()
    scripted.will(held(go, "too late"))
    before = len(scripted.heard)
    running = submit(working, ann, "mcp.add_prompt", {"context_id": about, "prompt": "wait for me"})["id"]
    harness.wait_for("the model to be asked", lambda: len(scripted.heard) > before)
    waiting = submit(working, ann, "mcp.add_prompt", {"context_id": about, "prompt": "then me"})["id"]
    later = note(working, ann, about, "in a day", run_at=tomorrow())
    assert later["status"] == "scheduled"
    try:
        for task in (waiting, later["id"]):
            cancelled = working.http.post(f"{TASKS}/{task}/cancel", headers=ann.bearer)
            assert cancelled.status_code == 200 and cancelled.json()["status"] == "cancelled", cancelled.text
        asked = working.http.post(f"{TASKS}/{running}/cancel", headers=ann.bearer)
        assert asked.status_code == 200, asked.text
        assert done(working, ann, running)["status"] == "cancelled"
    finally:
        go.set()
    over = working.http.post(f"{TASKS}/{running}/requeue", headers=ann.bearer)
    assert (over.status_code, over.json()["code"]) == (409, "conflict")
    assert "too late" not in contents(working, ann, about)


def test_what_failed_is_queued_again_from_the_command_line(working: Gateway, ann: Key, scripted: Scripted) -> None:
    about = context(working, ann)
    node = submit(working, ann, "mcp.delete_node", {"context_id": about, "node_id": "none"})["id"]
    assert done(working, ann, node)["status"] == "failed"

    def cli(*words: str) -> Any:
        ran = working.cli("task", *words, "-o", "json", key=ann.key)
        return ran.returncode, json.loads(ran.stdout) if ran.stdout else ran.stderr

    code, listed = cli("list", "--status", "failed")
    assert code == 0 and [task["id"] for task in listed] == [node]
    code, shown = cli("requeue", "--dry-run", node)
    assert code == 0 and [task["status"] for task in shown] == ["failed"], shown
    code, again = cli("requeue", node)
    assert code == 0 and [task["id"] for task in again] == [node], again
    code, watched = cli("watch", node)
    assert code == 5 and watched["status"] == "failed" and watched["error"]["code"], watched
    assert watched["attempts"] == 1, "they are counted anew"
    code, one = cli("show", node)
    assert code == 0 and one["input"]["node_id"] == "none"
    completed = done(working, ann, note(working, ann, about, "done")["id"])["id"]
    code, shown = cli("requeue", "--dry-run", completed, node)
    assert code == 5 and [task["id"] for task in shown] == [node], "one that is refused keeps no other back"
    people = working.cli("task", "list", key=ann.key)
    assert people.returncode == 0 and "mcp.delete_node" in people.stdout
    assert working.cli("task", "show", "0" * 32, key=ann.key).returncode == 5


def test_of_several_tasks_one_that_is_refused_keeps_no_other_back(working: Gateway, ann: Key) -> None:
    about = context(working, ann)
    done(working, ann, over := note(working, ann, about, "done")["id"])
    waiting = [note(working, ann, about, "later", run_at=tomorrow())["id"] for _ in range(2)]
    ids = [waiting[0], over, "0" * 32, waiting[1]]
    ran = working.cli("task", "cancel", *ids, "-o", "json", key=ann.key)
    assert ran.returncode == 5, ran.stderr
    assert [task["id"] for task in json.loads(ran.stdout)] == waiting
    for refused in (over, "0" * 32):
        assert ran.stderr.count(refused) == 1, ran.stderr
    for task in waiting:
        assert shown(working, ann, task).json()["status"] == "cancelled"
    nobody = working.cli("task", "cancel", *waiting, key="fb_" + "0" * 16 + "_" + "ab" * 32)
    assert nobody.returncode == 3 and "1 more" in nobody.stderr, nobody.stderr


def test_everything_that_is_not_over_is_watched_however_old(working: Gateway, ann: Key) -> None:
    about = context(working, ann)
    old = note(working, ann, about, "later", run_at=tomorrow())["id"]
    newer = [note(working, ann, about, str(number))["id"] for number in range(100)]
    done(working, ann, newer[-1])
    log = working.folder / f"watch-{old}.jsonl"
    env = harness.clean_env(FOREBAY_URL=working.url, FOREBAY_KEY=ann.key)
    watch = harness.Process("watch", [str(harness.BINARY), "task", "watch", "-o", "json"], log, env)

    def told(task: str) -> list[str]:
        lines = [json.loads(line) for line in watch.log.splitlines() if line.endswith("}")]
        return [line["status"] for line in lines if line["id"] == task]

    try:
        harness.wait_for("the old one", lambda: told(old) == ["scheduled"])
        assert told(newer[0]) == ["completed"]
        fresh = note(working, ann, about, "fresh")["id"]
        cancelled = working.http.post(f"{TASKS}/{old}/cancel", headers=ann.bearer)
        assert cancelled.status_code == 200
        harness.wait_for("its end", lambda: told(old) == ["scheduled", "cancelled"])
        harness.wait_for("what came in", lambda: told(fresh)[-1:] == ["completed"])
    finally:
        watch.terminate()


def test_submitting_and_cancelling_are_in_the_audit_trail(working: Gateway, ann: Key) -> None:
    task = note(working, ann, context(working, ann), "x", run_at=tomorrow())["id"]
    answer = working.http.post(f"{TASKS}/{task}/cancel", headers=ann.bearer)
    trace = answer.headers["x-trace-id"]
    events = working.http.get("/api/v1/audit", params={"trace": trace}, headers=working.admin.bearer).json()["events"]
    assert [event["action"] for event in events] == ["tasks:write"]


def test_what_waits_and_how_runs_ended_is_in_the_metrics(working: Gateway, ann: Key) -> None:
    done(working, ann, note(working, ann, context(working, ann), "counted")["id"])

    def told() -> bool:
        text = working.http.get("/metrics", headers=working.admin.bearer).text
        return (
            'forebay_task_runs_total{type="mcp.add_node",outcome="completed"}' in text
            and 'forebay_task_queue_depth{priority="critical"} 0' in text
            and 'forebay_task_queue_oldest_age_seconds{priority="low"} 0' in text
            and 'forebay_task_wait_seconds_count{priority="medium"}' in text
            and 'forebay_task_response_seconds_count{type="mcp.add_node"}' in text
        )

    harness.wait_for("the figures of tasks", told)


def test_what_a_killed_gateway_was_at_is_done_after_its_restart_once_in_effect(
    tmp_path: pathlib.Path, scripted: Scripted
) -> None:
    first = Gateway(tmp_path / "gateway", config(scripted))
    with harness.closing(first):
        key = first.new_key("user")
        about, go = context(first, key), threading.Event()
        scripted.will(held(go, "lost with its reader"), script.say("after the restart"))
        before = len(scripted.heard)
        asked = submit(first, key, "mcp.add_prompt", {"context_id": about, "prompt": "are you there?"})["id"]
        queued = [note(first, key, about, f"node {number}")["id"] for number in range(20)]
        harness.wait_for("the model to be asked", lambda: len(scripted.heard) > before)
        first.kill()
        go.set()
    with harness.closing(Gateway(tmp_path / "gateway", config(scripted))) as second:
        assert done(second, key, asked)["status"] == "completed"
        assert shown(second, key, asked).json()["attempts"] == 2
        for task in queued:
            assert done(second, key, task)["status"] == "completed"
        # What one context was told comes in order, and nothing of it twice.
        nodes = ["are you there?", "after the restart", *(f"node {number}" for number in range(20))]
        assert contents(second, key, about) == nodes


def test_a_revoked_key_does_nothing_any_more_whatever_it_has_queued(working: Gateway, scripted: Scripted) -> None:
    key = working.new_key("user")
    about, go = context(working, key), threading.Event()
    scripted.will(held(go, "first"))
    before = len(scripted.heard)
    submit(working, key, "mcp.add_prompt", {"context_id": about, "prompt": "first?"})
    harness.wait_for("the model to be asked", lambda: len(scripted.heard) > before)
    behind = note(working, key, about, "never")["id"]
    assert working.cli("key", "revoke", key.id).returncode == 0
    go.set()
    ended = done(working, working.admin, behind)
    assert (ended["status"], ended["error"]["code"], ended["attempts"]) == ("failed", "revoked_key", 1)


def test_a_key_that_is_revoked_ends_what_runs_for_it(working: Gateway, scripted: Scripted) -> None:
    key = working.new_key("user")
    about = context(working, key)
    scripted.will(script.silent)
    running = submit(working, key, "mcp.add_prompt", {"context_id": about, "prompt": "for how long?"})["id"]
    harness.wait_for("the model to be asked", lambda: scripted.heard)
    assert working.cli("key", "revoke", key.id).returncode == 0
    ended = done(working, working.admin, running)
    assert (ended["status"], ended["error"]["code"], ended["attempts"]) == ("failed", "revoked_key", 1)
    # The engine's connection is let go with it.
    assert scripted.gone.get(timeout=harness.WAIT_SECONDS_MAX)
