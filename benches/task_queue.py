"""The queue: durable cycles a second on each store beside the bare driver, claims among many, submit to start."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import alone, on_each_store, verdict

SECONDS = os.environ.get("BENCH_SECONDS", "5")
QUEUED = os.environ.get("BENCH_QUEUED", "1000000")
PART = 0.8


def figures(binary, folder):
    seen = on_each_store(binary, folder, "--seconds", SECONDS, "--queued", QUEUED)
    print("\nbatches of 100: submitted, claimed and settled, each committed before it is answered\n")
    print(
        "| store | bare, a statement a row | bare, one a batch | cycles/s | start p50, p99 ms |\n|---|---|---|---|---|"
    )
    for one in seen:
        rates = [f"{one[name]:,.0f}" for name in ("bare_rows_per_s", "bare_batches_per_s", "cycles_per_s")]
        print(f"| {one['engine']} | {' | '.join(rates)} | {one['start_p50_ms']:.2f}, {one['start_p99_ms']:.2f} |")
    print(f"\n{seen[0]['queued']:,} tasks queued\n")
    print("| store | claim of 1: p50, p99 ms | claim of 100: p50, p99 ms | counting all ms |\n|---|---|---|---|")
    for one in seen:
        times = [f"{one[f'{name}_p50_ms']:.2f}, {one[f'{name}_p99_ms']:.2f}" for name in ("claim", "claim_100")]
        print(f"| {one['engine']} | {times[0]} | {times[1]} | {one['counts_ms']:.0f} |")
    print("\n| figure | measured | target | |\n|---|---|---|---|")
    met = []
    for one in seen:
        engine, bare, cycles = one["engine"], one["bare_rows_per_s"], one["cycles_per_s"]
        met.append(verdict(f"cycles of the bare driver for one of the queue on {engine}", bare / cycles, 1 / PART, "×"))
        met.append(verdict(f"a claim among {one['queued']:,} on {engine}", one["claim_p50_ms"], 2, "ms"))
        met.append(verdict(f"submit to start, idle, on {engine}", one["start_p50_ms"], 5, "ms"))
    return met


if __name__ == "__main__":
    sys.exit(alone("queue", figures))
