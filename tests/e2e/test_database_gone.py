"""With the database gone the gateway says so: 503, neither 401 nor 500; and it stays alive."""

from __future__ import annotations

import pathlib
import urllib.parse
from collections.abc import Callable

import httpx

import harness
from harness import Gateway
from parts import postgres


def status_and_code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["forebay_code"]


def test_with_the_database_gone_it_is_503(tmp_path: pathlib.Path, start: Callable[..., Gateway]) -> None:
    with postgres(tmp_path) as (address, cluster):
        url = urllib.parse.urlsplit(address)
        shown = url._replace(netloc=f"{url.username}@{url.hostname}:{url.port}").geturl()
        store = {"url": shown, "password": {"env": "STORE_PASSWORD"}}
        gateway = start({"store": store}, STORE_PASSWORD=url.password)
        key = gateway.new_key("user")
        assert gateway.http.get("/v1/models", headers=key.bearer).status_code == 200
        cluster.terminate()

        harness.wait_for("unreadiness", lambda: gateway.http.get("/readyz").status_code == 503)
        assert gateway.http.get("/livez").status_code == 200, "a restart would not help"
        for known in (key.bearer, gateway.admin.bearer, {"X-API-Key": f"fb_{'0' * 15}1_{'ab' * 32}"}):
            answer = gateway.http.get("/v1/models", headers=known)
            assert status_and_code(answer) == (503, "store_unavailable")
            harness.expect_plain_words(answer.text)
        changed = gateway.http.post("/api/v1/keys", json={"name": "x", "role": "user"}, headers=gateway.admin.bearer)
        assert (changed.status_code, changed.json()["code"]) == (503, "store_unavailable")
        called = gateway.rpc("tools/call", {"name": "calculator", "arguments": {"expression": "1"}}, key)
        assert called.status_code == 503 and called.json()["error"]["data"]["code"] == "store_unavailable"
        assert url.password not in gateway.log
