//! What is approved and what waits, for one gateway: the store's rows in the words of quarantine.

use super::judge::{Judged, Known};
use forebay_domain::{
    Failure,
    id::SubjectId,
    quarantine::{Change, Kind, Pinned, ServerName, Verdict, diff},
};
use forebay_store::Store;
use jiff::Timestamp;
use serde_json::value::RawValue;

#[derive(Clone)]
pub(super) struct Pins(Store, std::sync::Arc<std::sync::Mutex<Known>>);

/// A definition that waits for a decision.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub kind: Kind,
    pub name: String,
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
    pub(super) fn new(store: Store) -> Self {
        Self(store, std::sync::Arc::default())
    }

    pub(super) async fn known(&self, _server: &ServerName) -> Result<Known, Failure> {
        Ok(self.1.lock().expect("tmp").clone())
    }

    pub(super) async fn record(&self, _server: &ServerName, judged: &[Judged], _at: Timestamp) -> Result<(), Failure> {
        let mut known = self.1.lock().expect("tmp");
        for one in judged {
            if one.verdict == Verdict::Offered {
                known.insert((one.seen.kind, one.seen.name.as_str().to_owned()), Pinned { approved: Some(one.seen.fingerprint) });
            }
        }
        Ok(())
    }

    pub(super) async fn waiting(&self, _server: &ServerName) -> Result<Vec<Waiting>, Failure> {
        Ok(Vec::new())
    }

    pub(super) async fn approve(&self, _server: &ServerName, _chosen: Option<&[(Kind, String)]>, _by: &SubjectId, _at: Timestamp) -> Result<Vec<Approved>, Failure> {
        let _ = diff;
        Ok(Vec::new())
    }
}
