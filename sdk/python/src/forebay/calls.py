"""The requests about contexts and tasks, as plain values: what the two clients send, and how they read the answers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from forebay.errors import ForebayError
from forebay.record import Record, parse

BASE = "/api/v1/mcp"
# One question for a task is held open for so long by the gateway; who waits longer asks again.
WAIT_S = 20
OVER = frozenset({"completed", "failed", "cancelled", "dead"})


@dataclass(frozen=True)
class Call:
    """One request. With an idempotency key it may be sent twice and is done once."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    params: dict[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    # Whether a task that is not over yet is waited for, or asked to be answered with at once.
    waits: bool = False
    respond_async: bool = False
    # For so many seconds the gateway is asked to hold its answer back, beside the time that an answer takes.
    held_s: int = 0

    @property
    def repeats(self) -> bool:
        return self.method == "GET" or self.idempotency_key is not None

    @property
    def headers(self) -> dict[str, str]:
        prefer = {}
        if self.respond_async:
            prefer = {"Prefer": "respond-async"}
        elif self.waits:
            prefer = {"Prefer": f"wait={self.held_s}"}
        return prefer | self.name

    @property
    def name(self) -> dict[str, str]:
        return {} if self.idempotency_key is None else {"Idempotency-Key": self.idempotency_key}

    def patient(self, timeout: float) -> Call:
        """The same by a client that waits so long at most."""
        return replace(self, held_s=int(min(WAIT_S, timeout))) if self.waits else self


def _told(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _path(*parts: str) -> str:
    return "/".join([BASE, *(quote(part, safe="") for part in parts)])


def _key(given: str | None) -> str:
    return given or str(uuid.uuid4())


def _change(
    method: str, path: str, body: dict[str, Any] | None = None, *, key: str | None, respond_async: bool = False
) -> Call:
    """A change of a context: a task, and waited for unless it is to be answered with at once."""
    return Call(method, path, body, {}, _key(key), waits=not respond_async, respond_async=respond_async)


def create_context(
    model_id: str,
    nodes: Sequence[Mapping[str, Any]] = (),
    *,
    metadata: Mapping[str, Any] | None = None,
    user_id: str | None = None,
    return_context: bool | None = None,
    priority: str | int | None = None,
    idempotency_key: str | None = None,
    respond_async: bool = False,
) -> Call:
    body = _told(
        model_id=model_id,
        nodes=[dict(node) for node in nodes],
        metadata=metadata,
        user_id=user_id,
        return_context=return_context,
        priority=priority,
    )
    return _change("POST", _path("contexts"), body, key=idempotency_key, respond_async=respond_async)


def prompt(
    context_id: str,
    text: str,
    *,
    stream: bool = False,
    metadata: Mapping[str, Any] | None = None,
    user_id: str | None = None,
    priority: str | int | None = None,
    return_context: bool | None = None,
    idempotency_key: str | None = None,
    respond_async: bool = False,
    **more: Any,
) -> Call:
    """`more` are the model's own parameters (`max_tokens`, `temperature`), `mcp_context` and `tools`."""
    if stream and respond_async:
        raise ValueError("a prompt is streamed, or answered later, and not both")
    body = _told(
        prompt=text,
        stream=stream or None,
        metadata=metadata,
        user_id=user_id,
        priority=priority,
        return_context=return_context,
        **more,
    )
    path = _path("contexts", context_id, "prompt")
    return _change("POST", path, body, key=idempotency_key, respond_async=respond_async)


def add_node(
    context_id: str,
    content: str,
    *,
    role: str | None = None,
    content_type: str | None = None,
    parent_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    priority: str | int | None = None,
    return_context: bool | None = None,
    idempotency_key: str | None = None,
    respond_async: bool = False,
) -> Call:
    body = _told(
        content=content,
        role=role,
        content_type=content_type,
        parent_id=parent_id,
        metadata=metadata,
        priority=priority,
        return_context=return_context,
    )
    path = _path("contexts", context_id, "nodes")
    return _change("POST", path, body, key=idempotency_key, respond_async=respond_async)


def delete_node(
    context_id: str, node_id: str, *, idempotency_key: str | None = None, respond_async: bool = False
) -> Call:
    path = _path("contexts", context_id, "nodes", node_id)
    return _change("DELETE", path, key=idempotency_key, respond_async=respond_async)


def delete_context(context_id: str, *, idempotency_key: str | None = None, respond_async: bool = False) -> Call:
    return _change("DELETE", _path("contexts", context_id), key=idempotency_key, respond_async=respond_async)


def get_context(context_id: str) -> Call:
    return Call("GET", _path("contexts", context_id))


def list_contexts(*, limit: int | None = None, cursor: str | None = None) -> Call:
    return Call("GET", _path("contexts"), params=_told(limit=limit, cursor=cursor))


def submit_task(
    task_type: str,
    body: Mapping[str, Any],
    *,
    priority: str | int | None = None,
    run_at: str | None = None,
    idempotency_key: str | None = None,
) -> Call:
    told = _told(type=task_type, input=dict(body), priority=priority, run_at=run_at)
    return Call("POST", _path("tasks"), told, idempotency_key=_key(idempotency_key))


def list_tasks(
    *, status: str | None = None, task_type: str | None = None, limit: int | None = None, cursor: str | None = None
) -> Call:
    return Call("GET", _path("tasks"), params=_told(status=status, type=task_type, limit=limit, cursor=cursor))


def get_task(task_id: str, *, wait_s: float | None = None, with_input: bool = False) -> Call:
    held_s = 0 if wait_s is None else max(1, round(wait_s))
    told = _told(wait=f"{held_s}s" if held_s else None, input="true" if with_input else None)
    return Call("GET", _path("tasks", task_id), params=told, held_s=held_s)


def cancel_task(task_id: str, *, idempotency_key: str | None = None) -> Call:
    return Call("POST", _path("tasks", task_id, "cancel"), idempotency_key=_key(idempotency_key))


def requeue_task(task_id: str, *, idempotency_key: str | None = None) -> Call:
    return Call("POST", _path("tasks", task_id, "requeue"), idempotency_key=_key(idempotency_key))


def read(status: int, content: bytes, task_id: str | None = None) -> Record:
    """An answer in one piece, or the error that it tells; `task_id` is the task that it names, if it names one."""
    try:
        body = parse(content)
    except json.JSONDecodeError:
        body = None
    if 200 <= status < 300 and isinstance(body, Record):
        return body
    raise ForebayError.read(body, status, task_id)


def outcome(task: Record) -> Record:
    """What a task that is over came to: its output with the task's id in it, or its error."""
    if task.status == "completed":
        return Record({**(task.get("output") or {}), "task_id": task.id})
    error = task.get("error") or {}
    words = " ".join(str(error[part]) for part in ("message", "hint") if error.get(part))
    code = error.get("code") or task.status
    raise ForebayError(words or f"the task {task.id} ended as {task.status}", code=code, task_id=task.id)


def unfinished(task: Record) -> ForebayError:
    """Nobody waits any longer; it goes on."""
    words = f"the task {task.id} is not over yet: it is {task.status}"
    return ForebayError(words, code="timed_out", task_id=task.id)


class Events:
    """Puts the lines of a stream together: `delta`, then `node`, or `error`."""

    def __init__(self) -> None:
        self._name, self._data = "message", [""]
        self._data.clear()
        self.is_over = False

    def line(self, line: str) -> Record | None:
        """What this line completes: `{"event": …}` and the members of its data."""
        if line.startswith("event:"):
            self._name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            self._data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and self._data:
            name, data = self._name, parse("\n".join(self._data))
            self._name, self._data = "message", []
            if name == "error":
                raise ForebayError.read(data)
            self.is_over = name == "node"
            return Record({**data, "event": name})
        return None

    def end(self) -> None:
        if not self.is_over:
            raise ForebayError("the answer broke off before its end", code="upstream_truncated")
