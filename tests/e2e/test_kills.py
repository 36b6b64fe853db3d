"""`kill -9` of gateway and worker at random points, against the journal of those who were promised something.

The same with a database that breaks off and comes back.

`FOREBAY_TEST_KILLS=200` kills so often on each store; `FOREBAY_TEST_SEED` draws the same points and the same deeds once
more, as far as threads and processes keep to it.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os
import pathlib
import random
import secrets
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import harness
import scripted as script
from harness import Gateway
from kills import CONTEXTS, EFFECT, LOOK, MOMENT, TASKS, Client, Deed, Endpoint, Journal, engine
from parts import Database, postgres
from scripted import Scripted
from test_mcp_restart import start_again
from test_tasks import config, contents, context, done, held, shown, submit
from test_worker import Worker, address_of, secret, store

KILLS = int(os.environ.get("FOREBAY_TEST_KILLS", "2"))
SEED = int(os.environ.get("FOREBAY_TEST_SEED", secrets.randbelow(1 << 31)))
CLIENTS = 6
# Between two kills happens so much at most; then comes a moment more.
HAPPENINGS_MAX = 60
MOMENT_SECONDS = 0.05
# What may be done once only, and is given up where nobody knows whether it was.
ONCE = ("tools", "call")
# US dollars for a million tokens. What the engine's usage comes to, and a call of each tool, in millionths of a dollar.
PRICE = {"input": 1_000, "output": 2_000}
ANSWER_MICROS = 11 * 1_000 + 7 * 2_000
CALL_MICROS = {EFFECT: 250_000, LOOK: 100_000}
# Never reached: what is held and posted is looked at, and nothing refused.
LIMIT_USD = 1_000_000
# How often an attempt asks the engine.
ROUNDS = {"prompt": 1, "response": 1, "tools": 2}


class World:
    """The processes, and what is known of them."""

    def __init__(
        self, folder: pathlib.Path, journal: Journal, settings: dict[str, Any], database: Database | None
    ) -> None:
        self.folder, self.journal, self.database = folder, journal, database
        self.env = secret(address_of(database)) if database else {}
        self.gateway = Gateway(folder / "gateway", settings, **self.env)
        self.key = self.gateway.new_key("user")
        self.workers: list[Worker] = []
        # Who was killed, and how often.
        self.struck = collections.Counter[str]()

    def start_worker(self) -> None:
        folder = self.folder / f"worker-{len(self.workers)}"
        self.workers.append(Worker(self.gateway, folder, "--workers", "8", **self.env))

    def kill(self, chance: random.Random) -> str:
        victim = chance.choice(["gateway", "worker", "both"]) if self.workers else "gateway"
        if victim != "gateway":
            self.workers[-1].kill()
        if victim != "worker":
            start_again(self.gateway, **self.env)
        if victim != "gateway":
            self.start_worker()
        return victim

    def rows(self, text: str) -> list[list[str]]:
        """What the database itself says."""
        if self.database:
            return [line.split("|") for line in self.database.sql(text).splitlines()]
        place = self.gateway.data / "forebay.db"
        with contextlib.closing(sqlite3.connect(place, timeout=harness.WAIT_SECONDS_MAX)) as opened, opened:
            return [[str(value) for value in row] for row in opened.execute(text)]

    def ask(self, path: str, **query: Any) -> Any:
        answer = self.gateway.http.get(path, params=query, headers=self.key.bearer)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pages(self, path: str, member: str, **query: Any) -> Iterator[dict[str, Any]]:
        while True:
            page = self.ask(path, limit=200, **query)
            yield from page[member]
            if "next_cursor" not in page:
                return
            query["cursor"] = page["next_cursor"]

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.gateway.close()


@contextlib.contextmanager
def world(folder: pathlib.Path, database: Database | None) -> Iterator[World]:
    journal = Journal()
    with harness.closing(engine(journal)) as model, harness.closing(Endpoint(journal)) as endpoint:
        settings = config(
            model,
            mcp={"allow_addresses": ["127.0.0.1"], "max_contexts": 100_000, "tools": endpoint.tools()},
            prices={"tools": {tool: micros / 1_000_000 for tool, micros in CALL_MICROS.items()}},
            budgets=[{"scope": "tenant", "window": "24h", "limit_usd": LIMIT_USD}],
        )
        settings["models"]["scripted"]["price"] = PRICE
        if database:
            settings["store"] = store(address_of(database))
            settings["tasks"] |= {"workers": 8}
        with harness.closing(World(folder, journal, settings, database)) as made:
            if database:
                made.start_worker()
            yield made


@pytest.mark.parametrize("on", ["sqlite", "postgres"])
def test_what_was_promised_is_kept_whoever_is_killed(
    on: str, tmp_path: pathlib.Path, request: pytest.FixtureRequest
) -> None:
    database = request.getfixturevalue("database") if on == "postgres" else None
    print(f"FOREBAY_TEST_KILLS={KILLS} FOREBAY_TEST_SEED={SEED}")
    with world(tmp_path, database) as there:
        work_and_judge(there, there.kill)


def test_what_was_promised_is_kept_where_the_database_breaks_off(tmp_path: pathlib.Path) -> None:
    print(f"FOREBAY_TEST_KILLS={KILLS} FOREBAY_TEST_SEED={SEED}")
    with postgres(tmp_path) as (address, _):
        database = Database(address)

        def restart(_: random.Random) -> str:
            restart_at_once(database)
            return "database"

        with world(tmp_path, database) as there:
            work_and_judge(there, restart)


def restart_at_once(database: Database) -> None:
    """Ends PostgreSQL as a power cut would, and starts it again where it was."""
    data = database.sql("SHOW data_directory", "postgres")
    (*_, program) = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    as_owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    command = [*as_owner, str(program), "restart", "--pgdata", data, "--mode", "immediate", "--wait", "--silent"]
    # What it starts stays, and would keep a pipe of ours open.
    subprocess.run(
        command,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=harness.WAIT_SECONDS_MAX,
        check=True,
    )


def work_and_judge(there: World, strike: Callable[[random.Random], str]) -> None:
    clients = [Client(number, there.gateway, there.key, there.journal, SEED) for number in range(CLIENTS)]
    work_under(there, strike, clients)
    print(f"killed: {dict(there.struck)}; {there.journal.length} happenings")
    tasks = all_over(there, [deed for client in clients for deed in client.deeds])
    judge_tasks(there, clients, tasks)
    judge_contexts(there, clients, tasks)
    judge_money(there, clients, tasks)
    harness.expect_plain_words(there.gateway.log)


def work_under(there: World, strike: Callable[[random.Random], str], clients: list[Client]) -> None:
    chance, over = random.Random(SEED), threading.Event()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        working = [pool.submit(client.work, over) for client in clients]
        try:
            for _ in range(KILLS):
                there.journal.wait_for(chance.randrange(1, HAPPENINGS_MAX))
                MOMENT.wait(chance.random() * MOMENT_SECONDS)
                there.struck[strike(chance)] += 1
                for one in working:
                    assert not one.done(), one.exception()
        finally:
            over.set()
    for one in working:
        one.result()


def all_over(there: World, deeds: list[Deed]) -> dict[str, dict[str, Any]]:
    """Every task that there is, once all of them have come to their end."""
    promised = {deed.task for deed in deeds}

    def ended() -> dict[str, dict[str, Any]] | None:
        tasks = {task["id"]: task for task in there.pages(TASKS, "tasks")}
        assert promised <= tasks.keys(), f"lost: {promised - tasks.keys()}"
        over = ("completed", "failed", "cancelled", "dead")
        return tasks if all(task["status"] in over for task in tasks.values()) else None

    return harness.wait_for("all tasks to be over", ended, 3 * harness.WAIT_SECONDS_MAX)


def judge_tasks(there: World, clients: list[Client], tasks: dict[str, dict[str, Any]]) -> None:
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    again = 0
    for deed in (deed for client in clients for deed in client.deeds):
        task, what = tasks[deed.task], (deed.kind, deed.name, deed.task)
        counts[deed.kind, task["status"]] += 1
        again += task["attempts"] > 1
        expected = "cancelled" if deed.kind == "cancelled" else "completed"
        is_worn = task["status"] in ("dead", "failed") and task["attempts"] == task["attempts_max"]
        assert task["status"] == expected or is_worn, (what, task)
        judge_effects(there, deed, task)
        if deed.kind == "response":
            judge_response(there, deed, task)
        elif deed.seen:
            now = there.ask(f"{TASKS}/{deed.task}")
            assert now == deed.seen, f"{what} was over, and is not what it was"
    for (kind, status), count in sorted(counts.items()):
        print(f"{kind}: {count} {status}")
    print(f"{again} of {len(tasks)} tasks were begun more than once")


def judge_effects(there: World, deed: Deed, task: dict[str, Any]) -> None:
    """What reached the engine and the tools: no more than there were attempts, and nothing after the end."""
    places = there.journal.places
    asked, effects, looks = (places.get((what, deed.name), []) for what in ("asked", EFFECT, LOOK))
    what, is_done, attempts = (deed.kind, deed.name, task), task["status"] == "completed", task["attempts"]
    if deed.over_at:
        assert all(place < deed.over_at for place in (*asked, *effects, *looks)), f"it was over, and ran again: {what}"
    if deed.kind in ("prompt", "response"):
        assert is_done <= len(asked) <= attempts, (what, asked)
    if deed.kind in ONCE:
        assert task["attempts_max"] == 1, what
        ran = reported(there, deed) if is_done and deed.kind == "tools" else is_done
        assert ran <= len(effects) <= 1, (what, effects)
    if deed.kind == "look":
        assert is_done <= len(looks) <= attempts, (what, looks)


def reported(there: World, deed: Deed) -> int:
    """Calls that an answer says were made. Where money cannot be held none is, and the model is told so."""
    node = there.ask(f"{TASKS}/{deed.task}")["output"]["node"]
    (call,) = node["metadata"]["forebay"]["tools"]
    assert call["name"] == EFFECT and (call["status"] == "success" or "database" in there.struck), call
    return call["status"] == "success"


def judge_response(there: World, deed: Deed, task: dict[str, Any]) -> None:
    made = there.ask(f"/v1/responses/{deed.response}")
    if task["status"] == "completed":
        assert made["status"] == "completed" and f"said to {deed.name}" in str(made["output"]), made
    else:
        assert made["status"] == "failed", made


def judge_contexts(there: World, clients: list[Client], tasks: dict[str, dict[str, Any]]) -> None:
    kept = [context for client in clients for context in client.contexts]
    there_are = sorted(context["id"] for context in there.pages(CONTEXTS, "contexts"))
    assert there_are == sorted(context.id for context in kept if not context.is_deleted)
    nodes = 0
    for one in kept:
        if one.is_deleted:
            continue
        found = contents(there.gateway, there.key, one.id)
        nodes += len(found)
        left = list(found)
        for deed in one.deeds:
            if deed.is_gone:
                continue
            if tasks[deed.task]["status"] == "completed":
                assert tuple(left[: len(deed.contents)]) == deed.contents, (deed, found)
            elif tuple(left[: len(deed.contents)]) != deed.contents:
                # What was begun as often as it may be has done its work before it was lost, or has not.
                continue
            del left[: len(deed.contents)]
        assert not left, f"{one.id} has more than anybody put there: {left} of {found}"
    print(f"{len(there_are)} contexts with {nodes} nodes are as their clients know them")


def judge_money(there: World, clients: list[Client], tasks: dict[str, dict[str, Any]]) -> None:
    """Whatever reached the engine or a tool was held for before, and is posted once; in the end nothing is held."""
    lost = all_ended(there)
    holds = collections.defaultdict[tuple[str, str], list[int]](list)
    for trace, kind, posted in there.rows("SELECT trace, purpose_kind, posted FROM ledger_hold"):
        holds[trace, kind].append(int(posted))
    traces = dict(there.rows("SELECT id, trace FROM task"))
    for deed in (deed for client in clients for deed in client.deeds):
        of_models, of_tools = (holds.pop((traces[deed.task], kind), []) for kind in ("model", "tool"))
        judge_bill(there, deed, tasks[deed.task], (of_models, of_tools))
    # What nobody was promised may be there all the same: its answer was lost.
    posted = int(there.rows("SELECT sum(posted) FROM ledger_txn")[0][0])
    assert posted == int(there.rows("SELECT sum(posted) FROM ledger_hold")[0][0]), "each posting has its hold"
    (window,) = there.ask("/api/v1/spending")["windows"]
    assert window["held_usd"] == 0 and round(window["spent_usd"] * 1_000_000) == posted, window
    print(f"${posted / 1_000_000} posted; {lost} holds were ended by time alone")


def all_ended(there: World) -> int:
    """Ends what the killed ones held, and says how many holds that were."""
    are_open = "SELECT count(*) FROM ledger_hold WHERE state = 'open'"
    # Each has a minute more than its request may take; its time is said to have come.
    there.rows("UPDATE ledger_hold SET lapses_at_ms = 0 WHERE state = 'open'")
    harness.wait_for("nothing to be held", lambda: there.rows(are_open) == [["0"]])
    return int(there.rows("SELECT count(*) FROM ledger_hold WHERE state = 'lapsed'")[0][0])


def judge_bill(there: World, deed: Deed, task: dict[str, Any], holds: tuple[list[int], list[int]]) -> None:
    of_models, of_tools = holds
    places, attempts, is_done = there.journal.places, task["attempts"], task["status"] == "completed"
    asked, effects, looks = (len(places.get((what, deed.name), [])) for what in ("asked", EFFECT, LOOK))
    what = (deed.kind, deed.name, task, holds)
    assert asked <= len(of_models) <= ROUNDS.get(deed.kind, 0) * attempts, what
    assert sum(of_models) >= asked * ANSWER_MICROS, what
    called, tool = (looks, LOOK) if deed.kind == "look" else (effects, EFFECT)
    is_call = deed.kind in (*ONCE, "look")
    assert called <= len(of_tools) <= is_call * attempts, what
    price = CALL_MICROS[tool]
    assert set(of_tools) <= {0, price} and called * price <= sum(of_tools), what
    if is_done and deed.kind in ONCE and (effects or "database" not in there.struck):
        assert of_tools == [price], what
    if is_done and attempts == 1:
        assert of_models == [ANSWER_MICROS] * ROUNDS.get(deed.kind, 0), what


def test_a_worker_that_slept_longer_than_its_lease_changes_nothing_any_more(
    tmp_path: pathlib.Path, database: Database, scripted: Scripted
) -> None:
    address = address_of(database)
    settings = config(scripted, store=store(address))
    settings["tasks"] |= {"workers": 0}
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(harness.closing(Gateway(tmp_path / "gateway", settings, **secret(address))))
        key, go = gateway.new_key("user"), threading.Event()

        def start(name: str) -> Worker:
            worker = Worker(gateway, tmp_path / name, **secret(address))
            stack.callback(worker.kill)
            return worker

        sleeper = start("sleeper")
        about = context(gateway, key)
        scripted.will(held(go, "from the one that slept"), script.say("from the other"))
        stack.callback(go.set)
        before = len(scripted.heard)
        asked = submit(gateway, key, "mcp.add_prompt", {"context_id": about, "prompt": "anybody?"})["id"]
        harness.wait_for("the model to be asked", lambda: len(scripted.heard) > before)
        sleeper.child.send_signal(signal.SIGSTOP)
        start("other")
        ended = done(gateway, key, asked)
        assert (ended["status"], ended["attempts"]) == ("completed", 2)
        go.set()
        sleeper.child.send_signal(signal.SIGCONT)
        line = 'forebay_task_runs_total{type="mcp.add_prompt",outcome="lost"} 1'
        url = f"http://127.0.0.1:{sleeper.port}/metrics"
        harness.wait_for("the run to be lost", lambda: line in httpx.get(url, trust_env=False).text)
        assert shown(gateway, key, asked).json() == ended
        assert contents(gateway, key, about) == ["anybody?", "from the other"]
