//! What the server of one connection lists, held against what was approved: the one way in which definitions are fetched
//! and decided about, for the gateway's own connection and for a caller's.

use super::{
    held::Withheld,
    judge::{self, Seen},
    listing,
    pool::{Identity, Lane, gateway_caps},
    server::{State, Upstream},
};
use crate::{
    client::ClientFault,
    source::{Source, Wanted},
};
use forebay_domain::{
    Failure,
    quarantine::{Kind, Verdict},
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// A connection is vetted again after this long, even where nobody said that something changed.
const VETTED_FOR: Duration = Duration::from_mins(5);
/// Whoever decides about a definition waits no longer for the server.
const LOOK_WAIT: Duration = Duration::from_secs(5);

/// What becomes of a server's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instructions {
    /// Clients are shown them, so somebody has to have approved them.
    Shown,
    /// Nobody is shown those of a caller's connection, and they may well speak of that caller.
    Ignored,
}

/// Definitions, and what was decided about them.
pub(super) struct Decided {
    pub(super) seen: Seen,
    /// In the order of what was judged.
    pub(super) verdicts: Vec<Verdict>,
    pub(super) held: Arc<Withheld>,
}

impl Upstream {
    /// Fetches the lists of this connection's server and decides about them. From then on the connection serves what is
    /// not held.
    pub(super) async fn look(&self, lane: &Lane, instructions: Instructions) -> Result<Decided, Failure> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        let listing = listing::fetch(&lane.connection).await;
        let mut listing = listing.map_err(|fault| self.failure(fault))?;
        if instructions == Instructions::Ignored {
            listing.instructions = None;
        }
        let seen = judge::look(listing);
        let (name, now) = (&self.settings.name, self.clock.now());
        let verdicts = self
            .pins
            .decide(name, self.settings.policy, seen.judged.clone(), now)
            .await?;
        let held = Arc::new(judge::held(name, &seen, &verdicts));
        lane.mark_vetted(epoch, self.pool.now_ms(), held.clone());
        Ok(Decided { seen, verdicts, held })
    }

    /// Holds the definitions that this connection's server lists against what was approved, before it serves anything:
    /// it may be another process, or another version, than the one that the gateway listed.
    pub(super) async fn vet(&self, lane: &Lane) -> Result<(), Failure> {
        let vetting = &lane.vetting;
        let is_vetted = || {
            let age = self.pool.now_ms().saturating_sub(vetting.at_ms.load(Ordering::SeqCst));
            vetting.epoch.load(Ordering::SeqCst) == self.epoch.load(Ordering::SeqCst)
                && u128::from(age) < VETTED_FOR.as_millis()
        };
        if is_vetted() {
            return Ok(());
        }
        let _turn = vetting.turn.lock().await;
        if is_vetted() {
            return Ok(());
        }
        let decided = self.look(lane, Instructions::Ignored).await?;
        if self.lock().state == State::Unavailable {
            // It is there again, and need not wait for the next try.
            self.refresh();
        }
        if decided.held.exceeds(&self.lock().held) {
            self.renew.notify_one();
        }
        Ok(())
    }

    /// Takes note of what it lists at this moment, where it can be asked: somebody is about to decide about it.
    pub(super) async fn look_now(&self) {
        if self.lock().state != State::Ready {
            return;
        }
        let looking = async {
            let lane = self.pool.lane(&Identity::Gateway, &gateway_caps()).await?;
            self.look(&lane, Instructions::Shown).await.map(drop)
        };
        let looked = tokio::time::timeout(LOOK_WAIT, looking).await;
        if !matches!(looked, Ok(Ok(()))) {
            self.doubt();
        }
    }

    /// The failure of a call. Where nobody is there, that holds for all calls.
    pub(super) fn failure(&self, fault: ClientFault) -> Failure {
        let is_away = matches!(fault, ClientFault::Unreachable { .. }) && !self.is_child();
        let failure = fault.into_failure(self.name());
        if is_away {
            self.lost(&failure);
        }
        failure
    }

    pub(super) fn require_offered(&self, lane: &Lane, wanted: Wanted<'_>) -> Result<(), Failure> {
        let held = lane.vetting.held.load();
        let (kind, name) = match wanted {
            _ if held.is_empty() => return Ok(()),
            Wanted::Tool { name, .. } => (Kind::Tool, name),
            Wanted::Prompt { name, .. } => (Kind::Prompt, name),
            Wanted::Resource { .. } | Wanted::Completion { .. } => return Ok(()),
        };
        held.why(kind, name)
            .map_or(Ok(()), |why| Err(self.held_because(name, why)))
    }
}
