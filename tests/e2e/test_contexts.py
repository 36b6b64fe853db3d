"""Contexts over REST as the guide shows them, and what holds where connections, clients and gateways do not."""

from __future__ import annotations

import concurrent.futures
import json
import pathlib
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import harness
import scripted as script
from harness import Engine, Gateway, Key
from scripted import Scripted

GUIDE = harness.ROOT / "docs" / "contexts.md"
BASE = "/api/v1/mcp"
# What the guide's calls name; here it stands for the small real model.
GUIDES_MODEL = "gpt-3.5-turbo"


def config(engine: Engine, scripted: Scripted, **more: Any) -> dict[str, Any]:
    def model(url: str, name: str, **bounds: int) -> dict[str, Any]:
        backend = {"url": url, "model": name, "probe": {"interval_s": 0}}
        return {"backends": [backend], "timeouts": {"begin_s": 50}, "retry": {"attempts": 1}, **bounds}

    # It reads so many tokens; of a longer talk the oldest is left out.
    real = model(engine.url, harness.MODEL, context_tokens=harness.MODEL_TOKENS)
    return {
        "models": {GUIDES_MODEL: real, "scripted": model(scripted.url, "by-script")},
        "limits": {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000},
        **more,
    }


@pytest.fixture(scope="module")
def talking(folder: pathlib.Path, engine: Engine, scripted: Scripted) -> Iterator[Gateway]:
    with harness.closing(Gateway(folder / "contexts", config(engine, scripted))) as started:
        yield started


@pytest.fixture
def ann(talking: Gateway) -> Key:
    return talking.new_key("user")


def key_of(gateway: Gateway, name: str, *grants: str) -> Key:
    """A key of somebody who may have several."""
    options = [option for grant in grants for option in ("--grant", grant)]
    done = gateway.cli("key", "create", "--role", "user", "--tenant", "acme", "--name", name, *options, "-o", "json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    return Key(made["id"], made["key"])


def create(gateway: Gateway, key: Key, model: str = "scripted", *nodes: dict[str, Any]) -> dict[str, Any]:
    answer = gateway.http.post(f"{BASE}/contexts", json={"model_id": model, "nodes": nodes}, headers=key.bearer)
    assert answer.status_code == 201, answer.text
    return answer.json()


def prompt(gateway: Gateway, key: Key, context: str, text: str, **more: Any) -> httpx.Response:
    path, headers = f"{BASE}/contexts/{context}/prompt", key.bearer | more.pop("headers", {})
    return gateway.http.post(path, json={"prompt": text} | more, headers=headers)


def said(gateway: Gateway, key: Key, context: str) -> list[tuple[str, str]]:
    answer = gateway.http.get(f"{BASE}/contexts/{context}", headers=key.bearer)
    assert answer.status_code == 200, answer.text
    return [(node["role"], node["content"]) for node in answer.json()["nodes"]]


def events(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
    name = ""
    for line in answer.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def held(until: threading.Event, text: str) -> script.Reply:
    """Answers when the test says so."""

    def reply(wire: script.Wire) -> None:
        assert until.wait(harness.WAIT_SECONDS_MAX)
        script.say(text)(wire)

    return reply


def held_midway(until: threading.Event) -> script.Reply:
    """Begins to answer, and goes on when the test says so."""

    def reply(wire: script.Wire) -> None:
        assert wire.streamed
        wire.begin()
        chunks = list(script.Message("one two three", pieces=3).chunks(wire.body.get("model")))
        for chunk in chunks[:2]:
            wire.event(chunk)
        assert until.wait(harness.WAIT_SECONDS_MAX)
        for chunk in chunks[2:]:
            wire.event(chunk)
        wire.end()

    return reply


class Shell:
    """Runs the guide's blocks in a real shell with the real curl, as they stand but for the gateway's port."""

    def __init__(self, gateway: Gateway, key: Key) -> None:
        self.gateway, self.key = gateway, key
        text = GUIDE.read_text(encoding="utf-8")
        self.blocks = {
            heading: re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
            for heading, section in re.findall(r"^### (.+?)\n(.*?)(?=^##|\Z)", text, re.DOTALL | re.MULTILINE)
        }

    def run(self, heading: str, **places: str) -> str:
        (block,) = self.blocks[heading]
        for name, value in places.items():
            assert f"{{{name}}}" in block, heading
            block = block.replace(f"{{{name}}}", value)
        command = block.replace("http://localhost:8080", self.gateway.url)
        env = harness.clean_env(KEY=self.key.key, no_proxy="*", NO_PROXY="*")
        done = subprocess.run(
            ["bash", "-eu", "-c", command], env=env, text=True, capture_output=True, timeout=120, check=True
        )
        return done.stdout


def test_the_calls_of_the_guide_work_as_they_are_written(talking: Gateway, ann: Key) -> None:
    shell = Shell(talking, ann)
    made = json.loads(shell.run("Creating a context"))
    assert made["model_id"] == GUIDES_MODEL and made["metadata"] == {"session": "user123"}
    assert made["user_id"] == "user123" and made["task_id"]
    (system,) = made["nodes"]
    assert (system["role"], system["content"]) == ("system", "You are a helpful assistant.")

    answer = json.loads(shell.run("Adding a prompt", contextID=made["id"]))
    assert answer["context_id"] == made["id"] and answer["node"]["content"], answer
    assert answer["prompt_node"]["metadata"] == {"conversation_id": "12345"}
    assert answer["usage"]["total_tokens"] > 0 and answer["node"]["role"] == "assistant"

    streamed = shell.run("Streaming", contextID=made["id"])
    pieces = [
        json.loads(piece)["content"] for piece in re.findall(r"^event: delta\ndata: (.*)$", streamed, re.MULTILINE)
    ]
    nodes = re.findall(r"^event: node\ndata: (.*)$", streamed, re.MULTILINE)
    assert len(nodes) == 1, streamed
    assert len(pieces) > 1 and "".join(pieces) == json.loads(nodes[0])["node"]["content"]

    shown = json.loads(shell.run("Looking", contextID=made["id"]))
    assert [one["role"] for one in shown["nodes"]] == ["system", "user", "assistant", "user", "assistant"]
    task = json.loads(shell.run("Following a task", taskID=answer["task_id"]))
    assert (task["type"], task["status"], task["priority"]) == ("mcp.add_prompt", "completed", "high")

    gone = json.loads(shell.run("Deleting a context", contextID=made["id"]))
    assert gone["deleted"] and gone["id"] == made["id"]
    missing = talking.http.get(f"{BASE}/contexts/{made['id']}", headers=ann.bearer)
    assert missing.status_code == 404 and missing.json()["code"] == "unknown_context"


def test_the_model_answers_from_what_was_said_before(talking: Gateway, ann: Key) -> None:
    earlier = [
        {"role": "system", "content": "Answer in one short sentence."},
        {"role": "user", "content": "My dog is called Rex."},
        {"role": "assistant", "content": "Rex is a nice name for a dog."},
    ]
    context = create(talking, ann, GUIDES_MODEL, *earlier)["id"]
    answer = prompt(talking, ann, context, "What is my dog called?", temperature=0, max_tokens=30).json()
    assert "Rex" in answer["node"]["content"], answer
    # Without them it cannot know.
    alone = create(talking, ann, GUIDES_MODEL, earlier[0])["id"]
    answer = prompt(talking, ann, alone, "What is my dog called?", temperature=0, max_tokens=30).json()
    assert "Rex" not in answer["node"]["content"], answer


def test_every_node_reaches_the_model_in_order_and_a_deleted_one_does_not(
    talking: Gateway, ann: Key, scripted: Scripted
) -> None:
    scripted.will(script.say("one"), script.say("two"))
    context = create(talking, ann, "scripted", {"content": "Be brief.", "metadata": {"role": "system"}})["id"]
    first = prompt(talking, ann, context, "first?").json()
    added = talking.http.post(
        f"{BASE}/contexts/{context}/nodes", json={"content": {"a": [1]}, "content_type": "json"}, headers=ann.bearer
    )
    assert added.status_code == 201 and added.json()["node"]["content"] == {"a": [1]}, added.text
    path = f"{BASE}/contexts/{context}/nodes/{first['node']['id']}"
    removed = talking.http.delete(path, headers=ann.bearer)
    assert removed.status_code == 200 and removed.json()["deleted"], removed.text
    assert talking.http.delete(path, headers=ann.bearer).status_code == 404
    prompt(talking, ann, context, "second?")
    asked = [(one["role"], one["content"]) for one in scripted.bodies[-1]["messages"]]
    assert asked[0] == ("system", "Be brief.") and asked[1] == ("user", "first?") and asked[-1] == ("user", "second?")
    assert json.loads(asked[2][1]) == {"a": [1]} and ("assistant", "one") not in asked, asked


def test_an_answer_that_nobody_waits_for_is_found_by_its_task(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    context = create(talking, ann)["id"]
    go = threading.Event()
    scripted.will(held(go, "later"))
    taken = prompt(talking, ann, context, "now or later?", headers={"Prefer": "respond-async"})
    assert taken.status_code == 202 and taken.headers["preference-applied"] == "respond-async", taken.text
    place, task = taken.headers["location"], taken.json()
    assert place == f"{BASE}/tasks/{task['id']}" and task["context_id"] == context
    assert task["status"] in {"pending", "running"}
    waited = talking.http.get(place, params={"wait": "1s"}, headers=ann.bearer).json()
    assert waited["status"] == "running", waited
    go.set()
    done = talking.http.get(place, params={"wait": "30s"}, headers=ann.bearer).json()
    assert done["status"] == "completed" and done["output"]["node"]["content"] == "later", done
    assert said(talking, ann, context) == [("user", "now or later?"), ("assistant", "later")]


def test_who_waits_too_short_gets_the_task(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    context = create(talking, ann)["id"]
    for how in ({"params": {"wait": "0s"}}, {"headers": ann.bearer | {"Prefer": "wait=0"}}):
        go = threading.Event()
        scripted.will(held(go, "late"))
        path = f"{BASE}/contexts/{context}/prompt"
        taken = talking.http.post(path, json={"prompt": "?"}, **({"headers": ann.bearer} | how))
        assert taken.status_code == 202, taken.text
        go.set()
        done = talking.http.get(taken.headers["location"], params={"wait": "30s"}, headers=ann.bearer).json()
        assert done["status"] == "completed", done


def test_two_prompts_at_once_are_asked_one_after_the_other(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    context = create(talking, ann)["id"]
    go = threading.Event()
    scripted.will(held(go, "answer one"), script.say("answer two"))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(prompt, talking, ann, context, "one?")
        harness.wait_for("the first prompt at the engine", lambda: len(scripted.heard) == 1)
        second = pool.submit(prompt, talking, ann, context, "two?")

        def waits() -> bool:
            listed = talking.http.get(f"{BASE}/tasks", params={"type": "mcp.add_prompt"}, headers=ann.bearer).json()
            states = [task["status"] for task in listed["tasks"] if task.get("context_id") == context]
            return sorted(states) == ["pending", "running"]

        harness.wait_for("the second one waits for its turn", waits)
        assert len(scripted.heard) == 1
        go.set()
        assert first.result().status_code == second.result().status_code == 200
    assert [one["content"] for one in scripted.bodies[1]["messages"]] == ["one?", "answer one", "two?"]
    assert [text for _, text in said(talking, ann, context)] == ["one?", "answer one", "two?", "answer two"]


def test_a_stream_tells_pieces_then_the_node(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    context = create(talking, ann)["id"]
    go = threading.Event()
    scripted.will(held_midway(go))
    path = f"{BASE}/contexts/{context}/prompt"
    body = {"prompt": "count", "stream": True}
    with talking.http.stream("POST", path, json=body, headers=ann.bearer) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = events(answer)
        # The first piece is here before the engine has said the rest.
        assert next(told)[0] == "delta"
        go.set()
        *pieces, (last, whole) = told
    assert last == "node" and whole["node"]["content"] == "one two three"
    assert {name for name, _ in pieces} == {"delta"}
    assert whole["task_id"] == answer.headers["x-task-id"]
    refused = talking.http.post(path, json=body, headers=ann.bearer | {"Prefer": "respond-async"})
    assert refused.status_code == 400 and refused.json()["code"] == "invalid_request", refused.text


def test_a_stream_that_fails_ends_with_the_problem(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    context = create(talking, ann)["id"]
    scripted.will(script.dies(after=3))
    path = f"{BASE}/contexts/{context}/prompt"
    with talking.http.stream("POST", path, json={"prompt": "?", "stream": True}, headers=ann.bearer) as answer:
        told = list(events(answer))
    assert told[-1][0] == "error" and told[-1][1]["code"].startswith("upstream_"), told
    plain = prompt(talking, ann, "no-such-context", "?")
    assert plain.status_code == 404 and plain.json()["code"] == "unknown_context"


def test_a_prompt_goes_on_when_its_client_goes(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    context = create(talking, ann)["id"]
    go = threading.Event()
    scripted.will(held_midway(go))
    path = f"{BASE}/contexts/{context}/prompt"
    with talking.http.stream("POST", path, json={"prompt": "count", "stream": True}, headers=ann.bearer) as answer:
        assert next(events(answer))[0] == "delta"
    go.set()
    harness.wait_for(
        "the answer stands in the context", lambda: ("assistant", "one two three") in said(talking, ann, context)
    )


def test_a_stream_that_broke_is_asked_for_again_in_one_piece(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    context = create(talking, ann)["id"]
    go, once = threading.Event(), {"Idempotency-Key": f"{context}-1"}
    scripted.will(held_midway(go))
    path, body = f"{BASE}/contexts/{context}/prompt", {"prompt": "count", "user_id": "somebody"}
    with talking.http.stream("POST", path, json=body | {"stream": True}, headers=ann.bearer | once) as answer:
        assert next(events(answer))[0] == "delta"
        task = answer.headers["x-task-id"]
    go.set()
    again = prompt(talking, ann, context, "count", return_context=True, priority="medium", headers=once)
    assert again.status_code == 200 and again.headers["idempotent-replayed"] == "true", again.text
    told = again.json()
    assert (told["task_id"], told["node"]["content"]) == (task, "one two three")
    assert [node["id"] for node in told["context"]["nodes"]] == [told["prompt_node"]["id"], told["node"]["id"]]
    assert len(scripted.heard) == 1
    other = prompt(talking, ann, context, "count again", headers=once)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_a_client_that_says_so_takes_its_prompt_along(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    context = create(talking, ann)["id"]
    scripted.will(script.endless)
    path = f"{BASE}/contexts/{context}/prompt?on_disconnect=cancel"
    with talking.http.stream("POST", path, json={"prompt": "go on", "stream": True}, headers=ann.bearer) as answer:
        assert next(events(answer))[0] == "delta"
        task = answer.headers["x-task-id"]
    ended = talking.http.get(f"{BASE}/tasks/{task}", params={"wait": "30s"}, headers=ann.bearer).json()
    assert ended["status"] == "cancelled", ended
    assert scripted.gone.get(timeout=harness.WAIT_SECONDS_MAX), "the engine was told"


def test_the_same_key_does_it_once(talking: Gateway, ann: Key, scripted: Scripted) -> None:
    once = ann.bearer | {"Idempotency-Key": "k-1"}
    made = [talking.http.post(f"{BASE}/contexts", json={"model_id": "scripted"}, headers=once) for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 201]
    assert made[0].json() == made[1].json() and made[1].headers["idempotent-replayed"] == "true"
    other = talking.http.post(f"{BASE}/contexts", json={"model_id": "scripted", "metadata": {"a": 1}}, headers=once)
    assert other.status_code == 422 and other.json()["code"] == "idempotency_key_reused", other.text
    scripted.will(script.say("first"), script.say("second"))
    asked = [
        prompt(talking, ann, made[0].json()["id"], "?", headers={"Idempotency-Key": "k-2"}).json() for _ in range(2)
    ]
    assert asked[0] == asked[1] and asked[0]["node"]["content"] == "first" and len(scripted.heard) == 1
    # Also where what it was about is gone by then.
    path = f"{BASE}/contexts/{made[0].json()['id']}"
    gone = [talking.http.delete(path, headers=ann.bearer | {"Idempotency-Key": "k-3"}) for _ in range(2)]
    assert [answer.status_code for answer in gone] == [200, 200] and gone[0].json() == gone[1].json()


def test_what_does_not_fit_is_refused_in_plain_words(talking: Gateway, ann: Key) -> None:
    for body in (
        {},
        {"model_id": "scripted", "priority": "urgent"},
        {"model_id": "scripted", "priority": 5},
        {"model_id": "scripted", "nodes": [{"content": "x", "role": "pirate"}]},
        {"model_id": "scripted", "nodes": [{"content": 7}]},
        {"model_id": "scripted", "unheard_of": []},
    ):
        answer = talking.http.post(f"{BASE}/contexts", json=body, headers=ann.bearer)
        assert answer.status_code == 400, (body, answer.text)
        harness.expect_plain_words(answer.text)
    many = {"model_id": "scripted", "nodes": [{"content": "x"}] * 1001}
    full = talking.http.post(f"{BASE}/contexts", json=many, headers=ann.bearer)
    assert full.status_code == 409 and full.json()["code"] == "context_full", full.text
    unknown = talking.http.post(f"{BASE}/contexts", json={"model_id": "none"}, headers=ann.bearer)
    assert unknown.status_code == 404 and unknown.json()["code"] == "unknown_model", unknown.text
    numbered = talking.http.post(f"{BASE}/contexts", json={"model_id": "scripted", "priority": 4}, headers=ann.bearer)
    assert numbered.status_code == 201, numbered.text


def test_a_tenant_never_sees_what_is_another_tenants(talking: Gateway, ann: Key) -> None:
    made = create(talking, ann, "scripted", {"content": "a secret"})
    stranger = talking.new_key("user", tenant="other")
    context, task, node = made["id"], made["task_id"], made["nodes"][0]["id"]
    for method, path, body in (
        ("GET", f"contexts/{context}", None),
        ("DELETE", f"contexts/{context}", None),
        ("POST", f"contexts/{context}/prompt", {"prompt": "?"}),
        ("POST", f"contexts/{context}/prompt", {"prompt": "?", "stream": True}),
        ("POST", f"contexts/{context}/nodes", {"content": "x"}),
        ("DELETE", f"contexts/{context}/nodes/{node}", None),
        ("GET", f"tasks/{task}", None),
        ("POST", f"tasks/{task}/cancel", None),
    ):
        answer = talking.http.request(method, f"{BASE}/{path}", json=body, headers=stranger.bearer)
        assert answer.status_code == 404, (method, path, answer.text)
        assert "a secret" not in answer.text
    listed = talking.http.get(f"{BASE}/contexts", headers=stranger.bearer).json()
    assert listed["contexts"] == []
    assert said(talking, ann, context) == [("user", "a secret")], "it is as it was"


def test_contexts_are_listed_in_pages_without_their_nodes(talking: Gateway) -> None:
    bob = talking.new_key("user", tenant="pages")
    made = {create(talking, bob, "scripted", {"content": "x"})["id"] for _ in range(5)}
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = talking.http.get(f"{BASE}/contexts", params=params, headers=bob.bearer).json()
        assert len(page["contexts"]) <= 2 and all("nodes" not in one for one in page["contexts"])
        assert all(one["node_count"] == 1 for one in page["contexts"])
        seen += [one["id"] for one in page["contexts"]]
        cursor = page.get("next_cursor")
        if not cursor:
            break
    assert len(seen) == 5 and set(seen) == made


def test_health_and_models(talking: Gateway, ann: Key) -> None:
    health = talking.http.get(f"{BASE}/health", headers=ann.bearer).json()
    assert health["status"] == "ok" and health["queue_depth"] >= 0
    models = talking.http.get(f"{BASE}/models", headers=ann.bearer).json()["models"]
    assert {one["id"] for one in models} == {GUIDES_MODEL, "scripted"}
    narrowed = talking.new_key("user", grants=("model:scripted", "contexts:*"))
    models = talking.http.get(f"{BASE}/models", headers=narrowed.bearer).json()["models"]
    assert [one["id"] for one in models] == ["scripted"]


def test_a_key_that_may_only_look_changes_nothing(talking: Gateway) -> None:
    context = create(talking, key_of(talking, "ann"))["id"]
    looker = key_of(talking, "ann", "contexts:read", "model:*")
    assert talking.http.get(f"{BASE}/contexts/{context}", headers=looker.bearer).status_code == 200
    refused = prompt(talking, looker, context, "?")
    assert refused.status_code == 403 and refused.json()["code"] == "insufficient_scope", refused.text


def test_more_contexts_than_a_tenant_may_have_are_refused(
    start: Callable[..., Gateway], engine: Engine, scripted: Scripted
) -> None:
    gateway = start(config(engine, scripted, mcp={"enabled": True, "max_contexts": 2}))
    ann, other = gateway.new_key("user"), gateway.new_key("user", tenant="other")
    kept = [create(gateway, ann)["id"] for _ in range(2)]

    def wanted() -> httpx.Response:
        headers = ann.bearer | {"Idempotency-Key": "the third"}
        return gateway.http.post(f"{BASE}/contexts", json={"model_id": "scripted"}, headers=headers)

    full = wanted()
    assert full.status_code == 409 and full.json()["code"] == "context_limit" and "2" in full.json()["detail"], (
        full.text
    )
    create(gateway, other)
    gateway.http.delete(f"{BASE}/contexts/{kept[0]}", headers=ann.bearer).raise_for_status()
    # As it was told to: under the same key.
    made = wanted()
    assert made.status_code == 201 and wanted().json() == made.json(), made.text


def test_a_prompt_under_way_is_finished_once_after_a_kill(
    folder: pathlib.Path, engine: Engine, scripted: Scripted
) -> None:
    settings = config(engine, scripted, tasks={"lease_s": 3})
    go = threading.Event()
    scripted.will(held(go, "before the kill"), script.say("after the kill"))
    first = Gateway(folder / "contexts-killed", settings)
    ann = first.new_key("user")
    context = create(first, ann)["id"]
    taken = prompt(first, ann, context, "are you there?", headers={"Prefer": "respond-async"})
    harness.wait_for("the prompt at the engine", lambda: len(scripted.heard) == 1)
    first.close()
    go.set()
    with harness.closing(Gateway(folder / "contexts-killed", settings)) as second:
        done = second.http.get(taken.headers["location"], params={"wait": "50s"}, headers=ann.bearer).json()
        assert done["status"] == "completed" and done["attempts"] == 2, done
        expected = [("user", "are you there?"), ("assistant", "after the kill")]
        assert said(second, ann, context) == expected
        # Nothing is left that would be asked again.
        prompt(second, ann, context, "and again?").raise_for_status()
        assert len(said(second, ann, context)) == 4 and len(scripted.heard) == 3
