"""The official suite: where it is, what it says of its own scenarios, and how its results are read and judged."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "e2e"))

import harness  # noqa: E402

PACKAGES = pathlib.Path(os.environ.get("FOREBAY_VENV", harness.ROOT / ".venv")) / "node" / "conformance"
SUITE = PACKAGES / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
REVISIONS = ("2025-11-25", "2026-07-28")
RUN_SECONDS_MAX = 240
# How the suite names the folder of a scenario's results.
RESULT = re.compile(r"(server-)?(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\w.-]+")
# An extension, which the suite runs without scoring it. The gateway has it, and is held to it whoever serves the tools.
TASKS = "tasks-"
# Statuses that say nothing of the subject.
SILENT = ("INFO", "SKIPPED")


@dataclasses.dataclass
class Check:
    id: str
    status: str
    message: str


@dataclasses.dataclass
class Verdict:
    """What one run of the suite showed."""

    mode: str
    revision: str
    scenarios: dict[str, list[Check]]
    unscored: set[str]
    faults: list[str] = dataclasses.field(default_factory=list)
    # Scenarios that say nothing of a gateway, with the reason.
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)

    def is_scored(self, scenario: str) -> bool:
        """Whether every one of its checks has to pass."""
        return scenario not in self.unscored or scenario.startswith(TASKS)

    def passed(self, scenario: str) -> int:
        return sum(check.status == "SUCCESS" for check in self.scenarios[scenario])

    def judge(self, expected: dict[str, int]) -> None:
        """Holds the run against what is expected of it; what differs becomes a fault."""
        for name in sorted(expected.keys() | self.scenarios.keys()):
            if name not in self.scenarios:
                self.faults.append(f"{name}: was not run")
                continue
            passed, wanted = self.passed(name), expected.get(name)
            if passed != wanted:
                self.faults.append(f"{name}: {passed} checks passed, {wanted} were expected")
            if self.is_scored(name):
                self.faults += [
                    f"{name}: {check.id}: {check.status}: {check.message}"
                    for check in self.scenarios[name]
                    if check.status not in ("SUCCESS", *SILENT)
                ]

    def report(self) -> None:
        scored = [name for name in self.scenarios if self.is_scored(name)]
        passed = sum(self.passed(name) for name in scored)
        judged = sum(check.status not in SILENT for name in scored for check in self.scenarios[name])
        print(f"conformance {self.revision}, {self.mode}: {passed}/{judged} checks, {len(scored)} scenarios")
        for name in sorted(self.scenarios.keys() - set(scored)):
            states = collections.Counter(check.status for check in self.scenarios[name])
            told = ", ".join(f"{count} {state.lower()}" for state, count in sorted(states.items()))
            print(f"  not scored: {name}: {told}")
        by_reason: dict[str, list[str]] = {}
        for name, reason in sorted(self.left_out.items()):
            by_reason.setdefault(reason, []).append(name)
        for reason, names in by_reason.items():
            print(f"  left out ({reason}): {', '.join(names)}")
        for fault in self.faults:
            print(f"  {fault}")


def read_results(results: pathlib.Path) -> dict[str, list[Check]]:
    found: dict[str, list[Check]] = {}
    for file in sorted(results.rglob("checks.json")):
        name = RESULT.fullmatch(file.parent.relative_to(results).as_posix())["scenario"]
        checks = json.loads(file.read_text(encoding="utf-8"))
        found[name] = [Check(one["id"], one["status"], one.get("errorMessage") or "") for one in checks]
    return found


def requirements(revision: str, leg: str) -> tuple[list[str], set[str]]:
    """The scenarios that a revision requires of a leg, and those that the suite runs beside them without scoring."""
    text = (SUITE.parents[1] / "requirements" / f"{revision}.yaml").read_text(encoding="utf-8")
    section, scored, unscored, last = "", [], set(), ""
    for line in text.splitlines():
        bare = line.strip()
        if line and not line.startswith((" ", "#")):
            section = line.rstrip(":")
        elif bare.startswith("- scenario:"):
            last = bare.partition(":")[2].strip()
        elif bare == f"leg: {leg}":
            unscored.add(last)
        elif bare.startswith("- ") and section == leg:
            scored.append(bare[2:])
    return scored, unscored
