"""Contexts and tasks for programs that wait; `forebay.aio` has the same for those that await."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from forebay import calls
from forebay.record import Record

if TYPE_CHECKING:
    from forebay.client import Client


class Contexts:
    """What the gateway keeps of conversations. A change has an idempotency key, so that it may be sent twice."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._made = client.made

    def create(self, model_id: str, nodes: Any = (), **more: Any) -> Record:
        """A new context; `more` as in `forebay.calls.create_context`. With `respond_async=True` its task."""
        call = calls.create_context(model_id, nodes, **more)
        self._made.check()
        made = self._client.do(call)
        self._made.add(made)
        return made

    def get(self, context_id: str) -> Record:
        return self._client.do(calls.get_context(context_id))

    def list(self, *, limit: int | None = None, cursor: str | None = None) -> Record:
        """One page: `contexts`, and `next_cursor` where there are more."""
        return self._client.do(calls.list_contexts(limit=limit, cursor=cursor))

    def delete(self, context_id: str, **more: Any) -> Record:
        """`more` as in `forebay.calls.delete_context`. With `respond_async=True` its task."""
        gone = self._client.do(calls.delete_context(context_id, **more))
        self._made.remove(context_id, gone)
        return gone

    def prompt(self, context_id: str, text: str, **more: Any) -> Record:
        """The answer; `more` as in `forebay.calls.prompt`. With `respond_async=True` its task."""
        return self._client.do(calls.prompt(context_id, text, **more))

    def stream(self, context_id: str, text: str, **more: Any) -> Iterator[Record]:
        """Records with `event`: `delta` with `content`, `restart` where it begins anew, then `node` with the answer."""
        return self._client.events(calls.prompt(context_id, text, stream=True, **more))

    def add_node(self, context_id: str, content: str, **more: Any) -> Record:
        """`more` as in `forebay.calls.add_node`. With `respond_async=True` its task."""
        return self._client.do(calls.add_node(context_id, content, **more))

    def delete_node(self, context_id: str, node_id: str, **more: Any) -> Record:
        """`more` as in `forebay.calls.delete_node`. With `respond_async=True` its task."""
        return self._client.do(calls.delete_node(context_id, node_id, **more))


class Tasks:
    """Work that the gateway does later."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def submit(self, task_type: str, body: dict[str, Any], **more: Any) -> Record:
        return self._client.do(calls.submit_task(task_type, body, **more))

    def list(self, **more: Any) -> Record:
        """One page: `tasks`, and `next_cursor` where there are more."""
        return self._client.do(calls.list_tasks(**more))

    def get(self, task_id: str, **more: Any) -> Record:
        task = self._client.do(calls.get_task(task_id, **more))
        self._client.made.hear(task)
        return task

    def cancel(self, task_id: str, **more: Any) -> Record:
        return self._client.do(calls.cancel_task(task_id, **more))

    def requeue(self, task_id: str, **more: Any) -> Record:
        return self._client.do(calls.requeue_task(task_id, **more))

    def wait(self, task_id: str, timeout: float | None = None) -> Record:
        """The task once it is over, or `timed_out` after so many seconds (the client's own unless given)."""
        until = time.monotonic() + (self._client.settings.timeout if timeout is None else timeout)
        while True:
            left = until - time.monotonic()
            task = self.get(task_id, wait_s=min(calls.WAIT_S, max(left, 1)))
            if task.status in calls.OVER:
                return task
            if left <= 0:
                raise calls.unfinished(task)
