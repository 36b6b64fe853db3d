"""The queue: durable cycles a second on each store beside the bare driver, claims among many, submit to start."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import alone, on_each_store, verdict

SECONDS = os.environ.get("BENCH_SECONDS", "5")
QUEUED = os.environ.get("BENCH_QUEUED", "1000000")
PART = 0.8
AIM_PER_S = 5000
CLAIM_MS = 2


def figures(binary, folder):
    seen = on_each_store(binary, folder, "--seconds", SECONDS, "--queued", QUEUED)
    print(
        "\nbatches of 100: submitted, claimed and settled, each committed before it is answered; the bare driver does"
    )
    print("the same to a plain table in three commits a batch, a statement for each row or one for all hundred\n")
    print(
        "| store | bare, a statement a row | bare, one a batch | cycles/s | start p50, p99 ms |\n|---|---|---|---|---|"
    )
    for one in seen:
        rates = [f"{one[name]:,.0f}" for name in ("bare_rows_per_s", "bare_batches_per_s", "cycles_per_s")]
        print(f"| {one['engine']} | {' | '.join(rates)} | {one['start_p50_ms']:.2f}, {one['start_p99_ms']:.2f} |")
    print(f"\n{seen[0]['queued']:,} tasks queued, of {seen[0]['types']} types, a tenth of them in lanes of ten\n")
    print("| store | claim of 1: p50, p99 ms | claim of 100: p50, p99 ms | counting all ms |\n|---|---|---|---|")
    for one in seen:
        times = [f"{one[f'{name}_p50_ms']:.2f}, {one[f'{name}_p99_ms']:.2f}" for name in ("claim", "claim_100")]
        print(f"| {one['engine']} | {times[0]} | {times[1]} | {one['counts_ms']:.0f} |")
    print("\n| figure | measured | target | |\n|---|---|---|---|")
    met = []
    for one in seen:
        engine, cycles, among = one["engine"], one["cycles_per_s"], f"a claim among {one['queued']:,}"
        for bare, how in (("bare_batches_per_s", "a statement a batch"), ("bare_rows_per_s", "a statement a row")):
            name = f"cycles of the bare driver, {how}, for one of the queue on {engine}"
            met.append(verdict(name, one[bare] / cycles, 1 / PART, "×"))
        met.append(verdict(f"1 s of {AIM_PER_S:,} cycles on {engine}", AIM_PER_S / cycles, 1, "s"))
        for part in ("p50", "p99"):
            met.append(verdict(f"{among} on {engine}, {part}", one[f"claim_{part}_ms"], CLAIM_MS, "ms"))
        met.append(verdict(f"submit to start, idle, on {engine}", one["start_p50_ms"], 5, "ms"))
    return met


if __name__ == "__main__":
    sys.exit(alone("queue", figures))
