"""A client of one gateway: chats as OpenAI's client has them, with `mcp_context` and `tool_execution` beside."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

import httpx

from forebay.errors import ForebayError
from forebay.record import Record, parse

# A model may take its time; the gateway's own limits are below this.
TIMEOUT_S = 3600.0


class Client:
    """One gateway as one caller sees it.

    Address and key are those of `FOREBAY_URL` and `FOREBAY_KEY` where they are left out, as for the command line.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        http: httpx.Client | None = None,
    ) -> None:
        url = url or os.environ.get("FOREBAY_URL") or "http://127.0.0.1:8080"
        key = key or os.environ.get("FOREBAY_KEY")
        if not key:
            raise ForebayError("there is no key: give one, or set FOREBAY_KEY", code="missing_credentials")
        self.url = url.rstrip("/").removesuffix("/v1")
        # The key goes to this gateway alone: no redirect is followed, and no proxy of the environment is asked.
        self.http = http or httpx.Client(timeout=timeout, trust_env=False, follow_redirects=False)
        self._key = key
        self.chat = Chat(self)

    def request(self, method: str, path: str, *, key: bool = True, **how: Any) -> httpx.Response:
        """Any route of the gateway, whatever it answers."""
        return self.http.request(method, self.url + path, headers=self._headers if key else None, **how)

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.request("POST", path, json=body)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"


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
        with client.http.stream("POST", path, json=body, headers=headers) as answer:
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
