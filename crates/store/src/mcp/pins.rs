//! What is known about the definitions of upstream servers: the approved one of each name, and beside it the newer one
//! that waits for a decision. Both are kept as the server sent them, for the difference.
//!
//! What becomes of a listing is decided (`domain::quarantine::decide`) in the transaction that writes it down: of two
//! replicas that see two first versions of one tool, the second sees a change. What was approved is never dropped
//! because a server has more to say: past [`PINS_OF_SERVER_MAX`] names or [`PINS_BYTES_MAX`] nothing new is taken note of
//! or offered, until somebody forgets that server.

use forebay_domain::{
    id::SubjectId,
    quarantine::{DefinitionName, Fingerprint, Flags, Inspected, Kind, Policy, ServerName, Verdict, Why},
};
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::sync::Arc;

mod approve;
mod record;
mod rows;

use self::rows::{PinRow, WaitingRow};
use crate::{
    StoreError,
    db::Db,
    sql::{Both, Tx, on_both},
};

/// Most names of one server that are kept.
pub const PINS_OF_SERVER_MAX: usize = 10_000;

/// Most bytes of definitions that are kept of one server.
pub const PINS_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A definition that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovedPin {
    pub fingerprint: Fingerprint,
    pub flags: Flags,
}

/// A definition that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPin {
    pub fingerprint: Fingerprint,
    pub flags: Flags,
    pub why: Why,
    pub since: Timestamp,
}

/// What is known of one name. Times have milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub kind: Kind,
    pub name: DefinitionName,
    pub approved: Option<ApprovedPin>,
    pub held: Option<HeldPin>,
    pub first_seen_at: Timestamp,
    /// When it was last listed, to about an hour.
    pub seen_at: Timestamp,
    /// When the approved one was approved.
    pub decided_at: Option<Timestamp>,
    /// Who approved it; `None` for the policy.
    pub decided_by: Option<SubjectId>,
}

/// A definition that waits, with what it would replace.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub kind: Kind,
    pub name: DefinitionName,
    pub pin: HeldPin,
    /// The approved definition as the server sent it; `None` where none was ever approved.
    pub approved: Option<Box<RawValue>>,
    /// The one that waits, as the server sent it.
    pub held: Box<RawValue>,
}

/// What is to be approved.
#[derive(Debug, Clone)]
pub enum Chosen {
    /// Whatever waits at this moment, looked at or not.
    All,
    These(Vec<Reviewed>),
}

/// A definition that somebody looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewed {
    pub kind: Kind,
    pub name: DefinitionName,
    /// What was looked at. If something else waits by now, it is not approved. `None` takes whatever waits.
    pub fingerprint: Option<Fingerprint>,
}

/// A definition that was approved, and what it replaced.
#[derive(Debug, Clone)]
pub struct Approval {
    pub kind: Kind,
    pub name: DefinitionName,
    pub fingerprint: Fingerprint,
    pub old: Option<Box<RawValue>>,
    pub new: Box<RawValue>,
}

/// The pins of a store. Cheap to clone.
#[derive(Clone)]
pub struct Pins(Db);

const OF: &str = concat!(
    "SELECT ",
    rows::pin_columns!(),
    " FROM tool_pin WHERE server = $1 ORDER BY kind, name LIMIT $2"
);
const WAITING: &str = concat!(
    "SELECT ",
    rows::waiting_columns!(),
    " FROM tool_pin WHERE server = $1 AND held_fingerprint IS NOT NULL ORDER BY kind, name LIMIT $2"
);
const FORGET: &str = "DELETE FROM tool_pin WHERE server = $1";
/// Held by whoever decides about a server's definitions, since rows that are not there yet cannot be locked.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7315002, hashtext($1))";

impl Pins {
    pub(crate) fn new(db: Db) -> Self {
        Self(db)
    }

    /// Everything known of a server, without the definitions, by kind and name.
    pub async fn of(&self, server: &ServerName) -> Result<Vec<Pin>, StoreError> {
        let rows: Vec<PinRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(OF)
                    .bind(server.as_str())
                    .bind(limit())
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        rows.into_iter().map(Pin::try_from).collect()
    }

    /// What waits for a decision, with the definitions, by kind and name.
    pub async fn waiting(&self, server: &ServerName) -> Result<Vec<Waiting>, StoreError> {
        let rows: Vec<WaitingRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(WAITING)
                    .bind(server.as_str())
                    .bind(limit())
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        rows.into_iter().map(Waiting::try_from).collect()
    }

    /// Decides about definitions that a server lists now, and writes down what is new: the answers are in the order of
    /// the questions, and hold once this returns. A listing without news writes nothing.
    pub async fn record_seen(
        &self,
        server: &ServerName,
        policy: Policy,
        seen: Arc<[Inspected]>,
        at: Timestamp,
    ) -> Result<Vec<Verdict>, StoreError> {
        let listing = record::Listing {
            server: server.clone(),
            policy,
            seen,
            at_ms: at.as_millisecond(),
        };
        self.0
            .write(listing, |tx, listing| Box::pin(record::record(tx, listing)))
            .await
    }

    /// Approves what waits, as far as it is chosen, and says what that was and what it replaced.
    pub async fn approve(
        &self,
        server: &ServerName,
        chosen: Chosen,
        by: &SubjectId,
        at: Timestamp,
    ) -> Result<Vec<Approval>, StoreError> {
        let wish = approve::Wish {
            server: server.clone(),
            chosen,
            by: by.clone(),
            at_ms: at.as_millisecond(),
        };
        self.0
            .write(wish, |tx, wish| Box::pin(approve::approve(tx, wish)))
            .await
    }

    /// Forgets a server, and says how many names that were. All of its definitions are new from then on.
    pub async fn forget(&self, server: &ServerName) -> Result<u64, StoreError> {
        self.0
            .write(server.clone(), |tx, server| {
                Box::pin(async move {
                    lock(tx, server).await?;
                    let gone = on_both!(tx, |tx| sqlx::query(FORGET)
                        .bind(server.as_str())
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?;
                    Ok(gone)
                })
            })
            .await
    }
}

fn limit() -> i64 {
    i64::try_from(PINS_OF_SERVER_MAX).unwrap_or(i64::MAX)
}

async fn lock(tx: &mut Tx, server: &ServerName) -> Result<(), StoreError> {
    if let Both::Postgres(tx) = tx {
        sqlx::query(LOCK).bind(server.as_str()).execute(&mut **tx).await?;
    }
    Ok(())
}
