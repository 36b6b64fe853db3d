//! Durable work: which states a task goes through, and what takes it from one to the next.
//!
//! Everything here is a function of a record, of what happens to it and of the time. Where tasks are kept and who runs
//! them stands elsewhere; a store that claims many at once does in one statement what [`Record::after`] does for one.

mod event;
mod fault;
mod lease;
mod machine;
mod needs;
mod owner;
mod rank;
mod record;
mod retry;
mod stage;

pub use crate::id::{TaskId, TaskType, WorkerId};
pub use event::{Ended, Event, Refusal};
pub use fault::{TaskError, TaskFault};
pub use lease::LEASE_MAX_MS;
pub use needs::{Needs, Offer};
pub use owner::{SnapshotFault, TaskOwner};
pub use rank::{AGEING_STEP_MS, rank};
pub use record::{DEAD_KEPT_MS, Record, Wanted};
pub use retry::Retry;
pub use stage::{Stage, State};

use crate::{id::TenantId, model::Priority};
use bytes::Bytes;
use std::time::Duration;

/// Largest input and output of a task, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// How the tasks of one type are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeLimits {
    /// Runs at once in one process.
    pub concurrency: u32,
    /// How long one run may take.
    pub timeout: Duration,
    pub retry: Retry,
}

/// How many of a process's places the runs of one type may take, where the configuration does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Share {
    /// All of them: a run takes a moment.
    #[default]
    Whole,
    /// All but those that are kept for what takes a moment: a run waits for others.
    Most,
    /// The same, and no more than half of all.
    Half,
}

/// What its input decides of how a task is queued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    pub retry: Retry,
    /// The context that it is about: its tasks run one after another.
    pub context_id: Option<String>,
    /// How urgent it is, where the input says so.
    pub priority: Option<Priority>,
    /// What its idempotency key stands for, where that is not the whole input: how it is told may differ when it is sent
    /// again.
    pub stands_for: Option<Bytes>,
}

/// The lane in which a tenant's tasks about one context stand. Whoever names another tenant's context stands in nobody's
/// way.
pub fn context_lane(tenant: &TenantId, context_id: &str) -> String {
    format!("context:{tenant}:{context_id}")
}
