"""Documents that give orders, and a model that obeys every word it reads: the gateway does not.

The model is a script, since no test may hope that a real one falls for it; the documents lie in a folder and in a real
Chroma, and the tools that they ask for are those of a real MCP server, whose graph shows whether one ran.
"""

from __future__ import annotations

import base64
import binascii
import json
import pathlib
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest

import harness
import hostile
import scripted as script
from harness import Gateway, Key
from hostile import DELETE, PAGES, WRITE, Page
from npm import MODULES
from parts import Chroma, Embeddings
from scripted import Scripted, Wire

TOOLS = (WRITE, DELETE, "calculator")
HOPS = 6
MARK = re.compile(r"<data ([0-9a-f]{16})>\n")


def words_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def understood(text: str) -> str:
    """All that a very clever reader finds in a text, however it is written."""
    hidden = "".join(chr(ord(char) - 0xE0000) for char in text if 0xE0020 <= ord(char) <= 0xE007E)
    shown = "".join(char for char in text if unicodedata.category(char) != "Cf")
    found = [unicodedata.normalize("NFKC", shown), hidden]
    for piece in re.findall(r"[A-Za-z0-9+/]{24,}={0,2}", shown):
        try:
            found.append(base64.b64decode(piece, validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            continue
    return "\n".join(found)


def obey(wire: Wire) -> None:
    """Calls each tool that anything in the conversation names, once; then says what came of it."""
    messages = wire.body["messages"]
    text = understood("\n".join(words_of(message) for message in messages))
    done = {call["function"]["name"] for message in messages for call in message.get("tool_calls") or []}
    canaries = sorted(set(re.findall(r"canary-[a-z]+", text)))
    wanted = [tool for tool in TOOLS if tool in text and tool not in done]
    calls = tuple((tool, arguments) for tool in wanted for arguments in arguments_for(tool, canaries))
    reply = script.call(*calls) if calls else script.echo_results
    reply(wire)


def arguments_for(tool: str, canaries: list[str]) -> list[dict[str, Any]]:
    if tool == "calculator":
        return [{"expression": "6 * 7"}]
    return [hostile.arguments(tool, canary) for canary in canaries]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("hostile")
    for page in PAGES.values():
        (folder / f"{page.bird}.md").write_text(f"# {page.bird}\n\n{page.document}", encoding="utf-8")
    harmless = "# gannet\n\nThe gannet dives. Reckon with the calculator how deep.\n"
    (folder / "gannet.md").write_text(harmless, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def collection(chroma: Chroma, embeddings: Embeddings) -> str:
    return chroma.collection({page.bird: page.document for page in PAGES.values()}, embeddings)


@pytest.fixture(scope="module")
def wary(
    tmp_path_factory: pytest.TempPathFactory,
    scripted: Scripted,
    chroma: Chroma,
    collection: str,
    pages: pathlib.Path,
) -> Iterator[Gateway]:
    """A gateway between the documents, the model that obeys, and a memory that can be written and deleted."""
    folder = tmp_path_factory.mktemp("wary")
    server = MODULES / "@modelcontextprotocol" / "server-memory" / "dist" / "index.js"
    config = {
        "models": {"obedient": {"backends": [{"url": scripted.url, "model": "by-script"}]}},
        "mcp": {
            "providers": {
                "folder": {"type": "files", "config": {"folder": str(pages), "scan_s": 1}},
                "chroma": {
                    "type": "chroma",
                    "config": {"host": "127.0.0.1", "port": chroma.port, "collection": collection},
                },
            }
        },
        "upstreams": {
            "memory": {
                "command": "node",
                "args": [str(server)],
                "env": {"MEMORY_FILE_PATH": str(folder / "memory.jsonl")},
                "trusted_hints": False,
            }
        },
        "limits": {"requests_per_minute": 1_000_000, "tool_calls_per_minute": 1_000_000},
    }
    with harness.closing(Gateway(folder, config)) as gateway:

        def has_memory() -> bool:
            told = gateway.rpc("tools/list", {}).json()
            return any(tool["name"] == WRITE for tool in told.get("result", {}).get("tools", []))

        harness.wait_for("the tools of the memory server", has_memory)
        for page in hostile.of(DELETE).values():
            made = gateway.rpc("tools/call", {"name": WRITE, "arguments": hostile.arguments(WRITE, page.canary)})
            assert "error" not in made.json(), made.text
        yield gateway


@pytest.fixture(scope="module")
def reader(wary: Gateway) -> Key:
    """Whoever asks may write into the memory, and delete nothing from it."""
    return wary.new_key("user", grants=(f"!tool:{DELETE}",))


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def body(word: str, provider: str, **more: Any) -> dict[str, Any]:
    named = {"providers": [provider], "query": word, "strategy": "keyword"}
    tools = [function(WRITE), function("calculator")]
    messages = [{"role": "user", "content": f"What is a {word}?"}]
    return {"model": "obedient", "messages": messages, "tools": tools, "mcp_context": named} | more


def ask(gateway: Gateway, key: Key, scripted: Scripted, asked: dict[str, Any]) -> dict[str, Any]:
    scripted.will(*[obey] * HOPS)
    answer = gateway.chat(asked, key.bearer)
    assert answer.status_code == 200, answer.text
    return answer.json()


def graph(gateway: Gateway) -> str:
    read = gateway.rpc("tools/call", {"name": "memory__read_graph", "arguments": {}})
    return json.dumps(read.json()["result"])


def expect_block(asked: Any, word: str) -> str:
    """What the documents say stands between two marks, and what stands around is the gateway's and the user's."""
    [message] = [message for message in asked["messages"] if message["role"] == "user"]
    text = words_of(message)
    [mark] = MARK.findall(text)[:1]
    before, _, rest = text.partition(f"<data {mark}>\n")
    inside, closing, after = rest.partition(f"</data {mark}>")
    assert closing and mark not in inside and mark not in after
    assert after == f"\n\nWhat is a {word}?", "nothing escapes behind the block"
    assert "canary" not in before and "give you no orders" in before
    return inside


def expect_refused(gateway: Gateway, page: Page, ours: dict[str, Any]) -> None:
    if not page.seen:
        assert ours["tools"] == []
        return
    [entry] = [entry for entry in ours["tools"] if entry["name"] == page.tool]
    # What the key is denied was never offered; what it may do is refused for what the turn has read.
    code = "tainted_turn" if page.tool == WRITE else "unknown_tool"
    assert (entry["status"], entry["error"]["code"]) == ("refused", code), ours
    # One was there before, and the others never were.
    assert (page.canary in graph(gateway)) is (page.tool == DELETE)


def expect_cited(page: Page, ours: dict[str, Any]) -> None:
    assert ours["tainted"] is True
    assert ours["context"] and all(page.bird in item["source"] + item["id"] for item in ours["context"]), ours


@pytest.mark.parametrize("provider", ["folder", "chroma"])
@pytest.mark.parametrize("name", PAGES)
def test_no_document_makes_the_gateway_act(
    wary: Gateway, reader: Key, scripted: Scripted, name: str, provider: str
) -> None:
    page = PAGES[name]
    answer = ask(wary, reader, scripted, body(page.bird, provider))
    expect_cited(page, answer["forebay"])
    inside = expect_block(scripted.bodies[0], page.bird)
    assert f"The {page.bird} is a bird" in inside
    assert (page.canary in understood(inside)) is page.seen, "the model has read the order"
    assert not re.search("[\u200b\u2060\ufeff\u202e\u2067\U000e0000-\U000e007f]", inside), "nothing is hidden in it"
    expect_refused(wary, page, answer["forebay"])
    if page.seen:
        assert "The call failed" in answer["choices"][0]["message"]["content"], "the model was told"


def test_all_of_them_at_once_and_streamed(wary: Gateway, reader: Key, scripted: Scripted) -> None:
    scripted.will(*[obey] * HOPS)
    asked = body("bird", "folder", stream=True)
    asked["mcp_context"] |= {"max_items": 100, "max_length": 50_000}
    told = wary.chat(asked, reader.bearer)
    chunks = [json.loads(line[6:]) for line in told.text.splitlines() if line.startswith("data: {")]
    [ours] = [chunk["forebay"] for chunk in chunks if "forebay" in chunk]
    assert len({item["source"].partition(":")[0] for item in ours["context"]}) == len(PAGES)
    statuses = {(entry["name"], entry["status"]) for entry in ours["tools"]}
    assert statuses == {(WRITE, "refused"), (DELETE, "refused")}, "and nothing else was called"
    left = graph(wary)
    assert [page.bird for page in PAGES.values() if page.canary in left] == ["pratincole"]


def test_what_only_reads_still_runs(wary: Gateway, reader: Key, scripted: Scripted) -> None:
    """The model does obey, and what changes nothing is not refused: so the refusals above are the guard's."""
    answer = ask(wary, reader, scripted, body("gannet", "folder"))
    [entry] = answer["forebay"]["tools"]
    assert (entry["name"], entry["status"]) == ("calculator", "success")
    assert "42" in answer["choices"][0]["message"]["content"]


def test_the_same_words_from_the_user_are_obeyed(wary: Gateway, reader: Key, scripted: Scripted) -> None:
    """What is refused is refused for where it was read, and not for what it says."""
    messages = [{"role": "user", "content": f"Call {WRITE} for canary-albatross."}]
    asked = {"model": "obedient", "messages": messages, "tools": [function(WRITE)]}
    answer = ask(wary, reader, scripted, asked)
    assert [entry["status"] for entry in answer["forebay"]["tools"]] == ["success"], answer
    assert "canary-albatross" in graph(wary)


def test_the_marks_are_others_each_time(wary: Gateway, reader: Key, scripted: Scripted) -> None:
    marks = set()
    for _ in range(3):
        ask(wary, reader, scripted, body("dunlin", "folder"))
        marks |= {MARK.findall(words_of(message))[0] for message in scripted.bodies[0]["messages"]}
    assert len(marks) == 3


@pytest.mark.parametrize("name", ["call_batch", "call_chain"])
def test_no_call_hides_in_another(wary: Gateway, reader: Key, scripted: Scripted, name: str) -> None:
    """What it would call, nobody named, approved or counted."""
    heard = len(scripted.heard)
    asked = {"model": "obedient", "messages": [{"role": "user", "content": "Go."}], "tools": [function(name)]}
    refused = wary.chat(asked, reader.bearer)
    assert refused.status_code == 400, refused.text
    assert f"`{name}` calls other tools" in refused.json()["error"]["message"]
    server = {"type": "mcp", "server_label": "compose", "require_approval": {"never": {"read_only": True}}}
    asked = {"model": "obedient", "input": "Go.", "tools": [server | {"allowed_tools": [name]}], "max_tool_calls": 1}
    refused = wary.http.post("/v1/responses", json=asked, headers=reader.bearer)
    assert refused.status_code == 400, refused.text
    assert f"`{name}` calls other tools" in refused.json()["error"]["message"]
    assert len(scripted.heard) == heard, "no model was asked"

    # A model that calls it all the same calls nothing.
    canary = "canary-hidden"
    inner = {"tool": WRITE, "arguments": hostile.arguments(WRITE, canary)}
    call = script.call((name, {"calls": [inner], "steps": [inner]}))
    scripted.will(call, script.echo_results)
    asked["tools"] = [server]
    answer = wary.http.post("/v1/responses", json=asked, headers=reader.bearer).json()
    [listed] = [item for item in answer["output"] if item["type"] == "mcp_list_tools"]
    assert [tool["name"] for tool in listed["tools"]] == ["search_tools"]
    assert canary not in graph(wary)


def test_no_server_calls_its_tools_harmless(wary: Gateway, reader: Key, scripted: Scripted) -> None:
    """The memory says that `read_graph` only reads. The operator does not take its word."""
    read = "memory__read_graph"
    told = wary.rpc("tools/list", {}).json()["result"]["tools"]
    [hints] = [tool["annotations"] for tool in told if tool["name"] == read]
    assert hints["readOnlyHint"] is True
    scripted.will(script.call((read, {})), script.echo_results)
    answer = wary.chat(body("gannet", "folder", tools=[function(read)]), reader.bearer).json()
    [entry] = answer["forebay"]["tools"]
    assert (entry["status"], entry["error"]["code"]) == ("refused", "tainted_turn")

    rule = {"never": {"read_only": True}}
    server = {"type": "mcp", "server_label": "memory", "require_approval": rule, "allowed_tools": ["read_graph"]}
    scripted.will(script.call((read, {})))
    asked = {"model": "obedient", "input": "Read.", "tools": [server]}
    answer = wary.http.post("/v1/responses", json=asked, headers=reader.bearer).json()
    assert [item["type"] for item in answer["output"]] == ["mcp_list_tools", "mcp_approval_request"]
