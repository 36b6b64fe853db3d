"""What a rented machine gets of its gateway, and what its owner reaches of it through the gateway."""

from __future__ import annotations

import hashlib
import http.server
import json
import pathlib
import platform
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import harness
import market
from harness import Gateway, Key
from market import Vast
from test_mcp_upstreams import connect

pytestmark = pytest.mark.anyio
WHERE = {"os": "linux", "arch": platform.machine()}
TOKEN = re.compile(r"fbi_[0-9a-f]{64}")


@pytest.fixture(scope="module")
def vast() -> Iterator[Vast]:
    with harness.closing(Vast()) as started:
        yield started


class Model:
    """An HTTP server as it may run on a machine: it streams, and goes on only once its client has heard of it."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        self.go_on = threading.Event()
        model = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                model.heard.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b'data: {"token":"one"}\n\n')
                self.wfile.flush()
                heard = model.go_on.wait(harness.WAIT_SECONDS_MAX)
                self.wfile.write(b'data: {"token":"two"}\n\n' if heard else b"data: nobody has heard\n\n")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def model(vast: Vast) -> Iterator[Model]:
    """What answers at the first port of every machine from now on."""
    with harness.closing(Model()) as started:
        vast.set("endpoint", started.address)
        yield started


@pytest.fixture(scope="module")
def machines(folder: pathlib.Path, vast: Vast, model: Model) -> Iterator[Gateway]:
    """A gateway whose machines are reached at the loopback."""
    config = vast.config(
        server={"public_url": "https://gateway.example.com"}, rentals={"allow_addresses": ["127.0.0.1"]}
    )
    with harness.closing(Gateway(folder / "homes", config, VAST_KEY=market.VAST_KEY)) as started:
        yield started


@pytest.fixture
def owner(machines: Gateway) -> Key:
    return machines.new_key("user")


def rented(gateway: Gateway, key: Key, **more: Any) -> dict[str, Any]:
    made = market.told(gateway, key, "create_gpu_instance", **market.offer(gateway, key), **more)
    return made["instance"]


def destroy(gateway: Gateway, key: Key, instance: dict[str, Any]) -> None:
    market.told(gateway, key, "destroy_gpu_instance", provider="vast.ai", instance_id=instance["id"])


def test_a_machine_fetches_the_very_binary_with_its_token(machines: Gateway, owner: Key, vast: Vast) -> None:
    before = set(TOKEN.findall(json.dumps(vast.log())))
    instance = rented(machines, owner)
    [token] = set(TOKEN.findall(json.dumps(vast.log()))) - before

    def fetched(token: str) -> tuple[int, str]:
        bearer = {"Authorization": f"Bearer {token}"}
        digest = hashlib.sha256()
        with machines.http.stream("GET", "/dist/forebay", params=WHERE, headers=bearer) as answer:
            for piece in answer.iter_bytes():
                digest.update(piece)
        return answer.status_code, digest.hexdigest()

    own = hashlib.sha256(harness.BINARY.read_bytes()).hexdigest()
    assert fetched(token) == (200, own)
    for wrong in (token[:-1] + ("0" if token[-1] != "0" else "1"), "fbi_" + "0" * 64, owner.key, machines.admin.key):
        assert fetched(wrong)[0] == 401, wrong
    elsewhere = machines.http.get(
        "/dist/forebay", params={"os": "plan9", "arch": "vax"}, headers={"Authorization": f"Bearer {token}"}
    )
    assert elsewhere.status_code == 404
    bearer = {"Authorization": f"Bearer {token}"}
    for path in ("/v1/models", "/api/v1/spending", "/metrics"):
        assert machines.http.get(path, headers=bearer).status_code == 401, f"{path} is not for machines"

    report = {"version": "1.0", "cpus": 4}
    assert machines.http.post("/api/v1/gpu/agent", json=report, headers=bearer).status_code == 204
    shown = market.told(machines, owner, "get_gpu_instance", instance_id=instance["id"])
    assert shown["agent"] == "reported"
    assert fetched(token)[0] == 401, "it was good once"
    assert not machines.http.post("/api/v1/gpu/agent", json=report, headers=bearer).is_success
    destroy(machines, owner, instance)


async def test_what_runs_on_a_machine_is_asked_streams_and_is_counted(
    machines: Gateway, owner: Key, model: Model
) -> None:
    instance = rented(machines, owner, ports=[8000])

    def endpoints() -> list[dict[str, Any]]:
        return market.told(machines, owner, "get_gpu_instance", instance_id=instance["id"])["endpoints"]

    [endpoint] = harness.wait_for("the endpoint of the machine", endpoints)
    assert endpoint == {"port": 8000, "url": f"http://{model.address}"}
    headers = {
        "Authorization": "Bearer stolen",
        "X-Vault-Token": "stolen",
        "X-Note": "Bearer stolen",
        "X-Request-Id": "mine",
    }
    wish = {"target_url": endpoint["url"] + "/generate?x=1", "body": {"prompt": "Why?"}, "headers": headers}
    pieces: list[str] = []

    async def note(_: float, __: float | None, message: str | None) -> None:
        pieces.append(message or "")
        model.go_on.set()

    async with connect(machines, owner, "legacy", "/servers/gpu/mcp") as client:
        result = await client.call_tool("proxy_inference_request", wish, progress_callback=note)
    said = json.loads(result.content[0].text)
    assert not result.is_error and said["status"] == 200, said
    assert said["body"] == 'data: {"token":"one"}\n\ndata: {"token":"two"}\n\n', "it went on while its client listened"
    assert "one" in pieces[0]
    path, got, body = model.heard[-1]
    assert (path, json.loads(body)) == ("/generate?x=1", {"prompt": "Why?"})
    assert got["x-request-id"] == "mine" and "stolen" not in json.dumps(got)
    assert said["headers_left_out"] == ["authorization", "x-note", "x-vault-token"]

    def counted() -> list[dict[str, Any]]:
        events = machines.http.get("/api/v1/events", params={"limit": 1000}, headers=machines.admin.bearer).json()
        return [event for event in events["events"] if event["action"] == f"proxy:{instance['id']}"]

    [event] = harness.wait_for("the event of the request", counted)
    assert (event["bytes_in"], event["bytes_out"]) == (len(body), len(said["body"])), event
    destroy(machines, owner, instance)


def test_nobody_reaches_a_private_address_that_is_not_listed(folder: pathlib.Path, vast: Vast, model: Model) -> None:
    with harness.closing(Gateway(folder / "strict", vast.config(), VAST_KEY=market.VAST_KEY)) as strict:
        key = strict.new_key("user")
        instance = rented(strict, key, ports=[8000])

        def endpoints() -> list[dict[str, Any]]:
            return market.told(strict, key, "get_gpu_instance", instance_id=instance["id"])["endpoints"]

        harness.wait_for("the endpoint of the machine", endpoints)
        before = len(model.heard)
        wish = {"target_url": f"http://{model.address}/generate", "body": {}}
        refused = strict.rpc("tools/call", {"name": "proxy_inference_request", "arguments": wish}, key).json()["result"]
        code = json.loads(refused["content"][0]["text"])["code"]
        assert refused["isError"] and code == "ADDRESS_NOT_ALLOWED", refused
        assert len(model.heard) == before
        destroy(strict, key, instance)
