"""Money: exact holds a second on each store beside the bare driver, and windows over many postings. Runs alone too."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import alone, on_each_store, verdict

SECONDS = os.environ.get("BENCH_SECONDS", "5")
ENTRIES = os.environ.get("BENCH_ENTRIES", "1000000")


def figures(binary, folder):
    seen = on_each_store(binary, folder, "--seconds", SECONDS, "--entries", ENTRIES)
    print("\n16 writers; each hold is judged by two windows and committed before it is answered\n")
    print("| store | bare updates/s | holds/s | p50 ms | hold + settle/s | p50 ms |\n|---|---|---|---|---|---|")
    for one in seen:
        rates = [f"{one[name]:,.0f}" for name in ("bare_updates_per_s", "holds_per_s", "hold_and_settle_per_s")]
        hold, both = (f"{one[name]:.2f}" for name in ("hold_p50_ms", "hold_and_settle_p50_ms"))
        print(f"| {one['engine']} | {rates[0]} | {rates[1]} | {hold} | {rates[2]} | {both} |")
    print("\n| figure | measured | target | |\n|---|---|---|---|")
    met = []
    for one in seen:
        met.append(verdict(f"a hold with 16 writers on {one['engine']}", 1000 / one["holds_per_s"], 0.5, "ms"))
        name = f"two windows over {one['entries']:,} postings on {one['engine']}"
        met.append(verdict(name, one["judge_ms"], 1, "ms"))
    return met


if __name__ == "__main__":
    sys.exit(alone("ledger", figures))
