"""What the README says to try works as it stands, with the configuration of `make up`.

The shell is prepared as the README says before that.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml

import harness
from harness import Engine, Gateway

Ran = subprocess.CompletedProcess[str]


def demo(engine: Engine) -> dict[str, Any]:
    """The configuration that `make up` writes, for an engine elsewhere."""
    script = (harness.ROOT / "scripts" / "up").read_text(encoding="utf-8")
    text = re.search(r"<<YAML\n(.*?)\nYAML\n", script, re.DOTALL)[1]
    places = {"$PORT": "8080", "$ENGINE_PORT": str(engine.port), "$FOREBAY_ROOT": str(harness.ROOT)}
    for name, value in places.items():
        text = text.replace(name, value)
    return yaml.safe_load(text)


def readme() -> str:
    return (harness.ROOT / "README.md").read_text(encoding="utf-8")


def shell_blocks(text: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def commands(under: str) -> list[str]:
    return shell_blocks(readme().partition(f"**{under}.**")[2].partition("\n**")[0])


def by_hand() -> str:
    """What prepares a shell for everything below it."""
    return shell_blocks(readme().partition("## The first five minutes")[2])[0]


def exported(text: str) -> set[str]:
    lines = re.findall(r"^ *export (.*)$", text, re.MULTILINE)
    return {name for line in lines for name in re.findall(r"(\w+)=", line)}


@pytest.fixture
def prepared(start: Callable[..., Gateway], engine: Engine) -> Gateway:
    gateway = start(demo(engine))

    def indexed() -> bool:
        tested = gateway.cli("provider", "test", "docs", "--query", "Which port does Forebay listen on?", "-o", "json")
        return tested.returncode == 0 and bool(json.loads(tested.stdout)["items"])

    harness.wait_for("the index of docs/", indexed)
    return gateway


def test_what_make_up_prints_prepares_a_shell_as_the_readme_does() -> None:
    script = (harness.ROOT / "scripts" / "up").read_text(encoding="utf-8")
    assert exported(by_hand()) == exported(script) == {"URL", "KEY", "PATH", "FOREBAY_URL", "FOREBAY_KEY"}


@pytest.fixture
def shell(prepared: Gateway, tmp_path: pathlib.Path) -> Callable[[str], Ran]:
    """Runs something in a shell that was prepared as the README says."""
    demo_folder = tmp_path / ".forebay"
    demo_folder.mkdir()
    (demo_folder / "client.key").write_text(prepared.new_key("user").key, encoding="utf-8")
    path = f"{harness.BINARY.parent}{os.pathsep}{os.environ['PATH']}"
    ready = f"cd '{tmp_path}'\n" + by_hand().replace("http://127.0.0.1:8080", prepared.url)
    return lambda command: harness.run(["bash", "-eu", "-c", ready + command], PATH=path)


def test_ask_with_context_and_tools(shell: Callable[[str], Ran]) -> None:
    tested, asked = map(shell, commands("Ask with context and tools"))
    assert tested.returncode == 0, tested.stderr
    assert re.search(r"^provider +docs: [1-9]", tested.stdout, re.MULTILINE), tested.stdout
    answer = json.loads(asked.stdout)
    assert answer["choices"][0]["message"]["content"], answer
    ours = answer["forebay"]
    assert {item["provider"] for item in ours["context"]} == {"docs"}
    assert all(report["failure"] is None for report in ours["providers"])


def test_rent_a_machine(shell: Callable[[str], Ran]) -> None:
    (block,) = commands("Rent a machine")
    for command in block.splitlines():
        ran = shell(command)
        assert ran.returncode == 0, f"{command}: {ran.stderr}"
    gone = shell("forebay gpu ps -o json")
    assert gone.returncode == 0, gone.stderr
    live = [one for one in json.loads(gone.stdout) if one["state"] not in {"destroying", "gone"}]
    assert live == []
