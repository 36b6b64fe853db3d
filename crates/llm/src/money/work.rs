//! Whether an engine may have been at work on a request.

use std::sync::atomic::{AtomicU32, Ordering};

/// How many times a request went out and was not plainly refused. Whoever sends counts; the bill looks when it is closed,
/// which may be in the middle of an attempt.
#[derive(Debug, Default)]
pub(crate) struct Work(AtomicU32);

impl Work {
    /// The request is about to go out.
    pub(crate) fn sent(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// That attempt came to nothing for certain: no connection, or an answer that is a refusal.
    pub(crate) fn refused(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many attempts may have made an engine work.
    pub(crate) fn attempts(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}
