"""What a rented machine gets of its gateway, and what its owner reaches of it through the gateway."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

import harness
import market
from harness import Gateway, Key
from market import Vast
from test_mcp_restart import start_again
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
                if self.path.startswith("/moved?to="):
                    self.send_response(302)
                    self.send_header("Location", urllib.parse.unquote(self.path.removeprefix("/moved?to=")))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if self.path == "/plain":
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", "2")
                    self.end_headers()
                    self.wfile.write(b"{}")
                    return
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


def asked(gateway: Gateway, key: Key, target: str, **more: Any) -> tuple[bool, dict[str, Any]]:
    """What the proxy says to a request: whether it refuses, and how."""
    wish = {"target_url": target, "body": {}, **more}
    answer = gateway.rpc("tools/call", {"name": "proxy_inference_request", "arguments": wish}, key).json()
    result = answer["result"]
    return bool(result.get("isError")), json.loads(result["content"][0]["text"])


def reached_at(gateway: Gateway, key: Key, instance: dict[str, Any]) -> str:
    def endpoints() -> list[dict[str, Any]]:
        return market.told(gateway, key, "get_gpu_instance", instance_id=instance["id"])["endpoints"]

    return harness.wait_for("the endpoint of the machine", endpoints)[0]["url"]


def test_nobody_reaches_a_machine_that_is_not_their_own(machines: Gateway, owner: Key, model: Model) -> None:
    instance = rented(machines, owner, ports=[8000])
    url = reached_at(machines, owner, instance)
    assert asked(machines, owner, f"{url}/plain") == (
        False,
        {"status": 200, "content_type": "application/json", "body": {}},
    )
    before = len(model.heard)
    others = [
        machines.new_key("user"),
        machines.new_key("user", tenant="umbrella"),
        # Who looks after machines of others is no owner of them either.
        machines.new_key("operator"),
        machines.admin,
    ]
    for key in others:
        refused, told = asked(machines, key, f"{url}/plain")
        assert refused and told["code"] == "ADDRESS_NOT_ALLOWED", told
    destroy(machines, owner, instance)
    refused, told = asked(machines, owner, f"{url}/plain")
    assert refused and told["code"] == "ADDRESS_NOT_ALLOWED", "a machine that is to end is reached no longer"
    harness.wait_for("it is gone", lambda: not market.told(machines, owner, "list_my_gpu_instances")["instances"])
    refused, told = asked(machines, owner, f"{url}/plain")
    assert refused and told["code"] == "ADDRESS_NOT_ALLOWED", told
    assert len(model.heard) == before, "and none of them was heard there"


def test_a_machine_that_sends_its_caller_elsewhere_sends_nobody(machines: Gateway, owner: Key, model: Model) -> None:
    """It answers 302, and that is the answer: whatever it names is not asked, be it an address that is allowed."""
    instance = rented(machines, owner, ports=[8000])
    url = reached_at(machines, owner, instance)
    with harness.closing(Model()) as elsewhere:
        places = [
            "http://169.254.169.254/latest/meta-data/",
            f"http://{elsewhere.address}/plain",
            f"{url}/plain",
            f"{machines.url}/v1/models",
        ]
        for place in places:
            before = len(model.heard)
            refused, told = asked(machines, owner, f"{url}/moved?to={urllib.parse.quote(place, safe='')}")
            assert not refused and told["status"] == 302, told
            assert len(model.heard) == before + 1, "it was asked once"
        assert elsewhere.heard == []
    destroy(machines, owner, instance)


def test_the_script_that_a_provider_is_sent_brings_a_machine_home(tmp_path: pathlib.Path, vast: Vast) -> None:
    """What a machine would run, run here: it fetches the binary, and that reports the machine."""
    gateway = Gateway(tmp_path / "home", vast.config(), VAST_KEY=market.VAST_KEY)
    with harness.closing(gateway):
        config = vast.config(server={"public_url": gateway.url})
        gateway.config.write_text(json.dumps(config), encoding="utf-8")
        start_again(gateway, VAST_KEY=market.VAST_KEY)
        key = gateway.new_key("user")
        instance = rented(gateway, key)
        assert market.told(gateway, key, "get_gpu_instance", instance_id=instance["id"])["agent"] == "waited_for"
        ordered = [one for one in vast.log()["requests"] if one["route"] == "create"][-1]
        order = json.loads(ordered["body"])
        given = {name: value for name, value in order["env"].items() if name.startswith("FOREBAY_")}
        assert given["FOREBAY_URL"] == gateway.url and TOKEN.fullmatch(given["FOREBAY_TOKEN"])
        script = tmp_path / "on-start.sh"
        script.write_text(order["onstart"], encoding="utf-8")
        place = tmp_path / "opt"
        # vast.ai waits for the script; the agent goes on beside it, in a session of its own here.
        env = harness.clean_env(FOREBAY_DIR=str(place), no_proxy="*", **given)
        machine = subprocess.Popen(["sh", str(script)], env=env, cwd=tmp_path, start_new_session=True)
        try:
            assert machine.wait(harness.WAIT_SECONDS_MAX) == 0, "the script ends by itself"

            def reported() -> bool:
                return market.told(gateway, key, "get_gpu_instance", instance_id=instance["id"])["agent"] == "reported"

            harness.wait_for("the machine has reported itself", reported)
            fetched = hashlib.sha256((place / "forebay").read_bytes()).hexdigest()
            assert fetched == hashlib.sha256(harness.BINARY.read_bytes()).hexdigest()
            assert given["FOREBAY_TOKEN"] not in (place / "agent.log").read_text(encoding="utf-8")
        finally:
            os.killpg(machine.pid, signal.SIGTERM)
        destroy(gateway, key, instance)
