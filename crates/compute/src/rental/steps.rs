//! The steps of renting a machine, each of which may be a process' last.

use std::future::pending;

/// What was done when a process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The row was written.
    Intended,
    /// The money was set aside.
    Held,
    /// It was written that the provider is asked now.
    Asking,
    /// The provider has answered.
    Answered,
    /// What it answered was written.
    Recorded,
}

impl Step {
    pub const ALL: [Self; 5] = [Self::Intended, Self::Held, Self::Asking, Self::Answered, Self::Recorded];
}

/// How far whoever rents gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps(Option<Step>);

impl Steps {
    pub(super) fn all() -> Self {
        Self(None)
    }

    pub(super) fn up_to(step: Step) -> Self {
        Self(Some(step))
    }

    /// Goes on after a step, or never.
    pub(super) async fn done(self, step: Step) {
        if self.0 == Some(step) {
            pending::<()>().await;
        }
    }
}
