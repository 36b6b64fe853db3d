//! Writes audit events: committed in groups, chained by hash, one chain a process.
//!
//! Whatever waits while one group commits shares the next commit; an idle writer commits at once. The head of the chain is
//! read and moved on in the same transaction as the rows, so no failure and no lost answer can fork the chain.

use forebay_domain::{
    Event,
    event::{ChainHash, Class},
    id::ChainId,
};
use forebay_runtime::Stop;
use sqlx::Row;
use std::sync::Arc;
use tokio::sync::mpsc;

use super::{
    Audit,
    insert::insert,
    row::{EventRow, storable},
};
use crate::{
    StoreError,
    db::Db,
    sql::{Both, Tx, on_both, row_on_both},
};

const GROUP_EVENTS_MAX: usize = 256;

const START: &str = "INSERT INTO audit_chain (chain_id, length, head_hash, started_at_ms) VALUES ($1, 0, $2, $3) \
     ON CONFLICT (chain_id) DO NOTHING";
const HEAD: &str = "SELECT length, head_hash FROM audit_chain WHERE chain_id = $1";
/// Waits for a transaction of ours whose answer was lost, and which may still commit.
const HEAD_LOCKED: &str = "SELECT length, head_hash FROM audit_chain WHERE chain_id = $1 FOR UPDATE";
const ADVANCE: &str = "UPDATE audit_chain SET length = $2, head_hash = $3 WHERE chain_id = $1";

pub(super) struct ChainWriter {
    db: Db,
    queue: mpsc::Receiver<Audit>,
    chain: ChainId,
    started_at_ms: i64,
}

/// One commit's worth of events.
struct Group {
    chain: ChainId,
    started_at_ms: i64,
    events: Vec<Event>,
}

impl ChainWriter {
    /// A new chain, which begins with its first event.
    pub(super) fn new(db: Db, queue: mpsc::Receiver<Audit>) -> Self {
        let number = u128::from_le_bytes(db.entropy().bytes());
        let chain = ChainId::try_from(format!("{number:032x}")).expect("hex digits are an identifier");
        let started_at_ms = db.clock().now().as_millisecond();
        Self {
            db,
            queue,
            chain,
            started_at_ms,
        }
    }

    /// Commits until the store drains and the queue is empty.
    pub(super) async fn run(mut self, stop: Stop) {
        loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                _ = self.queue.recv_many(&mut waiting, GROUP_EVENTS_MAX) => {}
                () = stop.draining(), if !self.queue.is_closed() => {
                    self.queue.close();
                    continue;
                }
            }
            if waiting.is_empty() {
                return;
            }
            self.commit(waiting).await;
        }
    }

    async fn commit(&self, waiting: Vec<Audit>) {
        let (events, callers): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .map(|audit| (storable(audit.event), audit.committed))
            .unzip();
        let count = events.len();
        let group = Arc::new(Group {
            chain: self.chain.clone(),
            started_at_ms: self.started_at_ms,
            events,
        });
        let outcome = self.db.write(group, |tx, group| Box::pin(append(tx, group))).await;
        if outcome.is_ok() {
            self.db.metrics().written(Class::Audit, count);
        }
        for caller in callers {
            // Whoever asked may have gone away.
            caller.send(outcome.clone()).ok();
        }
    }
}

/// Where a chain ends.
struct Head {
    length: i64,
    hash: Vec<u8>,
}

row_on_both!(Head, |row| Ok(Self {
    length: row.try_get("length")?,
    hash: row.try_get("head_hash")?,
}));

async fn append(tx: &mut Tx, group: &Group) -> Result<(), StoreError> {
    let chain = group.chain.as_str();
    on_both!(tx, |tx| sqlx::query(START)
        .bind(chain)
        .bind(&ChainHash::GENESIS.0[..])
        .bind(group.started_at_ms)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    let head: Head = match tx {
        Both::Sqlite(tx) => sqlx::query_as(HEAD).bind(chain).fetch_one(&mut **tx).await?,
        Both::Postgres(tx) => sqlx::query_as(HEAD_LOCKED).bind(chain).fetch_one(&mut **tx).await?,
    };
    let (rows, head) = link(group, head)?;
    insert(tx, &rows).await?;
    on_both!(tx, |tx| sqlx::query(ADVANCE)
        .bind(chain)
        .bind(head.length)
        .bind(&head.hash)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    Ok(())
}

/// The rows of a group after `head`, and the head after them.
fn link(group: &Group, head: Head) -> Result<(Vec<EventRow>, Head), StoreError> {
    let mut length = head.length;
    let hash = head
        .hash
        .try_into()
        .map_err(|_| StoreError::corrupt("the head of an audit chain"))?;
    let mut last = ChainHash(hash);
    let mut rows = Vec::with_capacity(group.events.len());
    for event in &group.events {
        length += 1;
        let event = Event {
            class: Class::Audit,
            ..event.clone()
        };
        let next = ChainHash::next(last, &group.chain, length.unsigned_abs(), &event);
        rows.push(EventRow {
            chain_id: Some(group.chain.to_string()),
            chain_seq: Some(length),
            prev_hash: Some(last.0.to_vec()),
            hash: Some(next.0.to_vec()),
            ..EventRow::new(&event)
        });
        last = next;
    }
    let head = Head {
        length,
        hash: last.0.to_vec(),
    };
    Ok((rows, head))
}
