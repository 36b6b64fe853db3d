#!/usr/bin/env python3
"""The client that the suite's client scenarios judge: a real gateway, with the scenario's server as an upstream.

Called by the suite as `through.py SERVER_URL`, with the scenario's name in the environment. It starts a gateway whose
only upstream is that server, and sends through it what the scenario wants to see. What the server hears is the gateway.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import harness

VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": {"name": "through", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}, "roots": {}},
}
Context = dict[str, Any]


class Through:
    """A client of the newest version, towards the gateway's path for the one upstream."""

    def __init__(self, gateway: harness.Gateway) -> None:
        self.gateway, self.sent = gateway, 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one request; an error of the gateway's ends the run."""
        answer = self.answer(method, params)
        if "result" not in answer:
            raise SystemExit(f"{method}: {answer}")
        return answer["result"]

    def answer(self, method: str, params: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        self.sent += 1
        message = {"jsonrpc": "2.0", "id": self.sent, "method": method, "params": params | {"_meta": META}}
        own = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": VERSION, "Mcp-Method": method}
        if name := params.get("name") or params.get("uri"):
            own["Mcp-Name"] = name
        response = self.gateway.http.post(
            "/servers/suite/mcp", json=message, headers=own | self.gateway.admin.bearer | (headers or {})
        )
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            data = [line[5:] for line in response.text.splitlines() if line.startswith("data:") and line[5:].strip()]
            return json.loads(data[-1])
        return response.json()

    def call(self, tool: str, arguments: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        return self.ask("tools/call", name=tool, arguments=arguments or {}, **more)

    def tools(self) -> list[dict[str, Any]]:
        """The tools, once the upstream is there."""

        def listed() -> list[dict[str, Any]] | None:
            return self.answer("tools/list", {}).get("result", {}).get("tools")

        return harness.wait_for("the tools of the scenario's server", listed)


def connect(through: Through, _: Context) -> None:
    """Nothing but the connection is judged."""

    def connected() -> bool:
        servers = through.gateway.http.get("/mcp/health").json()["mcp"]["servers"]
        return servers["suite"]["status"] == "healthy"

    harness.wait_for("the connection to the scenario's server", connected)


def list_tools(through: Through, _: Context) -> None:
    through.tools()


def add_numbers(through: Through, _: Context) -> None:
    through.tools()
    through.call("add_numbers", {"a": 5, "b": 3})


def reconnect(through: Through, _: Context) -> None:
    through.tools()
    through.call("test_reconnection")


def one_of_each(through: Through, _: Context) -> None:
    through.tools()
    through.call("test_headers")
    through.call("my-hyphenated-tool")
    for resource in through.ask("resources/list")["resources"]:
        through.ask("resources/read", uri=resource["uri"])
    through.ask("prompts/get", name="test_prompt", arguments={})


def custom_headers(through: Through, context: Context) -> None:
    tools = {tool["name"]: tool for tool in through.tools()}
    for call in context["toolCalls"]:
        properties = tools[call["name"]]["inputSchema"]["properties"]
        arguments = call["arguments"]
        headers = {
            f"Mcp-Param-{schema['x-mcp-header']}": header_value(arguments[name])
            for name, schema in properties.items()
            if "x-mcp-header" in schema and arguments.get(name) is not None
        }
        answer = through.answer("tools/call", call, headers)
        if "result" not in answer:
            raise SystemExit(str(answer))


def header_value(value: Any) -> str:
    """Base64 always, which a server must take as well; the gateway chooses anew towards its upstream."""
    text = json.dumps(value) if isinstance(value, bool | int | float) else value
    return "=?base64?" + base64.b64encode(text.encode()).decode() + "?="


def call_whatever_is_offered(through: Through, _: Context) -> None:
    for tool in through.tools():
        region = {name: "eu" for name in tool["inputSchema"]["properties"]}
        headers = {"Mcp-Param-Region": "eu"}
        through.answer("tools/call", {"name": tool["name"], "arguments": region}, headers)


def echo_schema(through: Through, _: Context) -> None:
    tools = {tool["name"]: tool for tool in through.tools()}
    through.call("json_schema_echo", {"schema": tools["json_schema_2020_12_tool"]["inputSchema"]})


def rounds(through: Through, _: Context) -> None:
    through.tools()
    for tool in ("test_mrtr_echo_state", "test_mrtr_no_state"):
        asked = through.call(tool)
        through.call("test_mrtr_unrelated")
        answers = {key: {"action": "accept", "content": {"confirmed": True}} for key in asked["inputRequests"]}
        state = {"requestState": asked["requestState"]} if "requestState" in asked else {}
        through.call(tool, inputResponses=answers, **state)
    through.call("test_mrtr_no_result_type")


SCENARIOS: dict[str, Callable[[Through, Context], None]] = {
    "initialize": connect,
    "request-metadata": connect,
    "tools_call": add_numbers,
    "sse-retry": reconnect,
    "http-standard-headers": one_of_each,
    "http-custom-headers": custom_headers,
    "http-invalid-tool-headers": call_whatever_is_offered,
    "json-schema-ref-no-deref": list_tools,
    "json-schema-2020-12-preservation": echo_schema,
    "sep-2322-client-request-state": rounds,
    "auth/client-credentials-basic": list_tools,
    "auth/client-credentials-jwt": list_tools,
}


def credentials(context: Context) -> tuple[dict[str, Any], dict[str, str]]:
    """The upstream's section `auth`, and the environment that holds what it refers to."""
    if "client_secret" in context:
        secret = {"client_secret": {"env": "SUITE_SECRET"}}
        return {"auth": {"oauth": {"client_id": context["client_id"]} | secret}}, {
            "SUITE_SECRET": context["client_secret"]
        }
    if "private_key_pem" in context:
        key = {"pem": {"env": "SUITE_PEM"}, "algorithm": context.get("signing_algorithm", "ES256")}
        return {"auth": {"oauth": {"client_id": context["client_id"], "private_key": key}}}, {
            "SUITE_PEM": context["private_key_pem"]
        }
    return {}, {}


def main() -> None:
    scenario, url = os.environ["MCP_CONFORMANCE_SCENARIO"], sys.argv[-1]
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    auth, env = credentials(context)
    config = {"upstreams": {"suite": {"url": url} | auth}}
    with tempfile.TemporaryDirectory() as folder:
        with harness.closing(harness.Gateway(pathlib.Path(folder), config, **env)) as gateway:
            try:
                SCENARIOS[scenario](Through(gateway), context)
            except BaseException:
                print(gateway.log[-4000:], file=sys.stderr)
                raise


if __name__ == "__main__":
    main()
