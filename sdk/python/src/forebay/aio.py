"""The same client for programs that await: contexts and tasks. One event loop at a time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from forebay import calls
from forebay.client import heard
from forebay.errors import ForebayError
from forebay.made import Made
from forebay.record import Record
from forebay.retry import Pace, Retry, may_pass, retry_after
from forebay.settings import TIMEOUT_S, Settings


class AsyncClient:
    """One gateway as one caller sees it; see `forebay.Client`."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        requests_per_minute: float | None = None,
        retry: Retry | None = None,
        http: httpx.AsyncClient | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or Settings.of(
            url, key, timeout=timeout, requests_per_minute=requests_per_minute, retry=retry or Retry()
        )
        self.http = http or httpx.AsyncClient(timeout=self.settings.timeout, trust_env=False, follow_redirects=False)
        self._pace = Pace(self.settings.requests_per_minute)
        self.made = Made(self.settings.max_contexts)
        self.contexts = AsyncContexts(self)
        self.tasks = AsyncTasks(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | str | os.PathLike[str], key: str | None = None) -> AsyncClient:
        return cls(settings=Settings.from_config(config, key))

    async def models(self) -> Record:
        return await self.do(calls.Call("GET", f"{calls.BASE}/models"))

    async def health(self) -> Record:
        return await self.do(calls.Call("GET", f"{calls.BASE}/health"))

    async def do(self, call: calls.Call) -> Record:
        """Sends it, again where that is safe and may help, and waits for its task where it is to be waited for."""
        attempt, call = 0, call.patient(self.settings.timeout)
        how: dict[str, Any] = {"timeout": self.settings.timeout + call.held_s} if call.held_s else {}
        how |= {"json": call.body, "params": call.params, "headers": {**self._headers, **call.headers}}
        while True:
            attempt += 1
            await self._keep_pace()
            try:
                with heard():
                    answer = await self.http.request(call.method, self.settings.url + call.path, **how)
            except ForebayError as fault:
                await self._pause(call, attempt, fault, None)
                continue
            task = answer.headers.get("x-task-id")
            told = retry_after(answer.headers.get("retry-after"), time.time())
            if may_pass(answer.status_code, told):
                await self._pause(call, attempt, ForebayError.of(answer.status_code, answer.content, task), told)
                continue
            body = calls.read(answer.status_code, answer.content, task)
            if answer.status_code == 202 and call.waits:
                return calls.outcome(await self.tasks.wait(body.id))
            if answer.status_code != 202 and call.respond_async and task is not None:
                # It is over already, where it was quick or is asked for again: a task all the same, as was asked.
                return await self.tasks.get(task)
            return body

    async def events(self, call: calls.Call) -> AsyncIterator[Record]:
        events = calls.Events()
        await self._keep_pace()
        headers = {**self._headers, **call.name}
        url = self.settings.url + call.path
        with heard():
            async with self.http.stream(call.method, url, json=call.body, headers=headers) as answer:
                if answer.status_code != 200:
                    calls.read(answer.status_code, await answer.aread(), answer.headers.get("x-task-id"))
                async for line in answer.aiter_lines():
                    event = events.line(line)
                    if event is not None:
                        yield event
                    if events.is_over:
                        return
        events.end()

    async def _pause(self, call: calls.Call, attempt: int, fault: ForebayError, told: float | None) -> None:
        pause = self.settings.retry.pause(attempt, told) if call.repeats else None
        if pause is None:
            raise fault
        await asyncio.sleep(pause)

    async def _keep_pace(self) -> None:
        await asyncio.sleep(self._pace.wait(time.monotonic()))

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.settings.key}"}

    async def close(self) -> None:
        await self.http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.settings.url!r})"


class AsyncContexts:
    """As `forebay.contexts.Contexts`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._made = client.made

    async def create(self, model_id: str, nodes: Any = (), **more: Any) -> Record:
        call = calls.create_context(model_id, nodes, **more)
        self._made.check()
        made = await self._client.do(call)
        self._made.add(made)
        return made

    async def get(self, context_id: str) -> Record:
        return await self._client.do(calls.get_context(context_id))

    async def list(self, *, limit: int | None = None, cursor: str | None = None) -> Record:
        return await self._client.do(calls.list_contexts(limit=limit, cursor=cursor))

    async def delete(self, context_id: str, **more: Any) -> Record:
        gone = await self._client.do(calls.delete_context(context_id, **more))
        self._made.remove(context_id, gone)
        return gone

    async def prompt(self, context_id: str, text: str, **more: Any) -> Record:
        return await self._client.do(calls.prompt(context_id, text, **more))

    def stream(self, context_id: str, text: str, **more: Any) -> AsyncIterator[Record]:
        return self._client.events(calls.prompt(context_id, text, stream=True, **more))

    async def add_node(self, context_id: str, content: str, **more: Any) -> Record:
        return await self._client.do(calls.add_node(context_id, content, **more))

    async def delete_node(self, context_id: str, node_id: str, **more: Any) -> Record:
        return await self._client.do(calls.delete_node(context_id, node_id, **more))


class AsyncTasks:
    """As `forebay.contexts.Tasks`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def submit(self, task_type: str, body: dict[str, Any], **more: Any) -> Record:
        return await self._client.do(calls.submit_task(task_type, body, **more))

    async def list(self, **more: Any) -> Record:
        return await self._client.do(calls.list_tasks(**more))

    async def get(self, task_id: str, **more: Any) -> Record:
        task = await self._client.do(calls.get_task(task_id, **more))
        self._client.made.hear(task)
        return task

    async def cancel(self, task_id: str, **more: Any) -> Record:
        return await self._client.do(calls.cancel_task(task_id, **more))

    async def requeue(self, task_id: str, **more: Any) -> Record:
        return await self._client.do(calls.requeue_task(task_id, **more))

    async def wait(self, task_id: str, timeout: float | None = None) -> Record:
        until = time.monotonic() + (self._client.settings.timeout if timeout is None else timeout)
        while True:
            left = until - time.monotonic()
            task = await self.get(task_id, wait_s=min(calls.WAIT_S, max(left, 1)))
            if task.status in calls.OVER:
                return task
            if left <= 0:
                raise calls.unfinished(task)
