//! What is approved and what waits, in the words of whoever looks at one upstream.

use forebay_domain::{
    Failure,
    id::SubjectId,
    quarantine::{Change, Fingerprint, Inspected, Kind, Policy, ServerName, Verdict, diff},
};
use forebay_store::{
    Store,
    mcp::pins::{self as rows, Chosen},
};
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::sync::Arc;

#[derive(Clone)]
pub(super) struct Pins(rows::Pins);

/// A definition that waits for a decision.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub kind: Kind,
    pub name: String,
    /// What is approved when this is, and not what may have come since.
    pub fingerprint: Fingerprint,
    pub why: String,
    pub flags: Vec<String>,
    pub since: Timestamp,
    /// The approved definition, where there is one, as the upstream sent it.
    pub approved: Option<Box<RawValue>>,
    /// The one that waits, as the upstream sent it.
    pub held: Box<RawValue>,
    pub changes: Vec<Change>,
}

/// A definition that was let pass.
#[derive(Debug, Clone)]
pub struct Approved {
    pub kind: Kind,
    pub name: String,
    pub changes: Vec<Change>,
}

impl Pins {
    pub(super) fn new(store: &Store) -> Self {
        Self(store.pins())
    }

    /// Decides about what is listed now, and writes down what is new; in the order of the definitions.
    pub(super) async fn decide(
        &self,
        server: &ServerName,
        policy: Policy,
        seen: Arc<[Inspected]>,
        at: Timestamp,
    ) -> Result<Vec<Verdict>, Failure> {
        Ok(self.0.record_seen(server, policy, seen, at).await?)
    }

    pub(super) async fn waiting(&self, server: &ServerName) -> Result<Vec<Waiting>, Failure> {
        let rows = self.0.waiting(server).await?;
        Ok(rows.into_iter().map(Waiting::from).collect())
    }

    pub(super) async fn approve(
        &self,
        server: &ServerName,
        chosen: Chosen,
        by: &SubjectId,
        at: Timestamp,
    ) -> Result<Vec<Approved>, Failure> {
        let approvals = self.0.approve(server, chosen, by, at).await?;
        Ok(approvals
            .into_iter()
            .map(|approval| Approved {
                kind: approval.kind,
                name: approval.name.as_str().to_owned(),
                changes: changes(approval.old.as_deref(), &approval.new),
            })
            .collect())
    }

    /// Forgets all that was decided about a server, and says how many definitions that were.
    pub(super) async fn forget(&self, server: &ServerName) -> Result<u64, Failure> {
        Ok(self.0.forget(server).await?)
    }
}

impl From<rows::Waiting> for Waiting {
    fn from(row: rows::Waiting) -> Self {
        Self {
            kind: row.kind,
            name: row.name.as_str().to_owned(),
            fingerprint: row.pin.fingerprint,
            why: row.pin.why.as_str().to_owned(),
            flags: row.pin.flags.iter().map(|flag| flag.as_str().to_owned()).collect(),
            since: row.pin.since,
            changes: changes(row.approved.as_deref(), &row.held),
            approved: row.approved,
            held: row.held,
        }
    }
}

/// A definition without a predecessor differs from nothing: all of it is new.
fn changes(old: Option<&RawValue>, new: &RawValue) -> Vec<Change> {
    let nothing = RawValue::from_string("{}".to_owned()).expect("an empty object is JSON");
    diff(old.unwrap_or(&nothing), new)
}
