"""What the README says under "Ask with context and tools" works as it stands, with the configuration of `make up`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

import harness
from harness import Engine, Gateway


def demo(engine: Engine) -> dict[str, Any]:
    """The configuration that `make up` writes, for an engine elsewhere."""
    script = (harness.ROOT / "scripts" / "up").read_text(encoding="utf-8")
    text = re.search(r"<<YAML\n(.*?)\nYAML\n", script, re.DOTALL)[1]
    places = {"$PORT": "8080", "$ENGINE_PORT": str(engine.port), "$FOREBAY_ROOT": str(harness.ROOT)}
    for name, value in places.items():
        text = text.replace(name, value)
    return yaml.safe_load(text)


def commands() -> list[str]:
    readme = (harness.ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("**Ask with context and tools.**")[2].partition("\n**")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def prepared(start: Callable[..., Gateway], engine: Engine) -> Gateway:
    gateway = start(demo(engine))

    def indexed() -> bool:
        tested = gateway.cli("provider", "test", "docs", "--query", "Which port does Forebay listen on?", "-o", "json")
        return tested.returncode == 0 and bool(json.loads(tested.stdout)["items"])

    harness.wait_for("the index of docs/", indexed)
    return gateway


def test_ask_with_context_and_tools(prepared: Gateway) -> None:
    key = prepared.new_key("user")
    path = f"{harness.BINARY.parent}{os.pathsep}{os.environ['PATH']}"
    tested, asked = [
        harness.run(["bash", "-eu", "-c", command], URL=prepared.url, KEY=key.key, PATH=path) for command in commands()
    ]
    assert tested.returncode == 0, tested.stderr
    assert re.search(r"^provider +docs: [1-9]", tested.stdout, re.MULTILINE), tested.stdout
    answer = json.loads(asked.stdout)
    assert answer["choices"][0]["message"]["content"], answer
    ours = answer["forebay"]
    assert {item["provider"] for item in ours["context"]} == {"docs"}
    assert all(report["failure"] is None for report in ours["providers"])
