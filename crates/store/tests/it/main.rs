//! The store, through its public face. Every test that does not say otherwise runs on both databases.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test needs and does not get fails it"
)]

mod alerts;
mod audit;
mod conversations;
mod crash;
mod declared;
mod events;
mod faults;
mod foreign;
mod keys;
mod ledger;
mod mcp;
mod named;
mod opening;
mod passages;
mod queue;
mod rentals;
mod responses;

use forebay_domain::{
    Code, Event,
    event::{Actor, Class, Outcome, Surface, Usage},
    id::{KeyId, ProjectId, SessionId, SubjectId, TenantId, TraceId},
    money::Usd,
};
use forebay_runtime::{Clock, Entropy, Tasks};
use forebay_store::{
    Store, StoreError, StoreParts,
    events::{EventPage, EventQuery},
};
use forebay_testkit::db::TestDb;
use jiff::Timestamp;
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{future::Future, time::Duration};

/// A store, and what ends it.
struct Opened {
    store: Store,
    tasks: Tasks,
}

impl Opened {
    /// Drains and closes, as a process does that was asked to end.
    async fn close(self) {
        assert!(
            self.tasks.shut_down(Duration::from_secs(30)).await,
            "the store drains in time"
        );
    }

    fn metric(&self, name: &str) -> u64 {
        let mut registry = Registry::default();
        self.store.register_metrics(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name} in:\n{text}"))
            .parse()
            .unwrap()
    }
}

async fn try_open(url: &str) -> Result<Opened, StoreError> {
    let tasks = Tasks::new();
    let parts = StoreParts {
        clock: Clock::system(),
        entropy: Entropy::system(),
        tasks: tasks.clone(),
    };
    let store = Store::open(url, parts).await?;
    Ok(Opened { store, tasks })
}

async fn open(db: &TestDb) -> Opened {
    try_open(db.url()).await.unwrap()
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

/// An audit event with every field filled; its trace carries `number`.
fn audit_event(number: u64) -> Event {
    Event {
        at: at(1_700_000_000_123),
        class: Class::Audit,
        surface: Surface::Api,
        trace: trace(number),
        actor: Some(Actor {
            tenant: TenantId::try_from("acme").unwrap(),
            project: Some(ProjectId::try_from("team-1").unwrap()),
            subject: SubjectId::try_from("ann@acme").unwrap(),
            key: Some(KeyId::try_from("00ff").unwrap()),
            session: Some(SessionId::try_from("s-1").unwrap()),
        }),
        action: "keys:write".to_owned(),
        outcome: Outcome::Intended,
        reason: Some("allowed by `*` of role admin".to_owned()),
        duration_us: 1_234,
        bytes_in: 56,
        bytes_out: 78,
        usage: Some(Usage {
            input_tokens: 9,
            output_tokens: 10,
            estimated: true,
        }),
        cost: Some(Usd::from_micros(1_234_567)),
        count: 1,
    }
}

/// A refusal of somebody unknown.
fn knock(action: &str) -> Event {
    Event {
        class: Class::Activity,
        actor: None,
        action: action.to_owned(),
        outcome: Outcome::Failed(Code::InvalidKey),
        reason: None,
        usage: None,
        cost: None,
        ..audit_event(1)
    }
}

fn activity(number: u64) -> Event {
    Event {
        class: Class::Activity,
        outcome: Outcome::Ok,
        ..audit_event(number)
    }
}

fn trace(number: u64) -> TraceId {
    TraceId::from_bytes((u128::from(number) + (1 << 100)).to_be_bytes()).unwrap()
}

/// Waits for a condition, and says what it waited for if that never comes.
async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, waiting)
        .await
        .unwrap_or_else(|_| panic!("waited in vain: {what}"));
}

/// Reads once there are at least `count` events to read: on PostgreSQL, transactions of other tests in the same cluster
/// hold the newest back for a moment.
async fn page_of(store: &Store, query: &EventQuery, count: usize) -> EventPage {
    until(&format!("{count} events"), || async {
        store.events().read(query).await.unwrap().events.len() >= count
    })
    .await;
    store.events().read(query).await.unwrap()
}
