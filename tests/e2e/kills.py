"""Clients that write down what they were promised, while the processes that promised it are killed.

Each client repeats what has a name until it is acknowledged, and goes on; what has none it sends once. The engine and
the endpoint of the tools write down what reaches them, in the same journal. In the end all of it must agree with what
there is.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.server
import json
import random
import threading
import time
from typing import Any

import httpx

import harness
import scripted as script
from harness import Gateway, Key
from scripted import Scripted
from test_mcp_tasks import Modern

TASKS = "/api/v1/mcp/tasks"
CONTEXTS = "/api/v1/mcp/contexts"
AGAIN_SECONDS = 0.05
# What an engine or a tool takes at most, so that kills find it at work.
WORK_SECONDS = 0.1
PART_LOOKED_AT = 0.3
EFFECT, LOOK = "effect", "look"
FUNCTION = {"type": "function", "function": {"name": EFFECT}}
MOMENT = threading.Event()


class Journal:
    """What happened, in the order in which it was seen by whoever takes part."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.length = 0
        self.places: dict[tuple[str, str], list[int]] = collections.defaultdict(list)

    def note(self, what: str, name: str) -> int:
        with self.changed:
            self.length += 1
            self.places[what, name].append(self.length)
            self.changed.notify_all()
            return self.length

    def wait_for(self, more: int) -> None:
        with self.changed:
            until = self.length + more
            came = self.changed.wait_for(lambda: self.length >= until, harness.WAIT_SECONDS_MAX)
            assert came, f"nothing goes on any more, after {self.length} happenings"


class Endpoint:
    """Where the tools lead: `POST` has an effect, `GET` looks."""

    def __init__(self, journal: Journal) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self.answer(EFFECT, body["id"])

            def do_GET(self) -> None:
                self.answer(LOOK, self.path.rpartition("/")[2])

            def answer(self, what: str, name: str) -> None:
                journal.note(what, name)
                MOMENT.wait(random.random() * WORK_SECONDS)
                text = json.dumps({"done": name}).encode()
                # Whoever asked may have been killed.
                with contextlib.suppress(OSError):
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        hush(self.server)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def tools(self) -> list[dict[str, Any]]:
        name = {"id": {"type": "string", "required": True}}
        return [
            {
                "name": EFFECT,
                "description": "Does something.",
                "parameters": name,
                "endpoint": {"url": f"{self.url}/", "method": "POST"},
            },
            {
                "name": LOOK,
                "description": "Looks at something.",
                "parameters": name,
                "endpoint": {"url": self.url + "/{id}", "method": "GET"},
            },
        ]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def engine(journal: Journal) -> Scripted:
    """Answers what it is asked last, and calls the tool first where it is given one."""

    def reply(wire: script.Wire) -> None:
        messages = wire.body["messages"]
        name = next(one["content"] for one in reversed(messages) if one["role"] == "user")
        journal.note("asked", name)
        MOMENT.wait(random.random() * WORK_SECONDS)
        if wire.body.get("tools") and messages[-1]["role"] == "user":
            script.call((EFFECT, {"id": name}))(wire)
        else:
            script.say(said(name))(wire)

    made = Scripted()
    made.finally_ = reply
    hush(made.server)
    return made


def hush(server: http.server.HTTPServer) -> None:
    """Requests that break off are what this is about."""
    server.handle_error = lambda *_: None  # type: ignore[method-assign]


def said(name: str) -> str:
    return f"said to {name}"


@dataclasses.dataclass
class Deed:
    """What somebody was promised."""

    kind: str
    name: str
    task: str
    # Where in the journal its client knew that it was over, and what it was shown then.
    over_at: int | None = None
    seen: dict[str, Any] | None = None
    # Nodes that it makes, and whether they were taken away since.
    contents: tuple[str, ...] = ()
    is_gone: bool = False
    # The response that it makes, by its id.
    response: str = ""


@dataclasses.dataclass
class Kept:
    """A context as its client believes it to be."""

    id: str
    deeds: list[Deed] = dataclasses.field(default_factory=list)
    is_deleted: bool = False


class Client:
    """One who works, in one context after another."""

    def __init__(self, number: int, gateway: Gateway, key: Key, journal: Journal, seed: int) -> None:
        self.number, self.gateway, self.key, self.journal = number, gateway, key, journal
        self.chance = random.Random(f"{seed} {number}")
        self.http = httpx.Client(base_url=gateway.url, trust_env=False, timeout=harness.WAIT_SECONDS_MAX)
        self.count = 0
        self.deeds: list[Deed] = []
        self.contexts: list[Kept] = []
        # Nodes of the context that may be taken away, by the deed that made them.
        self.nodes: list[tuple[Deed, str]] = []

    def work(self, over: threading.Event) -> None:
        ways = {
            self.node: 4,
            self.node_later: 4,
            self.prompt: 3,
            self.streamed_prompt: 1,
            self.prompt_with_tools: 2,
            self.call: 2,
            self.look: 1,
            self.response: 2,
            self.cancelled: 1,
            self.forget: 2,
            self.begin: 1,
        }
        self.begin()
        while not over.is_set():
            (way,) = self.chance.choices(list(ways), list(ways.values()))
            way()
        self.http.close()

    @property
    def here(self) -> Kept:
        return self.contexts[-1]

    def named(self) -> str:
        self.count += 1
        return f"{self.number}-{self.count}"

    def once(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response | None:
        """One request; nothing where nobody knows what became of it."""
        with contextlib.suppress(httpx.HTTPError):
            answer = self.http.request(method, path, json=body, headers=self.key.bearer | headers)
            if answer.status_code != 503:
                assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
                return answer
        return None

    def sent(self, name: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """The same request under the same name, until it is acknowledged."""
        self.journal.note("sent", name)
        until = time.monotonic() + 2 * harness.WAIT_SECONDS_MAX
        while (answer := self.once(method, path, body, **{"Idempotency-Key": name}, **headers)) is None:
            assert time.monotonic() < until, f"nobody acknowledges {method} {path} {name}"
            MOMENT.wait(AGAIN_SECONDS)
        self.journal.note("acknowledged", name)
        return answer

    def promised(self, kind: str, name: str, task: str, *contents: str) -> Deed:
        deed = Deed(kind, name, task, contents=contents)
        self.deeds.append(deed)
        if contents:
            self.here.deeds.append(deed)
        return deed

    def came(self, deed: Deed, answer: httpx.Response) -> dict[str, Any]:
        """Notes that it is over, where it is; some of those are looked at again in the end."""
        if answer.status_code != 202:
            deed.over_at = self.journal.note("over", deed.name)
            if self.chance.random() < PART_LOOKED_AT:
                shown = self.once("GET", f"{TASKS}/{deed.task}")
                deed.seen = shown.json() if shown else None
        return answer.json()

    def begin(self) -> None:
        """A new context; the one before it is taken away, or left as it is."""
        if self.contexts and self.chance.random() < 0.5:
            name = self.named()
            answer = self.sent(name, "DELETE", f"{CONTEXTS}/{self.here.id}")
            self.came(self.promised("delete", name, answer.headers["x-task-id"]), answer)
            self.here.is_deleted = True
        name = self.named()
        body = {"model_id": "scripted", "nodes": [{"content": name, "role": "system"}]}
        answer = self.sent(name, "POST", CONTEXTS, body)
        assert answer.status_code == 201, answer.text
        self.contexts.append(Kept(answer.json()["id"]))
        self.nodes = []
        self.came(self.promised("create", name, answer.headers["x-task-id"], name), answer)

    def node(self, **headers: str) -> None:
        name = self.named()
        answer = self.sent(name, "POST", f"{CONTEXTS}/{self.here.id}/nodes", {"content": name}, **headers)
        task = answer.json()["id"] if answer.status_code == 202 else answer.headers["x-task-id"]
        deed = self.promised("node", name, task, name)
        told = self.came(deed, answer)
        if answer.status_code != 202:
            self.nodes.append((deed, told["node"]["id"]))

    def node_later(self) -> None:
        self.node(Prefer="respond-async")

    def forget(self) -> None:
        if not self.nodes:
            return
        deed, node = self.nodes.pop(self.chance.randrange(len(self.nodes)))
        name = self.named()
        answer = self.sent(name, "DELETE", f"{CONTEXTS}/{self.here.id}/nodes/{node}")
        deed.is_gone = True
        self.came(self.promised("forget", name, answer.headers["x-task-id"]), answer)

    def prompt(self) -> None:
        name = self.named()
        answer = self.sent(name, "POST", f"{CONTEXTS}/{self.here.id}/prompt", {"prompt": name})
        deed = self.promised("prompt", name, answer.headers["x-task-id"], name, said(name))
        told = self.came(deed, answer)
        if answer.status_code == 200:
            assert told["node"]["content"] == said(name), told

    def streamed_prompt(self) -> None:
        """Listens to the answer; where that breaks off it asks again, for the whole of it."""
        name, whole = self.named(), ""
        path, body = f"{CONTEXTS}/{self.here.id}/prompt", {"prompt": name}
        headers = self.key.bearer | {"Idempotency-Key": name}
        self.journal.note("sent", name)
        with (
            contextlib.suppress(httpx.HTTPError),
            self.http.stream("POST", path, json=body | {"stream": True}, headers=headers) as stream,
        ):
            if stream.status_code == 200:
                whole = stream.read().decode()
        answer = self.sent(name, "POST", path, body)
        deed = self.promised("prompt", name, answer.headers["x-task-id"], name, said(name))
        told = self.came(deed, answer)
        if "event: node" in whole and answer.status_code == 200:
            assert told["node"]["id"] in whole and "idempotent-replayed" in answer.headers

    def submitted(self, kind: str, of: str, body: dict[str, Any], *contents: str, **more: Any) -> Deed:
        name = self.named()
        contents = tuple(text.format(name) for text in contents)
        filled = json.loads(json.dumps(body).replace("NAME", name))
        answer = self.sent(name, "POST", TASKS, {"type": of, "input": filled} | more)
        return self.promised(kind, name, answer.json()["id"], *contents)

    def prompt_with_tools(self) -> None:
        body = {"context_id": self.here.id, "prompt": "NAME", "tools": [FUNCTION]}
        self.submitted("tools", "mcp.add_prompt", body, "{}", said("{}"))

    def call(self) -> None:
        self.submitted("call", "tools/call", {"name": EFFECT, "arguments": {"id": "NAME"}})

    def cancelled(self) -> None:
        body = {"context_id": self.here.id, "content": "never"}
        ahead = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        deed = self.submitted("cancelled", "mcp.add_node", body, run_at=ahead)
        path = f"{TASKS}/{deed.task}"

        def is_cancelled() -> bool:
            shown = self.once("GET", path)
            if shown and shown.json()["status"] == "cancelled":
                return True
            # Where it was heard and the answer was not, it is refused the second time.
            with contextlib.suppress(httpx.HTTPError):
                self.http.post(f"{path}/cancel", headers=self.key.bearer)
            return False

        harness.wait_for(f"{deed.task} to be cancelled", is_cancelled)
        deed.over_at = self.journal.note("over", deed.name)

    def look(self) -> None:
        """Over MCP, without a name: nobody knows of it who was not told its task."""
        name = self.named()
        self.journal.note("sent", name)
        call = {"name": LOOK, "arguments": {"id": name}, "_meta": {"io.forebay/task": True}}
        with contextlib.suppress(httpx.HTTPError, json.JSONDecodeError):
            begun = Modern(self.gateway, self.key).send("tools/call", call).get("result")
            if begun:
                self.promised("look", name, begun["taskId"])
                self.journal.note("acknowledged", name)

    def response(self) -> None:
        name = self.named()
        self.journal.note("sent", name)
        answer = self.once("POST", "/v1/responses", {"model": "scripted", "input": name, "background": True})
        if answer:
            response = answer.json()["id"]
            drawn, _, at = response.removeprefix("resp_").partition("_")
            self.promised("response", name, at + drawn).response = response
            self.journal.note("acknowledged", name)
