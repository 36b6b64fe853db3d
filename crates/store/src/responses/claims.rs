//! Calls that somebody agreed to, each of which is to run once.
//!
//! Whoever is about to run one says so first, and only the first to say it may run it. What became of a call that was
//! said and not heard of again nobody knows; it is not run a second time to find out.

use super::{ResponseOwner, Responses, WORD_BYTES_MAX};
use crate::{
    StoreError,
    row::within,
    sql::{Tx, on_both},
};
use jiff::Timestamp;
use std::collections::BTreeSet;

const CLAIM: &str = "INSERT INTO approval_claim (tenant, project, kind, subject, request, expires_at_ms) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
const RELEASE: &str = "DELETE FROM approval_claim WHERE tenant = $1 AND project = $2 AND kind = $3 AND subject = $4 \
     AND request = $5";
const SWEEP: &str = "DELETE FROM approval_claim WHERE expires_at_ms <= $1";

impl Responses {
    /// Says that the calls which these requests for approval asked for are about to run, all or none of it. Gives those
    /// that nobody had said it of before.
    pub async fn claim(
        &self,
        owner: &ResponseOwner,
        requests: BTreeSet<String>,
        expires_at: Timestamp,
    ) -> Result<BTreeSet<String>, StoreError> {
        for request in &requests {
            within("the id of a request for approval", request.len(), WORD_BYTES_MAX)?;
        }
        let input = (owner.clone(), requests, expires_at.as_millisecond());
        self.0
            .write(input, |tx, (owner, requests, expires_at_ms)| {
                Box::pin(claim(tx, owner, requests, *expires_at_ms))
            })
            .await
    }
}

impl Responses {
    /// Takes back that these calls are about to run, since they were refused before they could: whoever agrees to them again
    /// finds them as they were.
    pub async fn release(&self, owner: &ResponseOwner, requests: BTreeSet<String>) -> Result<(), StoreError> {
        let input = (owner.clone(), requests);
        self.0
            .write(input, |tx, (owner, requests)| Box::pin(release(tx, owner, requests)))
            .await
    }
}

async fn release(tx: &mut Tx, owner: &ResponseOwner, requests: &BTreeSet<String>) -> Result<(), StoreError> {
    for request in requests {
        on_both!(&mut *tx, |tx| sqlx::query(RELEASE)
            .bind(owner.tenant.as_str())
            .bind(owner.project_text())
            .bind(owner.kind.as_str())
            .bind(owner.subject.as_str())
            .bind(request)
            .execute(&mut **tx)
            .await
            .map(drop))?;
    }
    Ok(())
}

/// In the order of their ids, so that two that claim the same do not wait for one another.
async fn claim(
    tx: &mut Tx,
    owner: &ResponseOwner,
    requests: &BTreeSet<String>,
    expires_at_ms: i64,
) -> Result<BTreeSet<String>, StoreError> {
    let mut first = BTreeSet::new();
    for request in requests {
        let new = on_both!(&mut *tx, |tx| sqlx::query(CLAIM)
            .bind(owner.tenant.as_str())
            .bind(owner.project_text())
            .bind(owner.kind.as_str())
            .bind(owner.subject.as_str())
            .bind(request)
            .bind(expires_at_ms)
            .execute(&mut **tx)
            .await
            .map(|done| done.rows_affected()))?;
        if new == 1 {
            first.insert(request.clone());
        }
    }
    Ok(first)
}

pub(super) async fn sweep(tx: &mut Tx, now_ms: i64) -> Result<(), StoreError> {
    on_both!(tx, |tx| sqlx::query(SWEEP)
        .bind(now_ms)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    Ok(())
}
