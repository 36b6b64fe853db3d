//! Checks the audit trail: every chain, row by row, in pages.
//!
//! What it finds: a row that was changed, taken out, moved, added, or cut off the end. What it cannot find alone: a chain
//! that was taken out as a whole together with its head, and one that was rewritten from the start by somebody who knows
//! how. Copies of the heads kept elsewhere show those.

use forebay_domain::{
    event::{ChainHash, Class},
    id::ChainId,
};
use sqlx::AssertSqlSafe;
use std::fmt;

use super::{read::COLUMNS, row::EventRow};
use crate::{StoreError, db::Db, sql::on_both};

const CHAINS_PAGE: i64 = 100;
const ROWS_PAGE: i64 = 500;

/// What a walk over the audit trail found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    pub chains: u64,
    pub rows: u64,
    /// The first thing that is wrong; the walk ends there.
    pub fault: Option<Fault>,
}

impl VerifyReport {
    pub fn is_whole(&self) -> bool {
        self.fault.is_none()
    }
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub chain: String,
    /// Counted from 1.
    pub position: u64,
    pub kind: FaultKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The row's content is not what its hash was taken of.
    Changed,
    /// There is no row at this position, but there are some after it.
    Missing,
    /// The row does not follow the one before it: it, or that one, was moved or replaced.
    Moved,
    /// The chain ends before the length that its head records.
    Truncated { length: u64 },
    /// There is a row beyond the length that the head records.
    Added { length: u64 },
    /// The last row is whole, but the head records another hash.
    HeadDiffers,
    /// There are rows of a chain that has no head.
    Headless,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (chain, position) = (&self.chain, self.position);
        match self.kind {
            FaultKind::Changed => write!(f, "row {position} of chain {chain} was changed after it was written"),
            FaultKind::Missing => write!(f, "row {position} of chain {chain} is missing"),
            FaultKind::Moved => write!(
                f,
                "row {position} of chain {chain} does not follow the row before it: one was moved or replaced"
            ),
            FaultKind::Truncated { length } => {
                write!(f, "chain {chain} ends before row {position}, but had {length} rows")
            }
            FaultKind::Added { length } => write!(
                f,
                "row {position} of chain {chain} was added: the chain has {length} rows"
            ),
            FaultKind::HeadDiffers => write!(
                f,
                "the head of chain {chain} is not the hash of its last row {position}"
            ),
            FaultKind::Headless => write!(f, "chain {chain} has rows, from {position} on, but no head"),
        }
    }
}

pub(super) async fn walk(db: &Db) -> Result<VerifyReport, StoreError> {
    let mut report = VerifyReport {
        chains: 0,
        rows: 0,
        fault: None,
    };
    let mut after = String::new();
    loop {
        let heads = heads_after(db, &after).await?;
        let Some(last) = heads.last() else { break };
        after.clone_from(&last.chain);
        for head in &heads {
            report.chains += 1;
            report.fault = walk_chain(db, head, &mut report.rows).await?;
            if report.fault.is_some() {
                return Ok(report);
            }
        }
    }
    report.fault = headless(db).await?;
    Ok(report)
}

/// The end of a chain, as recorded when its last row was committed.
struct Head {
    chain: String,
    length: i64,
    hash: Vec<u8>,
}

async fn heads_after(db: &Db, after: &str) -> Result<Vec<Head>, StoreError> {
    let rows: Vec<(String, i64, Vec<u8>)> = db
        .read(async {
            on_both!(db.pools(), |pool| sqlx::query_as(
                "SELECT chain_id, length, head_hash FROM audit_chain WHERE chain_id > $1 ORDER BY chain_id LIMIT $2"
            )
            .bind(after)
            .bind(CHAINS_PAGE)
            .fetch_all(pool)
            .await)
        })
        .await?;
    let head = |(chain, length, hash)| Head { chain, length, hash };
    Ok(rows.into_iter().map(head).collect())
}

/// Walks to the length that the head recorded when the walk began; the chain may grow meanwhile.
async fn walk_chain(db: &Db, head: &Head, rows_seen: &mut u64) -> Result<Option<Fault>, StoreError> {
    let fault = |position: i64, kind| {
        Ok(Some(Fault {
            chain: head.chain.clone(),
            position: position.unsigned_abs(),
            kind,
        }))
    };
    let length = head.length.unsigned_abs();
    let Ok(chain) = ChainId::try_from(head.chain.as_str()) else {
        return fault(0, FaultKind::HeadDiffers);
    };
    let mut at = Step {
        chain,
        position: 0,
        hash: ChainHash::GENESIS,
    };
    while at.position < head.length {
        let rows = rows_between(db, &head.chain, at.position, head.length).await?;
        if rows.is_empty() {
            return fault(at.position + 1, FaultKind::Truncated { length });
        }
        for row in &rows {
            *rows_seen += 1;
            match at.next(row) {
                Ok(next) => at = next,
                Err(kind) => return fault(at.position + 1, kind),
            }
        }
    }
    if at.hash.0[..] != head.hash[..] {
        return fault(at.position, FaultKind::HeadDiffers);
    }
    match first_added(db, &head.chain).await? {
        Some((position, length)) => fault(
            position,
            FaultKind::Added {
                length: length.unsigned_abs(),
            },
        ),
        None => Ok(None),
    }
}

/// How far a walk along one chain has come.
#[derive(Clone)]
struct Step {
    chain: ChainId,
    position: i64,
    hash: ChainHash,
}

impl Step {
    /// The next step, if `row` is the one that belongs there.
    fn next(&self, row: &EventRow) -> Result<Self, FaultKind> {
        let position = self.position + 1;
        if row.chain_seq != Some(position) {
            return Err(FaultKind::Missing);
        }
        let same = |stored: &Option<Vec<u8>>, hash: ChainHash| stored.as_deref() == Some(&hash.0[..]);
        if !same(&row.prev_hash, self.hash) {
            return Err(FaultKind::Moved);
        }
        let event = row.event().map_err(|_| FaultKind::Changed)?;
        let hash = ChainHash::next(self.hash, &self.chain, position.unsigned_abs(), &event);
        if event.class != Class::Audit || !same(&row.hash, hash) {
            return Err(FaultKind::Changed);
        }
        Ok(Self {
            chain: self.chain.clone(),
            position,
            hash,
        })
    }
}

async fn rows_between(db: &Db, chain: &str, after: i64, until: i64) -> Result<Vec<EventRow>, StoreError> {
    let sql = format!(
        "SELECT seq, CAST(0 AS BIGINT) AS xid, {COLUMNS} FROM event \
         WHERE chain_id = $1 AND chain_seq > $2 AND chain_seq <= $3 ORDER BY chain_seq LIMIT $4"
    );
    db.read(async {
        on_both!(db.pools(), |pool| sqlx::query_as(AssertSqlSafe(sql))
            .bind(chain)
            .bind(after)
            .bind(until)
            .bind(ROWS_PAGE)
            .fetch_all(pool)
            .await)
    })
    .await
}

/// A row beyond the end, with the length of the chain: one statement, so that a chain that grows is no fault.
async fn first_added(db: &Db, chain: &str) -> Result<Option<(i64, i64)>, StoreError> {
    db.read(async {
        on_both!(db.pools(), |pool| sqlx::query_as(
            "SELECT event.chain_seq, audit_chain.length FROM event JOIN audit_chain USING (chain_id) \
             WHERE chain_id = $1 AND event.chain_seq > audit_chain.length ORDER BY event.chain_seq LIMIT 1"
        )
        .bind(chain)
        .fetch_optional(pool)
        .await)
    })
    .await
}

async fn headless(db: &Db) -> Result<Option<Fault>, StoreError> {
    let row: Option<(String, i64)> = db
        .read(async {
            on_both!(db.pools(), |pool| sqlx::query_as(
                "SELECT chain_id, MIN(chain_seq) FROM event WHERE chain_id IS NOT NULL \
                 AND NOT EXISTS (SELECT 1 FROM audit_chain WHERE audit_chain.chain_id = event.chain_id) \
                 GROUP BY chain_id ORDER BY chain_id LIMIT 1"
            )
            .fetch_optional(pool)
            .await)
        })
        .await?;
    Ok(row.map(|(chain, position)| Fault {
        chain,
        position: position.unsigned_abs(),
        kind: FaultKind::Headless,
    }))
}
