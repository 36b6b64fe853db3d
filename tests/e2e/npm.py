"""The clients and servers of npm that `scripts/setup` installed, and how the clients are driven."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from typing import Any

import harness
from harness import Gateway, Key

VENV = pathlib.Path(os.environ.get("FOREBAY_VENV", harness.ROOT / ".venv"))
PACKAGES = VENV / "node" / "clients"
MODULES = PACKAGES / "node_modules"
CLIENTS = pathlib.Path(__file__).resolve().parent / "clients"


def drive(gateway: Gateway, key: Key, path: str, steps: list[tuple[str, Any]], **plan: Any) -> list[dict[str, Any]]:
    """What came of each of the steps, with the MCP client and in the mode that the plan names."""
    return run("drive.mjs", {"url": gateway.url + path, "headers": key.bearer, "steps": steps} | plan)["results"]


def ask(gateway: Gateway, key: Key, path: str, steps: list[tuple[str, Any]], **headers: str) -> list[dict[str, Any]]:
    """What came of each of the requests, with OpenAI's own client."""
    return run("ask.mjs", {"url": gateway.url + path, "key": key.key, "steps": steps, "headers": headers})


def run(script: str, plan: dict[str, Any]) -> Any:
    """What a script of the folder `clients` prints; it stands where the packages are."""
    with (CLIENTS / script).open(encoding="utf-8") as source:
        done = subprocess.run(
            ["node", "--input-type=module", "-"],
            stdin=source,
            cwd=PACKAGES,
            env=harness.clean_env(PLAN=json.dumps(plan)),
            text=True,
            capture_output=True,
            timeout=harness.WAIT_SECONDS_MAX,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
