//! The queue over a real database against a plain one, whatever happens to it in whatever order.

use super::{
    Timed, claim_of, done, failed,
    model::{How, Model, Op, TYPES, ops},
    work,
};
use crate::at;
use forebay_domain::{
    id::TaskId,
    task::{Ended, Refusal, Retry},
};
use forebay_store::{
    Queue,
    queue::{NewTask, Scope, SubmitError, TaskError, TaskQuery},
};
use forebay_testkit::db::TestDb;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use std::time::Duration;

const CASES: u8 = 6;
const OPS: usize = 100;
const LEASE: Duration = Duration::from_millis(super::model::LEASE_MS.unsigned_abs());
const BACK_OFF: Duration = Duration::from_secs(20);

struct World {
    timed: Timed,
    queue: Queue,
    model: Model,
    ids: Vec<TaskId>,
    /// The fence of each run.
    fences: Vec<i64>,
}

impl World {
    async fn apply(&mut self, op: &Op) {
        match op {
            Op::Submit { .. } => self.submit(op).await,
            Op::Claim { room, at_most } => self.claim(*room, *at_most).await,
            Op::Beat { run } => {
                let Some(run) = run.checked_rem(self.fences.len()) else {
                    return;
                };
                let held = [(self.ids[self.model.runs[run]].clone(), self.fences[run])];
                let beat = self.queue.heartbeat(&held, LEASE).await.unwrap().remove(0);
                let found = beat.still_mine.then_some(beat.cancel_wanted);
                assert_eq!(found, self.model.beat(run));
            }
            Op::Settle { run, how } => {
                let Some(run) = run.checked_rem(self.fences.len()) else {
                    return;
                };
                self.settle(run, *how).await;
            }
            Op::Cancel { task } => {
                let Some(task) = task.checked_rem(self.ids.len()) else {
                    return;
                };
                let found = self.queue.cancel(&Scope::All, &self.ids[task]).await;
                assert_eq!(found.ok(), self.model.cancel(task));
            }
            Op::Requeue { task } => {
                let Some(task) = task.checked_rem(self.ids.len()) else {
                    return;
                };
                let found = self.queue.requeue(&Scope::All, &self.ids[task]).await;
                assert_eq!(found.is_ok(), self.model.requeue(task));
            }
            Op::Wait { by_ms } => {
                self.timed.clock.advance(Duration::from_millis(by_ms.unsigned_abs()));
                self.lapse().await;
            }
            Op::Jump { by_ms } => {
                self.timed.clock.set_by(*by_ms);
                self.lapse().await;
            }
        }
    }

    async fn lapse(&mut self) {
        self.queue.lapse().await.unwrap();
        self.model.now_ms = self.timed.now_ms();
        self.model.lapse();
    }

    async fn submit(&mut self, op: &Op) {
        let Op::Submit {
            of,
            priority,
            lane,
            ahead_ms,
            attempts_max,
            key,
        } = op
        else {
            return;
        };
        let new = NewTask {
            priority: *priority,
            run_at: (*ahead_ms > 0).then(|| at(self.timed.now_ms() + ahead_ms)),
            idempotency_key: key.map(|key| key.to_string()),
            lane: lane.map(|lane| lane.to_string()),
            retry: Retry {
                attempts_max: *attempts_max,
                first: BACK_OFF,
                max: BACK_OFF,
            },
            result_ttl: Duration::from_hours(1_000),
            ..work(TYPES[*of])
        };
        match (self.queue.submit(new).await, self.model.submit(op)) {
            (Ok(submitted), Some((number, is_repeat))) => {
                assert_eq!(submitted.is_repeat, is_repeat);
                if is_repeat {
                    assert_eq!(submitted.id, self.ids[number]);
                } else {
                    self.ids.push(submitted.id);
                }
            }
            (Err(SubmitError::Reused), None) => {}
            (found, expected) => unreachable!("{found:?} where {expected:?} was expected"),
        }
    }

    async fn claim(&mut self, room: [u32; 2], at_most: u32) {
        let types = [(TYPES[0], room[0]), (TYPES[1], room[1])];
        let claimed = self.queue.claim(claim_of("w", &types, at_most)).await.unwrap();
        self.model.wake();
        let expected = self.model.claimable(room, at_most);
        let numbers: Vec<usize> = claimed
            .iter()
            .map(|one| self.ids.iter().position(|id| *id == one.task.id).unwrap())
            .collect();
        let found: Vec<i64> = numbers.iter().map(|number| self.model.tasks[*number].rank()).collect();
        assert_eq!(found, expected, "of those that are alike anyone may come first");
        for (number, one) in numbers.into_iter().zip(claimed) {
            self.model.claim(number);
            self.fences.push(one.fence);
        }
    }

    async fn settle(&mut self, run: usize, how: How) {
        let ended = match how {
            How::Done => done(),
            How::Again => failed(true),
            How::Never => failed(false),
            How::GivenBack => Ended::GivenBack,
            How::Unbegun => Ended::Unbegun,
        };
        let id = &self.ids[self.model.runs[run]];
        let found = match self.queue.settle(id, self.fences[run], ended).await {
            Ok(settled) => Some((settled.state, settled.is_repeat)),
            Err(TaskError::Refused(Refusal::Stale)) => None,
            Err(error) => unreachable!("{error}"),
        };
        assert_eq!(found, self.model.settle(run, how));
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
        let page = self.queue.list(&all).await.unwrap();
        assert_eq!(page.tasks.len(), self.ids.len());
        for (number, task) in page.tasks.iter().rev().enumerate() {
            assert_eq!(task.id, self.ids[number], "the newest first");
            assert_eq!(task.state, self.model.tasks[number].state(), "{number}");
            self.model.learn(number, task.run_at.as_millisecond());
        }
        self.model.check();
    }
}

async fn run(db: &TestDb, ops: &[Op]) {
    let timed = Timed::open(db).await;
    let mut world = World {
        queue: timed.queue(),
        model: Model {
            now_ms: timed.now_ms(),
            ..Model::default()
        },
        timed,
        ids: Vec::new(),
        fences: Vec::new(),
    };
    for op in ops {
        world.apply(op).await;
        world.check().await;
    }
    world.timed.close().await;
}

fn ops_of(case: u8) -> Vec<Op> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[case; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    ops(OPS).new_tree(&mut runner).unwrap().current()
}

#[tokio::test]
async fn whatever_happens_it_is_a_plain_queue() {
    for case in 0..CASES {
        let ops = ops_of(case);
        for db in TestDb::both().await {
            run(&db, &ops).await;
        }
    }
}
