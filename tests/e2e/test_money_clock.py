"""A clock that was ahead: what the documentation says to do about it, done with its own words."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable

import harness
import market
from harness import Gateway
from test_mcp_restart import start_again

DOC = harness.ROOT / "docs" / "money.md"
TOOL = {"name": "calculator", "arguments": {"expression": "1 + 1"}}
CONFIG = {
    "prices": {"tools": {"calculator": 0.4}},
    "budgets": [{"scope": "tenant", "window": "60m", "limit_usd": 10}],
    "limits": market.LIMITS,
}
AHEAD_MS = 30 * 24 * 3_600 * 1_000


def test_a_tenant_whose_clock_was_ahead_is_helped_by_the_statements_of_the_documentation(
    start: Callable[..., Gateway],
) -> None:
    gateway = start(CONFIG)
    key = gateway.new_key("user")

    def call() -> bool:
        return not gateway.rpc("tools/call", TOOL, key).json()["result"].get("isError")

    def has_spent(usd: float) -> None:
        """What was done is settled in a moment."""

        def is_settled() -> bool:
            [window] = gateway.http.get("/api/v1/spending", headers=key.bearer).json()["windows"]
            return (window["spent_usd"], window["held_usd"]) == (usd, 0)

        harness.wait_for(f"${usd} to be spent", is_settled)

    def ahead() -> float:
        text = gateway.http.get("/metrics", headers=gateway.admin.bearer).text
        found = re.search(r"^forebay_ledger_ahead_seconds (\S+)$", text, re.MULTILINE)
        assert found, text
        return float(found[1])

    assert call() and ahead() == 0
    has_spent(0.4)
    gateway.kill()
    with sqlite3.connect(gateway.data / "forebay.db") as database:
        # As if it had been spent by a clock that was a month ahead.
        database.execute("UPDATE purse SET last_at_ms = last_at_ms + ?", (AHEAD_MS,))
        database.execute("UPDATE purse_posted SET at_ms = at_ms + ?", (AHEAD_MS,))
    database.close()
    start_again(gateway)
    assert call() and ahead() > AHEAD_MS / 1_000 - 3_600
    has_spent(0.8)
    assert gateway.terminate() == 0
    [sql] = re.findall(r"```sql\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)
    with sqlite3.connect(gateway.data / "forebay.db") as database:
        database.executescript(sql.replace("NOW_MS", str(int(time.time() * 1_000))))
    database.close()
    start_again(gateway)
    assert ahead() == 0
    # Nothing is forgotten.
    has_spent(0.8)
    assert call() and ahead() == 0
    has_spent(1.2)
