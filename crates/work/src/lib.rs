//! Do later: workers that claim durable tasks and run them, and what tells how they go.
//!
//! A [`Pool`] is the workers of one process. It claims what there is room for from the store's queue, runs it with the
//! [`forebay_domain::port::RunTask`] of its type, keeps its lease alive, and settles it. It refuses to know what a task
//! does: types come from whoever makes the pool, and none is built in.
//!
//! A task may run twice, because a worker may be gone without a word; its lease then lapses and another takes it. What
//! such a worker settles later is refused by the store, and what it tells meanwhile counts for nothing.

mod beat;
mod claim;
mod config;
mod depth;
mod faults;
mod hub;
mod metrics;
mod pool;
mod run;
mod running;
mod shared;
mod submit;
mod watch;
mod who;

pub use config::{TasksConfig, TypeConfig};
pub use hub::{Delta, Deltas};
pub use metrics::Metrics;
pub use pool::{Pool, PoolParts};
pub use submit::Submitter;
pub use watch::Watch;
pub use who::{is_own, scope};
