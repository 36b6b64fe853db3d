"""Plain JSON-RPC clients: no session, no `Accept`, only curl, with the calls and shapes that are documented."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import requests

import harness
from harness import Gateway, Key


def curl(gateway: Gateway, key: Key, body: Any, header: str = "X-API-Key: {}") -> Any:
    """The documented curl call, word by word."""
    done = subprocess.run(
        [
            "curl", "--silent", "--show-error", "-X", "POST", f"{gateway.url}/api/v1/mcp",
            "-H", "Content-Type: application/json", "-H", header.format(key.key), "-d", json.dumps(body),
        ],
        capture_output=True, text=True, timeout=60, check=True, env=harness.clean_env(no_proxy="*"),
    )  # fmt: skip
    return json.loads(done.stdout)


def call(method: str, params: Any, id: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params, "id": id}


def test_initialize_with_empty_params_answers_2024_11_05(gateway: Gateway, user: Key) -> None:
    answer = curl(gateway, user, call("initialize", {}))
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 1)
    result = answer["result"]
    assert result["protocolVersion"] == "2024-11-05"
    assert result["serverInfo"]["name"] and result["serverInfo"]["version"]
    assert "tools" in result["capabilities"] and "resources" in result["capabilities"]


def test_tools_list_has_name_description_and_schema_of_each(gateway: Gateway, user: Key) -> None:
    answer = curl(gateway, user, call("tools/list", {}, 2))
    assert answer["id"] == 2
    tools = {tool["name"]: tool for tool in answer["result"]["tools"]}
    assert {"calculator", "chat", "file_reader", "gateway_status"} <= tools.keys()
    for tool in tools.values():
        assert tool["description"] and tool["inputSchema"]["type"] == "object"
        # Some clients hand only properties and required to the model.
        assert not {"$ref", "$defs", "oneOf", "anyOf", "allOf"} & set(json.dumps(tool["inputSchema"]).split('"'))


def test_tools_call_answers_with_a_text_block(gateway: Gateway, user: Key) -> None:
    answer = curl(gateway, user, call("tools/call", {"name": "calculator", "arguments": {"expression": "6 * 7"}}, 3))
    assert answer["id"] == 3
    block = answer["result"]["content"][0]
    assert block["type"] == "text" and "42" in block["text"]
    assert not answer["result"].get("isError", False)


def test_resources_are_listed_and_read(gateway: Gateway, user: Key) -> None:
    listed = curl(gateway, user, call("resources/list", {}, 4))["result"]["resources"]
    assert listed, "at least one resource"
    for resource in listed:
        answer = curl(gateway, user, call("resources/read", {"uri": resource["uri"]}, 5))
        assert answer["result"]["contents"][0]["uri"] == resource["uri"], answer


def test_a_bearer_is_as_good_as_the_key_header(gateway: Gateway, user: Key) -> None:
    answer = curl(gateway, user, call("tools/list", {}), "Authorization: Bearer {}")
    assert answer["result"]["tools"]


def test_missing_arguments_are_invalid_params_with_details(gateway: Gateway, user: Key) -> None:
    error = curl(gateway, user, call("tools/call", {"name": "calculator", "arguments": {}}))["error"]
    assert error["code"] == -32602
    assert error["message"].startswith("Invalid params")
    assert "expression" in json.dumps(error["data"]["details"])


def test_a_batch_is_answered_element_by_element(gateway: Gateway, user: Key) -> None:
    answers = curl(gateway, user, [call("tools/list", {}, 1), call("no/such", {}, 2)])
    by_id = {answer["id"]: answer for answer in answers}
    assert by_id[1]["result"]["tools"] and by_id[2]["error"]["code"] == -32601


class PlainClient:
    """The documented Python client, with its own `requests` calls."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self.base_url = base_url
        self.headers = {"Content-Type": "application/json", "X-API-Key": api_key}
        self.request_id = 0

    def call_tool(self, tool_name: str, arguments: dict[str, Any] | None = None) -> Any:
        self.request_id += 1
        payload = {
            "jsonrpc": "2.0",
            "method": "tools/call",
            "params": {"name": tool_name, "arguments": arguments or {}},
            "id": self.request_id,
        }
        return requests.post(f"{self.base_url}/api/v1/mcp", headers=self.headers, json=payload, timeout=60).json()


def test_the_documented_python_client_works(gateway: Gateway, user: Key) -> None:
    client = PlainClient(gateway.url, user.key)
    assert "result" in client.call_tool("gateway_status")
    assert "42" in client.call_tool("calculator", {"expression": "6*7"})["result"]["content"][0]["text"]


def script(gateway: Gateway, key: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [str(harness.ROOT / "scripts" / "test-mcp.sh"), *args]
    return harness.run(command, FOREBAY_URL=gateway.url, FOREBAY_KEY=key)


def test_the_shell_script_makes_the_documented_calls(gateway: Gateway, user: Key) -> None:
    begun = script(gateway, user.key, "initialize")
    assert (begun.returncode, json.loads(begun.stdout)["result"]["protocolVersion"]) == (0, "2024-11-05")
    listed = script(gateway, user.key, "tools/list")
    assert "calculator" in {tool["name"] for tool in json.loads(listed.stdout)["result"]["tools"]}
    called = script(gateway, user.key, "tools/call", "calculator", '{"expression":"6 * 7"}')
    assert called.returncode == 0 and "42" in called.stdout


def test_the_shell_script_fails_where_the_call_fails(gateway: Gateway, user: Key) -> None:
    assert script(gateway, user.key, "tools/call", "no_such_tool", "{}").returncode == 1
    assert script(gateway, "fb_wrong", "tools/list").returncode == 1
    assert script(gateway, user.key).returncode == 2
    assert script(gateway, user.key, "tools/call").returncode == 2


def test_the_shell_script_finds_the_admin_key_by_itself(gateway: Gateway) -> None:
    command = [str(harness.ROOT / "scripts" / "test-mcp.sh"), "tools/list"]
    assert harness.run(command, FOREBAY_URL=gateway.url, FOREBAY_DATA=str(gateway.data)).returncode == 0
