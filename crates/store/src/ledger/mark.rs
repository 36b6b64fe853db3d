//! Whether money was moved, on whichever replica.

use super::Ledger;
use crate::{StoreError, sql::on_both};

/// Movements that are looked at: clocks of replicas differ a little, so that the newest row need not come last.
const NEWEST: &str = "SELECT txn FROM ledger_entry ORDER BY txn DESC, line DESC LIMIT 128";

/// The newest movements as they were at some time; another one once there are more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark(Vec<String>);

impl Ledger {
    /// A value that changes with every movement, on whichever replica.
    pub async fn mark(&self) -> Result<Mark, StoreError> {
        let read = async { on_both!(self.db.pools(), |pool| sqlx::query_scalar(NEWEST).fetch_all(pool).await) };
        self.db.read(read).await.map(Mark)
    }
}
