//! The gateway's loops. Each is idempotent: it can be killed at any line, and the next pass repairs the rest.

use crate::app::App;
use forebay_domain::{Failure, id::KeyId};
use forebay_runtime::looping::{Loop, Nudge, drive};
use forebay_store::mcp::signing::{Purpose, Rotation, SigningKey};
use jiff::{SignedDuration, Timestamp};
use std::{collections::HashSet, sync::Arc, time::Duration};

const REVOCATIONS_EVERY: Duration = Duration::from_secs(1);
const PING_EVERY: Duration = Duration::from_secs(1);
const UPSTREAMS_EVERY: Duration = Duration::from_secs(15);
const DECLARED_EVERY: Duration = Duration::from_secs(15);
const SESSIONS_EVERY: Duration = Duration::from_mins(1);
/// How long messages of streams wait for whoever comes back for them.
const STREAMS_KEPT: SignedDuration = SignedDuration::from_mins(5);
const EXPIRED_EVERY: Duration = Duration::from_mins(10);
/// Longer than any alert may be silenced.
const TOLD_KEPT: SignedDuration = SignedDuration::from_hours(8 * 24);
const STATE_KEYS_EVERY: Duration = Duration::from_secs(30);
/// How the keys change that sign what MCP clients carry between two rounds.
const STATE_KEYS: Rotation = Rotation {
    sign_for: Duration::from_hours(24),
    // Longer than any state is good, with room for a replica that has not looked for a while.
    verify_for: Duration::from_hours(1),
};
/// How far back a pass looks: replicas' clocks differ, and a revocation commits a little after its own time.
const LOOK_BACK: SignedDuration = SignedDuration::from_secs(120);

/// Starts all of them.
pub fn start(app: &Arc<App>) {
    drive(
        &app.tasks,
        Revocations::new(app.clone()),
        REVOCATIONS_EVERY,
        Nudge::new(),
    );
    drive(&app.tasks, StorePing { app: app.clone() }, PING_EVERY, Nudge::new());
    drive(
        &app.tasks,
        DeclaredAtRunTime { app: app.clone() },
        DECLARED_EVERY,
        Nudge::new(),
    );
    let registered = RegisteredUpstreams { app: app.clone() };
    drive(&app.tasks, registered, UPSTREAMS_EVERY, Nudge::new());
    drive(
        &app.tasks,
        KeptSessions { app: app.clone() },
        SESSIONS_EVERY,
        Nudge::new(),
    );
    drive(&app.tasks, Expired { app: app.clone() }, EXPIRED_EVERY, Nudge::new());
    drive(
        &app.tasks,
        StateKeys { app: app.clone() },
        STATE_KEYS_EVERY,
        Nudge::new(),
    );
}

/// Closes what revoked keys hold open, whichever replica revoked them.
struct Revocations {
    app: Arc<App>,
    closed: HashSet<KeyId>,
    /// When the last pass that saw the database began: after an outage of any length nothing is missed.
    last_seen: Timestamp,
}

impl Revocations {
    fn new(app: Arc<App>) -> Self {
        Self {
            last_seen: app.clock.now(),
            app,
            closed: HashSet::new(),
        }
    }
}

impl Loop for Revocations {
    type Seen = Vec<KeyId>;
    type Action = KeyId;

    fn name(&self) -> &'static str {
        "revocations"
    }

    async fn observe(&mut self) -> Result<Vec<KeyId>, Failure> {
        let begun = self.app.clock.now();
        let since = self.last_seen.checked_sub(LOOK_BACK).unwrap_or(Timestamp::MIN);
        let revoked = self.app.store.keys().revoked_since(since).await?;
        self.last_seen = begun;
        self.closed.retain(|key| revoked.contains(key));
        Ok(revoked)
    }

    fn decide(&self, revoked: &Vec<KeyId>) -> Vec<KeyId> {
        revoked
            .iter()
            .filter(|key| !self.closed.contains(*key))
            .cloned()
            .collect()
    }

    async fn act(&mut self, key: KeyId) -> Result<(), Failure> {
        self.app.close_key(&key);
        self.app.store.mcp_sessions().remove_of_key(&key).await?;
        self.closed.insert(key);
        Ok(())
    }
}

/// Notices that the database is gone, or back, when nothing else asks it.
struct StorePing {
    app: Arc<App>,
}

impl Loop for StorePing {
    type Seen = ();
    type Action = ();

    fn name(&self) -> &'static str {
        "store_ping"
    }

    async fn observe(&mut self) -> Result<(), Failure> {
        self.app.store.ping().await.map_err(Failure::from)
    }

    fn decide(&self, (): &()) -> Vec<()> {
        Vec::new()
    }

    async fn act(&mut self, (): ()) -> Result<(), Failure> {
        Ok(())
    }
}

/// Runs the upstreams that were registered at run time, on whichever replica, and ends those that were taken away.
struct RegisteredUpstreams {
    app: Arc<App>,
}

impl Loop for RegisteredUpstreams {
    type Seen = ();
    type Action = ();

    fn name(&self) -> &'static str {
        "registered_upstreams"
    }

    async fn observe(&mut self) -> Result<(), Failure> {
        self.app.upstreams.sync().await
    }

    fn decide(&self, (): &()) -> Vec<()> {
        Vec::new()
    }

    async fn act(&mut self, (): ()) -> Result<(), Failure> {
        Ok(())
    }
}

/// Offers the tools and providers that were declared at run time, on whichever replica, and no longer those that were
/// taken away.
struct DeclaredAtRunTime {
    app: Arc<App>,
}

impl Loop for DeclaredAtRunTime {
    type Seen = ();
    type Action = ();

    fn name(&self) -> &'static str {
        "declared_at_run_time"
    }

    async fn observe(&mut self) -> Result<(), Failure> {
        // One that cannot be read keeps the other from nothing.
        let providers = self.app.providers.sync().await;
        self.app.declared.sync().await?;
        providers
    }

    fn decide(&self, (): &()) -> Vec<()> {
        Vec::new()
    }

    async fn act(&mut self, (): ()) -> Result<(), Failure> {
        Ok(())
    }
}

/// Keeps what the store has of MCP sessions as it is: in use, or gone.
struct KeptSessions {
    app: Arc<App>,
}

enum Keeping {
    NoteUse,
    SweepSessions,
    SweepStreams,
}

impl Loop for KeptSessions {
    type Seen = ();
    type Action = Keeping;

    fn name(&self) -> &'static str {
        "kept_sessions"
    }

    async fn observe(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn decide(&self, (): &()) -> Vec<Keeping> {
        // In this order, so that nothing is swept away whose use was not noted yet.
        vec![Keeping::NoteUse, Keeping::SweepSessions, Keeping::SweepStreams]
    }

    async fn act(&mut self, keeping: Keeping) -> Result<(), Failure> {
        let now = self.app.clock.now();
        match keeping {
            Keeping::NoteUse => self.app.front.note_use().await,
            Keeping::SweepSessions => {
                self.app.store.mcp_sessions().sweep(now).await?;
                Ok(())
            }
            Keeping::SweepStreams => {
                let before = now.checked_sub(STREAMS_KEPT).unwrap_or(Timestamp::MIN);
                self.app.store.mcp_streams().sweep(before).await?;
                Ok(())
            }
        }
    }
}

/// Forgets what was kept for as long as it is kept: answers of models, names of requests, what was told when.
struct Expired {
    app: Arc<App>,
}

enum Expiry {
    Responses,
    NamedRequests,
    Alerts,
}

impl Loop for Expired {
    type Seen = ();
    type Action = Expiry;

    fn name(&self) -> &'static str {
        "expired"
    }

    async fn observe(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn decide(&self, (): &()) -> Vec<Expiry> {
        vec![Expiry::Responses, Expiry::NamedRequests, Expiry::Alerts]
    }

    async fn act(&mut self, expiry: Expiry) -> Result<(), Failure> {
        let (store, now) = (&self.app.store, self.app.clock.now());
        match expiry {
            Expiry::Responses => drop(store.responses().sweep(now).await?),
            Expiry::NamedRequests => drop(store.named_requests().sweep(now).await?),
            Expiry::Alerts => {
                let before = now.checked_sub(TOLD_KEPT).unwrap_or(Timestamp::MIN);
                store.alerts().sweep(before).await?;
            }
        }
        Ok(())
    }
}

/// Keeps all replicas signing with the same keys, so that a client may take its next round to any of them.
struct StateKeys {
    app: Arc<App>,
}

impl Loop for StateKeys {
    type Seen = Vec<SigningKey>;
    type Action = Vec<SigningKey>;

    fn name(&self) -> &'static str {
        "state_keys"
    }

    async fn observe(&mut self) -> Result<Vec<SigningKey>, Failure> {
        let (signing, now) = (self.app.store.signing(), self.app.clock.now());
        let purpose = Purpose::REQUEST_STATE;
        signing.current_or_create(purpose, now, STATE_KEYS).await?;
        Ok(signing.verify_set(purpose, now).await?)
    }

    fn decide(&self, keys: &Vec<SigningKey>) -> Vec<Vec<SigningKey>> {
        vec![keys.clone()]
    }

    async fn act(&mut self, keys: Vec<SigningKey>) -> Result<(), Failure> {
        let secrets: Vec<_> = keys.iter().map(|key| key.secret).collect();
        self.app.front.state_keys().supply(&secrets);
        Ok(())
    }
}
