"""The MCP clients and servers of npm that `scripts/setup` installed, and how the clients are driven."""

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
DRIVER = pathlib.Path(__file__).resolve().parent / "clients" / "drive.mjs"


def drive(gateway: Gateway, key: Key, path: str, steps: list[tuple[str, Any]], **plan: Any) -> list[dict[str, Any]]:
    """What came of each of the steps, with the client and in the mode that the plan names."""
    told = {"url": gateway.url + path, "headers": key.bearer, "steps": steps} | plan
    with DRIVER.open(encoding="utf-8") as script:
        done = subprocess.run(
            ["node", "--input-type=module", "-"],
            stdin=script,
            cwd=PACKAGES,
            env=harness.clean_env(PLAN=json.dumps(told)),
            text=True,
            capture_output=True,
            timeout=harness.WAIT_SECONDS_MAX,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["results"]
