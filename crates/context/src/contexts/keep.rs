//! The loop that removes what has expired, and counts what is there.

use super::{Inner, metrics::Change};
use forebay_domain::Failure;
use forebay_runtime::looping::Loop;
use forebay_store::conversations::ConversationTally;
use std::{sync::Arc, time::Duration};

pub(super) const EVERY: Duration = Duration::from_mins(1);

pub(super) struct Keeper(pub(super) Arc<Inner>);

/// Some of those that have expired are to go.
pub(super) struct Sweep;

impl Loop for Keeper {
    type Seen = ConversationTally;
    type Action = Sweep;

    fn name(&self) -> &'static str {
        "contexts"
    }

    async fn observe(&mut self) -> Result<ConversationTally, Failure> {
        let tally = self.0.conversations.tally(self.0.clock.now()).await?;
        self.0.metrics.kept(&tally);
        Ok(tally)
    }

    fn decide(&self, tally: &ConversationTally) -> Vec<Sweep> {
        (tally.expired > 0).then_some(Sweep).into_iter().collect()
    }

    async fn act(&mut self, Sweep: Sweep) -> Result<(), Failure> {
        loop {
            let (gone, is_more) = self.0.conversations.sweep(self.0.clock.now()).await?;
            self.0.metrics.changed(Change::Expired, gone);
            if !is_more {
                return Ok(());
            }
        }
    }
}
