"""A client of one gateway: chats as OpenAI's client has them, contexts, and tasks."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, overload

import httpx

from forebay import calls
from forebay.contexts import Contexts, Tasks
from forebay.errors import ForebayError, unreachable
from forebay.made import Made
from forebay.record import Record, parse
from forebay.retry import Pace, Retry, may_pass, retry_after
from forebay.settings import TIMEOUT_S, Settings


class Client:
    """One gateway as one caller sees it. One thread at a time.

    Address and key are those of `FOREBAY_URL` and `FOREBAY_KEY` where they are left out, as for the command line.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        requests_per_minute: float | None = None,
        retry: Retry | None = None,
        http: httpx.Client | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or Settings.of(
            url, key, timeout=timeout, requests_per_minute=requests_per_minute, retry=retry or Retry()
        )
        # The key goes to this gateway alone: no redirect is followed, and no proxy of the environment is asked.
        self.http = http or httpx.Client(timeout=self.settings.timeout, trust_env=False, follow_redirects=False)
        self._pace = Pace(self.settings.requests_per_minute)
        self.made = Made(self.settings.max_contexts)
        self.chat = Chat(self)
        self.contexts = Contexts(self)
        self.tasks = Tasks(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | str | os.PathLike[str], key: str | None = None) -> Client:
        """From `mcp: {enabled, server_url, api_version, max_contexts, timeout, requests_per_minute}`.

        A mapping, or the path of a YAML file.
        """
        return cls(settings=Settings.from_config(config, key))

    @property
    def url(self) -> str:
        return self.settings.url

    def request(self, method: str, path: str, *, key: bool = True, **how: Any) -> httpx.Response:
        """Any route of the gateway, whatever it answers; sent once."""
        headers = {**(self._headers if key else {}), **(how.pop("headers", None) or {})}
        self._keep_pace()
        with heard():
            return self.http.request(method, self.url + path, headers=headers, **how)

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.request("POST", path, json=body)

    def models(self) -> Record:
        return self.do(calls.Call("GET", f"{calls.BASE}/models"))

    def health(self) -> Record:
        return self.do(calls.Call("GET", f"{calls.BASE}/health"))

    def do(self, call: calls.Call) -> Record:
        """Sends it, again where that is safe and may help, and waits for its task where it is to be waited for."""
        attempt, call = 0, call.patient(self.settings.timeout)
        how: dict[str, Any] = {"timeout": self.settings.timeout + call.held_s} if call.held_s else {}
        how |= {"json": call.body, "params": call.params, "headers": call.headers}
        while True:
            attempt += 1
            try:
                answer = self.request(call.method, call.path, **how)
            except ForebayError as fault:
                self._pause(call, attempt, fault, None)
                continue
            task = answer.headers.get("x-task-id")
            told = retry_after(answer.headers.get("retry-after"), time.time())
            if may_pass(answer.status_code, told):
                self._pause(call, attempt, ForebayError.of(answer.status_code, answer.content, task), told)
                continue
            body = calls.read(answer.status_code, answer.content, task)
            if answer.status_code == 202 and call.waits:
                return calls.outcome(self.tasks.wait(body.id))
            if answer.status_code != 202 and call.respond_async and task is not None:
                # It is over already, where it was quick or is asked for again: a task all the same, as was asked.
                return self.tasks.get(task)
            return body

    def events(self, call: calls.Call) -> Iterator[Record]:
        """The events of a stream. It is not sent again: whoever asks again under the same key meets the same task."""
        events = calls.Events()
        self._keep_pace()
        headers = {**self._headers, **call.name}
        with heard(), self.http.stream(call.method, self.url + call.path, json=call.body, headers=headers) as answer:
            if answer.status_code != 200:
                calls.read(answer.status_code, answer.read(), answer.headers.get("x-task-id"))
            for line in answer.iter_lines():
                event = events.line(line)
                if event is not None:
                    yield event
                if events.is_over:
                    return
        events.end()

    def _pause(self, call: calls.Call, attempt: int, fault: ForebayError, told: float | None) -> None:
        pause = self.settings.retry.pause(attempt, told) if call.repeats else None
        if pause is None:
            raise fault
        time.sleep(pause)

    def _keep_pace(self) -> None:
        time.sleep(self._pace.wait(time.monotonic()))

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.settings.key}"}

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"


@contextmanager
def heard() -> Iterator[None]:
    """What goes wrong on the way is an error of this package."""
    try:
        yield
    except httpx.HTTPError as fault:
        raise unreachable(fault) from fault


class Chat:
    def __init__(self, client: Client) -> None:
        self.completions = Completions(client)


class Completions:
    def __init__(self, client: Client) -> None:
        self._client = client

    @overload
    def create(
        self, *, model: str, messages: Sequence[dict[str, Any]], stream: Literal[False] = False, **more: Any
    ) -> Record: ...

    @overload
    def create(
        self, *, model: str, messages: Sequence[dict[str, Any]], stream: Literal[True], **more: Any
    ) -> Iterator[Record]: ...

    def create(
        self, *, model: str, messages: Sequence[dict[str, Any]], stream: bool = False, **more: Any
    ) -> Record | Iterator[Record]:
        """A chat completion; with `stream=True` its chunks, one after the other.

        Whatever else is given goes into the request as it is: OpenAI's own parameters, and the gateway's
        `mcp_context={"providers": […], "query": …}` and `tool_execution="client"`.
        """
        body = {"model": model, "messages": list(messages), "stream": stream, **more}
        if stream:
            return self._chunks(body)
        answer = self._client.post("/v1/chat/completions", body)
        return _read(answer)

    def _chunks(self, body: dict[str, Any]) -> Iterator[Record]:
        client = self._client
        path, headers = f"{client.url}/v1/chat/completions", client._headers
        client._keep_pace()
        with heard(), client.http.stream("POST", path, json=body, headers=headers) as answer:
            if answer.status_code != 200:
                answer.read()
                _read(answer)
            for line in answer.iter_lines():
                if not line.startswith("data:"):
                    continue
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                chunk = parse(data)
                if "error" in chunk:
                    raise ForebayError.read(chunk)
                yield chunk
        raise ForebayError("the answer broke off before its end", code="upstream_truncated")


def _read(answer: httpx.Response) -> Record:
    try:
        body = parse(answer.content)
    except json.JSONDecodeError:
        body = None
    if answer.status_code == 200 and isinstance(body, Record):
        return body
    raise ForebayError.read(body, answer.status_code)
