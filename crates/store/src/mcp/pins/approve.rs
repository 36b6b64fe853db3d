//! Approves definitions that wait.
//!
//! Somebody looked at a definition; what waits under its name may be another by now. So a fingerprint can be named, and
//! what does not match it keeps waiting.

use forebay_domain::{id::SubjectId, quarantine::ServerName};

use super::{Approval, Chosen, WAITING, Waiting, limit, lock, rows::WaitingRow};
use crate::{
    StoreError,
    sql::{Tx, on_both},
};

/// What somebody wants approved.
pub(super) struct Wish {
    pub(super) server: ServerName,
    pub(super) chosen: Chosen,
    pub(super) by: SubjectId,
    pub(super) at_ms: i64,
}

/// Rows of one statement.
const ROWS_MAX: usize = 64;

const APPROVE: &str = "UPDATE tool_pin SET approved_fingerprint = held_fingerprint, \
     approved_definition = held_definition, approved_flags = held_flags, approved_bytes = held_bytes, \
     held_fingerprint = NULL, held_definition = NULL, held_flags = NULL, held_bytes = NULL, held_why = NULL, \
     held_at_ms = NULL, decided_at_ms = ";

pub(super) async fn approve(tx: &mut Tx, wish: &Wish) -> Result<Vec<Approval>, StoreError> {
    lock(tx, &wish.server).await?;
    let rows: Vec<WaitingRow> = on_both!(&mut *tx, |tx| sqlx::query_as(WAITING)
        .bind(wish.server.as_str())
        .bind(limit())
        .fetch_all(&mut **tx)
        .await)?;
    let mut approved = Vec::new();
    for row in rows {
        let waiting = Waiting::try_from(row)?;
        if wish.chosen.takes(&waiting) {
            approved.push(Approval {
                kind: waiting.kind,
                name: waiting.name,
                fingerprint: waiting.pin.fingerprint,
                old: waiting.approved,
                new: waiting.held,
            });
        }
    }
    for part in approved.chunks(ROWS_MAX) {
        write(tx, wish, part).await?;
    }
    Ok(approved)
}

impl Chosen {
    fn takes(&self, waiting: &Waiting) -> bool {
        match self {
            Self::All => true,
            Self::These(reviewed) => reviewed.iter().any(|one| {
                let same_text = one.fingerprint.is_none_or(|seen| seen == waiting.pin.fingerprint);
                one.kind == waiting.kind && one.name == waiting.name && same_text
            }),
        }
    }
}

async fn write(tx: &mut Tx, wish: &Wish, approved: &[Approval]) -> Result<(), StoreError> {
    on_both!(tx, |tx| {
        let mut query = sqlx::QueryBuilder::new(APPROVE);
        query.push_bind(wish.at_ms);
        query.push(", decided_by = ").push_bind(wish.by.as_str());
        query.push(" WHERE server = ").push_bind(wish.server.as_str());
        query.push(" AND (kind, name) IN (");
        query.push_values(approved, |mut row, one| {
            row.push_bind(one.kind.as_str()).push_bind(one.name.as_str());
        });
        query.push(")");
        query.build().persistent(false).execute(&mut **tx).await.map(drop)
    })?;
    Ok(())
}
