//! The queue: nothing that was acknowledged is lost, nothing that was settled runs again, and who comes first.

mod basics;
mod bounds;
mod crash;
mod forget;
mod full;
mod lanes;
mod leases;
mod model;
mod names;
mod order;
mod property;
mod restart;

use crate::{Opened, at, trace};
use bytes::Bytes;
use forebay_domain::{
    Principal, Role,
    model::Priority,
    task::{Ended, Needs, Offer, Retry, TaskError, TaskOwner},
};
use forebay_runtime::{Clock, Entropy, Tasks};
use forebay_store::{
    Queue, Store, StoreParts,
    queue::{Claim, Claimed, NewTask, Scope, TaskQuery},
};
use forebay_testkit::db::TestDb;
use std::time::Duration;

const START_MS: i64 = 1_800_000_000_000;
const LEASE: Duration = Duration::from_secs(30);

/// A store whose clock is moved by hand.
struct Timed {
    opened: Opened,
    clock: Clock,
}

impl Timed {
    async fn open(db: &TestDb) -> Self {
        Self::open_with(db, Clock::manual(at(START_MS)), Entropy::system()).await
    }

    async fn open_with(db: &TestDb, clock: Clock, entropy: Entropy) -> Self {
        let tasks = Tasks::new();
        let parts = StoreParts {
            clock: clock.clone(),
            entropy,
            tasks: tasks.clone(),
        };
        let store = Store::open(db.url(), parts).await.unwrap();
        Self {
            opened: Opened { store, tasks },
            clock,
        }
    }

    fn queue(&self) -> Queue {
        self.opened.store.queue()
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    async fn close(self) {
        self.opened.close().await;
    }
}

fn owner(tenant: &str, subject: &str) -> TaskOwner {
    TaskOwner::of(&principal(tenant, subject))
}

fn principal(tenant: &str, subject: &str) -> Principal {
    Principal {
        tenant: tenant.parse().unwrap(),
        project: None,
        subject: subject.parse().unwrap(),
        key: Some("k1".parse().unwrap()),
        session: None,
        role: Role::User,
        grants: Vec::new(),
        shown: Vec::new(),
        good_until: None,
    }
}

fn scope(tenant: &str) -> Scope {
    Scope::Tenant(tenant.parse().unwrap())
}

/// Something that acme wants to be done at once.
fn work(task_type: &str) -> NewTask {
    NewTask {
        task_type: task_type.parse().unwrap(),
        owner: owner("acme", "ann"),
        priority: Priority::Medium,
        run_at: None,
        input: Bytes::from_static(br#"{"a":1}"#),
        idempotency_key: None,
        stands_for: None,
        lane: None,
        context_id: None,
        wanted_by: None,
        retry: Retry::default(),
        timeout: Duration::from_mins(1),
        result_ttl: Duration::from_hours(24),
        trace: trace(1),
        needs: Needs::default(),
    }
}

fn claim_of(worker: &str, types: &[(&str, u32)], at_most: u32) -> Claim {
    Claim {
        worker: worker.parse().unwrap(),
        offer: Offer::default(),
        room: types.iter().map(|(of, room)| (of.parse().unwrap(), *room)).collect(),
        at_most,
        lease: LEASE,
    }
}

async fn claim(queue: &Queue, task_type: &str, at_most: u32) -> Vec<Claimed> {
    queue
        .claim(claim_of("w", &[(task_type, at_most)], at_most))
        .await
        .unwrap()
}

async fn claim_one(queue: &Queue, task_type: &str) -> Claimed {
    let claimed = claim(queue, task_type, 1).await;
    claimed.into_iter().next().unwrap()
}

fn done() -> Ended {
    Ended::Done(Bytes::from_static(br#"{"ok":true}"#))
}

fn failed(retryable: bool) -> Ended {
    failed_of("upstream_failed", retryable)
}

fn failed_of(code: &str, retryable: bool) -> Ended {
    Ended::Failed {
        error: TaskError::new(code, "It broke.", None),
        retryable,
    }
}

fn query(scope: Scope) -> TaskQuery {
    TaskQuery {
        scope,
        state: None,
        task_type: None,
        context_id: None,
        after: None,
        limit: 0,
    }
}
