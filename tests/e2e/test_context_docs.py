"""The examples of docs/context.md work as they stand there."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
import yaml

import harness
import scripted as script
from harness import ROOT, Gateway
from scripted import Scripted

PAGE = (ROOT / "docs" / "context.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [match[2] for match in BLOCK.finditer(PAGE) if match[1] == language]


EXAMPLES = blocks("yaml")
QUESTION, ANSWER = (json.loads(text) for text in blocks("json"))
COMMANDS = [shlex.split(line)[1:] for line in "".join(blocks("sh")).splitlines()]
WARRANTY = "# Warranty\n\nThe warranty period is seven years.\n"


def config(example: str) -> dict[str, Any]:
    """The whole configuration that an example is a part of."""
    said = yaml.safe_load(example)
    section = said.get("mcp", {"providers": said})
    models = {"minilm": {"backends": [{"url": "http://127.0.0.1:8081/v1"}]}}
    return {"models": models, "mcp": section}


def in_camel_case(node: Any) -> Any:
    """The keys of the gateway's own in their other spelling; what is a name or somebody else's stays."""
    if isinstance(node, dict):
        return {camel(key): in_camel_case(value) for key, value in node.items()}
    return node


def camel(key: str) -> str:
    head, *rest = key.split("_")
    return head + "".join("TTL" if part == "ttl" else part.capitalize() for part in rest)


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory, scripted: Scripted) -> Any:
    """The first example, with a folder that is there."""
    folder = tmp_path_factory.mktemp("handbook")
    (folder / "warranty.md").write_text(WARRANTY, encoding="utf-8")
    said = config(EXAMPLES[0])
    said["mcp"]["providers"]["handbook"]["config"]["folder"] = str(folder)
    price = {"input": 0.1, "output": 0.3}
    said["models"][QUESTION["model"]] = {"backends": [{"url": scripted.url}], "price": price}
    with harness.closing(Gateway(tmp_path_factory.mktemp("documented"), said)) as gateway:
        yield gateway


def test_there_is_an_example_of_each_kind() -> None:
    kinds = {match for example in EXAMPLES for match in re.findall(r"\btype: (\w+)", example)}
    assert kinds >= {"files", "postgresql", "rest", "chroma", "mcp"}


@pytest.mark.parametrize("spelled", [lambda node: node, in_camel_case], ids=["as-written", "camel-case"])
@pytest.mark.parametrize("example", EXAMPLES, ids=[example.splitlines()[0].strip(": ") for example in EXAMPLES])
def test_each_configuration_is_valid(handbook: Gateway, example: str, spelled: Callable[[Any], Any]) -> None:
    said = config(example)
    file = handbook.folder / "example.yaml"
    file.write_text(json.dumps(said | {"mcp": spelled(said["mcp"])}), encoding="utf-8")
    done = handbook.cli("config", "validate", "--no-secrets", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def shape(node: Any) -> Any:
    """Which members there are, and not what they say."""
    if isinstance(node, dict):
        return {name: shape(value) for name, value in node.items()}
    return [shape(node[0])] if isinstance(node, list) and node else None


def test_the_question_is_answered_as_it_says(handbook: Gateway, scripted: Scripted) -> None:
    scripted.will(script.say("Seven years."))
    answer = handbook.chat(QUESTION, handbook.admin.bearer).json()
    assert shape(answer["forebay"]) == shape(ANSWER["forebay"])
    [item] = answer["forebay"]["context"]
    assert {name: item[name] for name in ("id", "source", "title")} == {
        "id": "warranty.md#0",
        "source": "warranty.md:1",
        "title": "Warranty",
    }
    assert "seven years" in json.dumps(scripted.bodies[0]["messages"]) and "mcp_context" not in scripted.bodies[0]


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "messages"])
def test_it_is_understood_wherever_the_page_says(handbook: Gateway, scripted: Scripted, path: str) -> None:
    scripted.will(script.say("Seven years."))
    named = {"model": QUESTION["model"], "mcp_context": QUESTION["mcp_context"], "max_tokens": 20}
    words = {"completions": {"prompt": "How long?"}, "responses": {"input": "How long?"}}
    asked = named | words.get(path, {"messages": [{"role": "user", "content": "How long?"}]})
    if path == "responses":
        del asked["max_tokens"]
    answer = handbook.http.post(f"/v1/{path}", json=asked, headers=handbook.admin.bearer)
    assert answer.status_code == 200, answer.text
    assert [item["provider"] for item in answer.json()["forebay"]["context"]] == ["handbook"]
    assert "seven years" in json.dumps(scripted.bodies[0])


def test_each_command_does_what_it_says(handbook: Gateway) -> None:
    said = []
    for command in COMMANDS:
        done = handbook.cli(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        said.append((command[1], done.stdout))
    by_verb = dict(said)
    assert "warranty.md:1" in by_verb["test"]
    assert all(name in by_verb["list"] for name in ("handbook", "tickets", "shop"))
    assert "https://tickets.example.com/api" in by_verb["show"]
    assert "tickets" not in handbook.cli("provider", "list").stdout, "what is deleted is gone"
