//! The queue over a real database against a plain one, whatever happens to it in whatever order: two gateways on one
//! database, each of which is asked several things at once.
//!
//! `FOREBAY_TEST_QUEUE_CASES` says how many cases are tried, `FOREBAY_TEST_SEED` from where. Of a case that fails the
//! smallest that was found is printed.

use super::{
    Timed, claim_of, done, failed, failed_of,
    model::{BACK_OFF_MS, How, KEPT_MS, LEASE_MS, Model, Move, New, Op, Settlement, Submission, TYPES, WANTED_MS, ops},
    work,
};
use crate::at;
use forebay_domain::{
    id::TaskId,
    task::{Ended, Refusal, Retry, State},
};
use forebay_runtime::{Clock, Entropy};
use forebay_store::{
    Queue,
    queue::{Beat, Claimed, NewTask, Scope, Settled, SubmitError, TaskError, TaskQuery},
};
use forebay_testkit::db::TestDb;
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::{collections::BTreeSet, panic::AssertUnwindSafe, time::Duration};

const CASES_VARIABLE: &str = "FOREBAY_TEST_QUEUE_CASES";
const CASES: u64 = 8;
const SEED_VARIABLE: &str = "FOREBAY_TEST_SEED";
const SEED: u64 = 1;
const OPS: usize = 60;
/// Smaller cases that are tried where one has failed.
const SHRINKS_MAX: usize = 200;
const KEPT: Duration = Duration::from_millis(KEPT_MS.unsigned_abs());
const LEASE: Duration = Duration::from_millis(LEASE_MS.unsigned_abs());
const BACK_OFF: Duration = Duration::from_millis(BACK_OFF_MS.unsigned_abs());
const WORKERS: [&str; 2] = ["w0", "w1"];
const UNFINISHED: &str = "SELECT CAST(COALESCE(SUM(number), 0) AS BIGINT) FROM task_unfinished";

struct World<'a> {
    db: &'a TestDb,
    clock: Clock,
    gateways: [Timed; 2],
    queues: [Queue; 2],
    model: Model,
    ids: Vec<TaskId>,
    /// The fence of each run.
    fences: Vec<i64>,
}

/// What came of one move.
enum Came {
    Claimed(Vec<Claimed>),
    Beat(Beat),
    Settled(Result<Settled, TaskError>),
    Cancelled(Result<State, TaskError>),
    Requeued(Result<State, TaskError>),
}

impl World<'_> {
    async fn apply(&mut self, op: &Op) {
        match op {
            Op::Submit(gateway, news) => self.submit(*gateway, news).await,
            Op::Move(gateway, moves) => {
                let moves = self.resolved(*gateway, moves);
                self.happen(*gateway, &moves).await;
            }
            Op::Forget(gateway, task) => {
                let Some(task) = task.checked_rem(self.ids.len()) else {
                    return;
                };
                let found = self.queues[*gateway].forget(&Scope::All, &self.ids[task]).await;
                assert_eq!(found.unwrap(), self.model.forget(task));
            }
            Op::Wait { by_ms } => {
                self.clock.advance(Duration::from_millis(by_ms.unsigned_abs()));
                self.pass_time().await;
            }
            Op::Jump { by_ms } => {
                self.clock.set_by(*by_ms);
                self.pass_time().await;
            }
        }
    }

    /// What happens by itself, at one gateway after the other.
    async fn pass_time(&mut self) {
        for queue in &self.queues {
            queue.lapse().await.unwrap();
        }
        self.model.now_ms = self.clock.now().as_millisecond();
        self.model.lapse();
        for queue in &self.queues {
            queue.catch_up().await.unwrap();
        }
        self.model.catch_up();
        for queue in &self.queues {
            queue.prune().await.unwrap();
        }
        self.model.prune();
    }

    async fn submit(&mut self, gateway: usize, news: &[New]) {
        let all = news.iter().map(|new| {
            self.queues[gateway].submit(NewTask {
                priority: new.priority,
                run_at: (new.ahead_ms > 0).then(|| at(self.model.now_ms + new.ahead_ms)),
                idempotency_key: new.key.map(|key| key.to_string()),
                lane: new.lane.map(|lane| lane.to_string()),
                wanted_by: new
                    .wanted_by
                    .map(|by| (WORKERS[by].parse().unwrap(), at(self.model.now_ms + WANTED_MS))),
                retry: Retry {
                    attempts_max: new.attempts_max,
                    first: BACK_OFF,
                    max: BACK_OFF,
                },
                result_ttl: KEPT,
                ..work(TYPES[new.of])
            })
        });
        for (new, found) in news.iter().zip(join_all(all).await) {
            match (found, self.model.submit(new)) {
                (Ok(found), Some(expected)) => {
                    if expected.task == self.ids.len() {
                        self.ids.push(found.id.clone());
                        self.model.tasks[expected.task].id = found.id.to_string();
                    }
                    let task = self.ids.iter().position(|id| *id == found.id).unwrap();
                    let found = Submission {
                        task,
                        state: found.state,
                        is_repeat: found.is_repeat,
                    };
                    assert_eq!(found, expected);
                }
                (Err(SubmitError::Reused), None) => {}
                (found, expected) => unreachable!("{found:?} where {expected:?} was expected"),
            }
        }
        self.model.turns();
    }

    /// With runs and tasks that there are. A run is heard of where it runs.
    fn resolved(&self, gateway: usize, moves: &[Move]) -> Vec<Move> {
        let (runs, tasks) = (self.fences.len(), self.ids.len());
        let resolved = moves.iter().filter_map(|one| {
            Some(match one {
                Move::Claim { .. } => one.clone(),
                Move::Beat { run } => {
                    let run = run.checked_rem(runs)?;
                    (self.model.runs[run].1 == gateway).then_some(Move::Beat { run })?
                }
                Move::Settle { run, how } => Move::Settle {
                    run: run.checked_rem(runs)?,
                    how: *how,
                },
                Move::Cancel { task } => Move::Cancel {
                    task: task.checked_rem(tasks)?,
                },
                Move::Requeue { task } => Move::Requeue {
                    task: task.checked_rem(tasks)?,
                },
            })
        });
        resolved.collect()
    }

    fn ask<'w>(&'w self, gateway: usize, one: &Move) -> BoxFuture<'w, Came> {
        let queue = &self.queues[gateway];
        match *one {
            Move::Claim { room, at_most } => {
                let types = [(TYPES[0], room[0]), (TYPES[1], room[1])];
                let claim = claim_of(WORKERS[gateway], &types, at_most);
                Box::pin(async move { Came::Claimed(queue.claim(claim).await.unwrap()) })
            }
            Move::Beat { run } => {
                let held = [(self.ids[self.model.runs[run].0].clone(), self.fences[run])];
                Box::pin(async move { Came::Beat(queue.heartbeat(&held, LEASE).await.unwrap().remove(0)) })
            }
            Move::Settle { run, how } => {
                let (id, fence) = (&self.ids[self.model.runs[run].0], self.fences[run]);
                Box::pin(async move { Came::Settled(queue.settle(id, fence, ended(how)).await) })
            }
            Move::Cancel { task } => {
                Box::pin(async move { Came::Cancelled(queue.cancel(&Scope::All, &self.ids[task]).await) })
            }
            Move::Requeue { task } => {
                Box::pin(async move { Came::Requeued(queue.requeue(&Scope::All, &self.ids[task]).await) })
            }
        }
    }

    /// All of it at once: the store hears of it in this order, and lets whatever is no claim happen first.
    async fn happen(&mut self, gateway: usize, moves: &[Move]) {
        let came = join_all(moves.iter().map(|one| self.ask(gateway, one))).await;
        let mut repeats = Vec::new();
        for (one, came) in moves.iter().zip(&came) {
            match (one, came) {
                (Move::Beat { run }, Came::Beat(beat)) => {
                    let found = beat.still_mine.then_some(beat.cancel_wanted);
                    assert_eq!(found, self.model.beat(*run));
                }
                (Move::Settle { run, how }, Came::Settled(found)) => match (self.model.settle(*run, *how), found) {
                    (Settlement::State(state), Ok(found)) => {
                        assert_eq!((found.state, found.is_repeat), (state, false));
                    }
                    (Settlement::Repeat(task), Ok(found)) => {
                        assert!(found.is_repeat);
                        repeats.push((task, found.state));
                    }
                    (Settlement::Lost, Err(TaskError::Refused(Refusal::Stale)))
                    | (Settlement::Gone, Err(TaskError::Unknown)) => {}
                    (expected, found) => unreachable!("{found:?} where {expected:?} was expected"),
                },
                (Move::Cancel { task }, Came::Cancelled(found)) => {
                    assert_eq!(found.as_ref().ok().copied(), self.model.cancel(*task));
                }
                (Move::Requeue { task }, Came::Requeued(found)) => {
                    assert_eq!(found.is_ok(), self.model.requeue(*task));
                }
                (Move::Claim { .. }, _) => {}
                _ => unreachable!("each is answered as it was asked"),
            }
        }
        self.model.turns();
        for (one, came) in moves.iter().zip(came) {
            if let (Move::Claim { room, at_most }, Came::Claimed(claimed)) = (one, came) {
                self.claimed(gateway, *room, *at_most, claimed);
            }
        }
        for (task, state) in repeats {
            assert_eq!(
                self.model.tasks[task].state(),
                state,
                "as it stood when it was looked up"
            );
        }
    }

    fn claimed(&mut self, gateway: usize, room: [u32; 2], at_most: u32, claimed: Vec<Claimed>) {
        self.model.wake();
        let expected = self.model.claimable(gateway, room, at_most);
        let numbers: Vec<usize> = claimed
            .iter()
            .map(|one| self.ids.iter().position(|id| *id == one.task.id).unwrap())
            .collect();
        let found: Vec<i64> = numbers.iter().map(|number| self.model.tasks[*number].rank()).collect();
        assert_eq!(found, expected, "of those that are alike anyone may come first");
        for (number, one) in numbers.into_iter().zip(claimed) {
            self.model.claim(number, gateway);
            self.fences.push(one.fence);
        }
    }

    /// Everything is where the plain queue has it, and what backs off is due within the bounds.
    async fn check(&mut self) {
        let all = TaskQuery {
            scope: Scope::All,
            state: None,
            task_type: None,
            context_id: None,
            after: None,
            limit: 0,
        };
        let page = self.queues[0].list(&all).await.unwrap();
        // Each process gives identifiers that grow; those of two are mixed.
        let found: BTreeSet<&TaskId> = page.tasks.iter().map(|task| &task.id).collect();
        let there = self
            .ids
            .iter()
            .zip(&self.model.tasks)
            .filter(|(_, task)| task.is_there());
        assert_eq!(found, there.map(|(id, _)| id).collect());
        for task in &page.tasks {
            let number = self.ids.iter().position(|id| *id == task.id).unwrap();
            assert_eq!(task.state, self.model.tasks[number].state(), "{number}");
            self.model.learn(number, task.run_at.as_millisecond());
        }
        self.model.check();
        for (gateway, worker) in WORKERS.iter().enumerate() {
            let worker = worker.parse().unwrap();
            let left = self.queues[gateway].left_behind(&worker, &[]).await.unwrap();
            let found: BTreeSet<&TaskId> = left.iter().map(|(id, _)| id).collect();
            let running = self.model.running_at(gateway);
            assert_eq!(found, running.iter().map(|number| &self.ids[*number]).collect());
        }
    }

    async fn end(self) {
        let unfinished = self.model.tasks.iter().filter(|task| !task.is_over()).count();
        let counted = self.db.number(UNFINISHED).await;
        assert_eq!(usize::try_from(counted), Ok(unfinished), "{}", self.db.name());
        for gateway in self.gateways {
            gateway.close().await;
        }
    }
}

fn ended(how: How) -> Ended {
    match how {
        How::Done => done(),
        How::Again => failed(true),
        How::Never => failed(false),
        How::Refused => failed_of("context_limit", false),
        How::Busy => failed_of("overloaded", true),
        How::Cancelled => Ended::Cancelled,
        How::GivenBack => Ended::GivenBack,
        How::Unbegun => Ended::Unbegun,
    }
}

async fn run(db: &TestDb, case: u64, ops: &[Op]) {
    let clock = Clock::manual(at(super::START_MS));
    let seed = case << 1;
    let gateways = [
        Timed::open_with(db, clock.clone(), Entropy::seeded(seed)).await,
        Timed::open_with(db, clock.clone(), Entropy::seeded(seed + 1)).await,
    ];
    let mut world = World {
        db,
        queues: gateways.each_ref().map(Timed::queue),
        model: Model {
            now_ms: clock.now().as_millisecond(),
            ..Model::default()
        },
        clock,
        gateways,
        ids: Vec::new(),
        fences: Vec::new(),
    };
    for op in ops {
        world.apply(op).await;
        world.check().await;
    }
    world.end().await;
}

/// Whether it is otherwise than it should be on one of the databases; what, is on the standard error by then.
async fn fails(case: u64, ops: &[Op]) -> bool {
    for db in TestDb::both().await {
        if AssertUnwindSafe(run(&db, case, ops)).catch_unwind().await.is_err() {
            return true;
        }
    }
    false
}

fn tree_of(seed: u64, case: u64) -> impl ValueTree<Value = Vec<Op>> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&case.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    ops(OPS).new_tree(&mut runner).unwrap()
}

/// The smallest case of this one that fails too, as far as is looked.
async fn shrunk(case: u64, tree: &mut impl ValueTree<Value = Vec<Op>>) -> Vec<Op> {
    let mut smallest = tree.current();
    let mut goes_on = tree.simplify();
    for _ in 0..SHRINKS_MAX {
        if !goes_on {
            break;
        }
        let smaller = tree.current();
        goes_on = if fails(case, &smaller).await {
            smallest = smaller;
            tree.simplify()
        } else {
            tree.complicate()
        };
    }
    smallest
}

#[expect(
    clippy::disallowed_methods,
    reason = "who looks for rare cases says how many of them"
)]
fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

#[tokio::test]
async fn whatever_happens_it_is_a_plain_queue() {
    let (cases, seed) = (number(CASES_VARIABLE, CASES), number(SEED_VARIABLE, SEED));
    for case in 0..cases {
        let mut tree = tree_of(seed, case);
        if fails(case, &tree.current()).await {
            let smallest = shrunk(case, &mut tree).await;
            panic!("case {case} of {SEED_VARIABLE}={seed} fails with {smallest:#?}");
        }
    }
}
