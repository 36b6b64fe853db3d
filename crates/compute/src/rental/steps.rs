//! The steps of renting a machine, each of which may be a process' last.

use std::{future::pending, sync::Arc};
use tokio::sync::watch;

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
#[derive(Debug, Clone)]
pub(super) struct Steps {
    last: Option<Step>,
    is_dead: Arc<watch::Sender<bool>>,
}

impl Steps {
    pub(super) fn all() -> Self {
        Self {
            last: None,
            is_dead: Arc::default(),
        }
    }

    pub(super) fn up_to(step: Step) -> Self {
        Self {
            last: Some(step),
            ..Self::all()
        }
    }

    /// Goes on after a step, or never.
    pub(super) async fn done(&self, step: Step) {
        if self.last == Some(step) {
            self.is_dead.send_replace(true);
            pending::<()>().await;
        }
    }

    pub(super) async fn died(&self) {
        // The sender lives as long as this does.
        self.is_dead.subscribe().wait_for(|is_dead| *is_dead).await.ok();
    }
}
