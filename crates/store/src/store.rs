//! The store: one handle over whichever database the URL names.

use forebay_runtime::{Clock, Entropy, Tasks};
use prometheus_client::registry::Registry;
use std::time::Duration;

use crate::{
    EventLog, StoreError,
    alerts::Alerts,
    config::Engine,
    conversations::Conversations,
    db::{Db, DbParts},
    declared::{Declared, Sort},
    events,
    keys::Keys,
    ledger::{self, Ledger},
    mcp::{McpSessions, McpStreams, Pins, Signing, Upstreams},
    metrics::Metrics,
    named::NamedRequests,
    open,
    passages::Passages,
    queue::{self, Queue},
    rentals::Rentals,
    responses::Responses,
    sql::{Both, on_both},
    writer,
};

/// How long the last events may take to reach the database when the store is drained.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// What a store needs from its process.
pub struct StoreParts {
    pub clock: Clock,
    pub entropy: Entropy,
    /// The store drains when these do. Give it tasks of its own and shut them down last: what is recorded after the
    /// drain has begun is refused or counted as dropped.
    pub tasks: Tasks,
}

/// Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store {
    db: Db,
    events: EventLog,
    ledger: Ledger,
    passages: Passages,
    queue: Queue,
}

impl Store {
    /// Opens the database, brings its tables up to date and starts what writes in the background.
    pub async fn open(url: &str, parts: StoreParts) -> Result<Self, StoreError> {
        let (writing, recording, spending) = (Tasks::new(), Tasks::new(), Tasks::new());
        let metrics = Metrics::new();
        let (pools, writer) = match Engine::of(url)? {
            Engine::Sqlite => {
                let (writer, readers) = open::sqlite(url).await?;
                let writer = writer::start(&writing, writer, parts.clock.clone(), metrics.clone());
                (Both::Sqlite(readers), Both::Sqlite(writer))
            }
            Engine::Postgres => {
                let pool = open::postgres(url).await?;
                (Both::Postgres(pool.clone()), Both::Postgres(pool))
            }
        };
        let db = Db::new(DbParts {
            pools,
            writer,
            clock: parts.clock,
            entropy: parts.entropy,
            metrics,
        });
        let events = events::start(&recording, db.clone());
        let ledger = ledger::start(&spending, &recording, db.clone()).await?;
        let queue = queue::start(&recording, &spending, db.clone());
        let closing = Closing {
            spending,
            recording,
            writing,
            db: db.clone(),
        };
        parts.tasks.spawn("store", |stop| async move {
            stop.draining().await;
            closing.close().await;
        });
        let passages = Passages::new(db.clone());
        Ok(Self {
            db,
            events,
            ledger,
            passages,
            queue,
        })
    }

    pub fn keys(&self) -> Keys {
        Keys::new(self.db.clone())
    }

    pub fn upstreams(&self) -> Upstreams {
        Upstreams::new(self.db.clone())
    }

    pub fn pins(&self) -> Pins {
        Pins::new(self.db.clone())
    }

    pub fn mcp_sessions(&self) -> McpSessions {
        McpSessions::new(self.db.clone())
    }

    pub fn mcp_streams(&self) -> McpStreams {
        McpStreams::new(self.db.clone())
    }

    pub fn signing(&self) -> Signing {
        Signing::new(self.db.clone())
    }

    pub fn passages(&self) -> Passages {
        self.passages.clone()
    }

    /// Providers of context that were declared at run time.
    pub fn providers(&self) -> Declared {
        Declared::new(self.db.clone(), Sort::Provider)
    }

    /// Tools that were declared at run time.
    pub fn declared(&self) -> Declared {
        Declared::new(self.db.clone(), Sort::Tool)
    }

    /// What is to be done later.
    pub fn queue(&self) -> Queue {
        self.queue.clone()
    }

    pub fn responses(&self) -> Responses {
        Responses::new(self.db.clone())
    }

    pub fn conversations(&self) -> Conversations {
        Conversations::new(self.db.clone())
    }

    pub fn rentals(&self) -> Rentals {
        Rentals::new(self.db.clone())
    }

    /// Requests that their senders named.
    pub fn named_requests(&self) -> NamedRequests {
        NamedRequests::new(self.db.clone())
    }

    pub fn alerts(&self) -> Alerts {
        Alerts::new(self.db.clone())
    }

    pub fn events(&self) -> &EventLog {
        &self.events
    }

    pub fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    /// The name of the database engine.
    pub fn engine(&self) -> &'static str {
        match self.db.pools() {
            Both::Sqlite(_) => "sqlite",
            Both::Postgres(_) => "postgres",
        }
    }

    /// Shows the store's metric families in `registry`; what was counted before is in them.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.db.metrics().register(registry);
        self.ledger.register_metrics(registry);
        self.queue.register_metrics(registry);
    }

    /// Asks the database for a sign of life.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.db.ping().await
    }

    /// Whether the database answered when it was last asked, and takes the events.
    pub fn is_healthy(&self) -> bool {
        self.events.is_healthy()
    }
}

/// Closes from the top down: what spends first, then what records, then what writes, then the connections.
struct Closing {
    spending: Tasks,
    recording: Tasks,
    writing: Tasks,
    db: Db,
}

impl Closing {
    async fn close(&self) {
        self.spending.shut_down(DRAIN_PATIENCE).await;
        self.recording.shut_down(DRAIN_PATIENCE).await;
        self.writing.shut_down(DRAIN_PATIENCE).await;
        on_both!(self.db.pools(), |pool| pool.close().await);
    }
}

/// Where everything has to end at once, the owner drops this in mid-flight; then the inner tasks end with it.
impl Drop for Closing {
    fn drop(&mut self) {
        self.spending.stop().end();
        self.recording.stop().end();
        self.writing.stop().end();
    }
}
