"""Alerts as whoever runs a webhook hears them: checked by the library that the specification has for that."""

from __future__ import annotations

import base64
import http.server
import secrets
import threading
from collections.abc import Callable
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

import harness
import market
from harness import Gateway
from market import Vast


class Receiver:
    """A webhook at an address that nobody else knows."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                receiver.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.path = f"/services/{secrets.token_hex(16)}"
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}{self.path}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_a_machine_of_which_nobody_knows_is_told_and_signed(start: Callable[..., Gateway]) -> None:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    with harness.closing(Vast()) as vast, harness.closing(Receiver()) as receiver:
        hook = {"url": {"env": "HOOK_URL"}, "secret": {"env": "HOOK_SECRET"}, "events": ["rental.ambiguous"]}
        config = vast.config(alerts={"webhooks": {"ops": hook}}, telemetry={"log": {"filter": "debug"}})
        gateway = start(config, VAST_KEY=market.VAST_KEY, HOOK_URL=receiver.url, HOOK_SECRET=secret)
        key = gateway.new_key("user")
        wish = market.offer(gateway, key)
        # The machine is made, and nobody hears of it.
        vast.http.post("/_fake/faults", json={"route": "create", "fault": "drop-after", "times": 1}).raise_for_status()
        made = market.told(gateway, key, "create_gpu_instance", **wish)["instance"]
        harness.wait_for("the alert", lambda: receiver.heard)
        headers, body = receiver.heard[0]
        told = Webhook(secret).verify(body, headers)
        assert told["type"] == "rental.ambiguous" and made["id"] in str(told["data"]), told
        other = Webhook("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())
        for forged in (
            lambda: other.verify(body, headers),
            lambda: Webhook(secret).verify(body + b" ", headers),
            lambda: Webhook(secret).verify(body, headers | {"webhook-id": "msg_other"}),
        ):
            with pytest.raises(WebhookVerificationError):
                forged()
        harness.wait_for("the machine is found by its label", lambda: found(gateway, key, made["id"]))
        market.told(gateway, key, "destroy_gpu_instance", provider="vast.ai", instance_id=made["id"])
        # The address is a secret of its own.
        assert receiver.path not in gateway.log
        assert receiver.path not in gateway.cli("config", "show", "-o", "json").stdout
        assert vast.state()["created"] == 1


def found(gateway: Gateway, key: harness.Key, id_: str) -> bool:
    return bool(market.told(gateway, key, "get_gpu_instance", instance_id=id_).get("instance_id"))
