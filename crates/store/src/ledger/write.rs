//! Writes what was decided, with a few statements over many rows.

use forebay_domain::ledger::{Changes, Head, HoldRecord, Payer, Purpose, Refunded, Txn};
use forebay_domain::{
    id::{HoldId, KeyId, ProjectId, SessionId, SubjectId},
    ledger::Purse,
};
use std::sync::LazyLock;

use super::rows::purse_name;
use crate::{
    StoreError,
    many::Insert,
    sql::{Tx, on_both},
};

static TXNS: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        "tenant",
        "id",
        "at_ms",
        "kind",
        "hold_id",
        "project",
        "key_id",
        "session",
        "subject",
        "purpose_kind",
        "purpose",
        "trace",
        "held",
        "posted",
        "rate",
        "estimated",
        "above_hold",
        "lapsed",
        "once_key",
    ];
    Insert::new("ledger_txn", &columns, "")
});
static ENTRIES: LazyLock<Insert> =
    LazyLock::new(|| Insert::new("ledger_entry", &["txn", "line", "account", "amount"], ""));
static HOLDS: LazyLock<Insert> = LazyLock::new(|| {
    let columns = [
        "id",
        "state",
        "tenant",
        "project",
        "key_id",
        "session",
        "subject",
        "purpose_kind",
        "purpose",
        "trace",
        "amount",
        "rate",
        "posted",
        "started_at_ms",
        "lapses_at_ms",
    ];
    let tail = " ON CONFLICT (id) DO UPDATE SET state = excluded.state, amount = excluded.amount, \
         rate = excluded.rate, posted = excluded.posted, lapses_at_ms = excluded.lapses_at_ms";
    Insert::new("ledger_hold", &columns, tail)
});
static HEADS: LazyLock<Insert> = LazyLock::new(|| {
    let tail = " ON CONFLICT (name) DO UPDATE SET held = excluded.held, burn = excluded.burn, \
         posted = excluded.posted, last_at_ms = excluded.last_at_ms";
    Insert::new("purse", &["name", "held", "burn", "posted", "last_at_ms"], tail)
});
/// Several times in one millisecond are one row.
static POSTED: LazyLock<Insert> = LazyLock::new(|| {
    let tail = " ON CONFLICT (purse, at_ms) DO UPDATE SET cumulative = excluded.cumulative";
    Insert::new("purse_posted", &["purse", "at_ms", "cumulative"], tail)
});
static REFUNDS: LazyLock<Insert> = LazyLock::new(|| {
    let columns = ["purse", "original_at_ms", "id", "hold_id", "amount"];
    Insert::new("purse_refund", &columns, "")
});

/// Identifiers of rows that are written together: by time, then in their order, and unlike those of any other group.
#[derive(Clone, Copy)]
pub(super) struct Ids {
    /// Which group of this process it is.
    pub group: u32,
    /// What tells this process from others.
    pub process: [u8; 4],
}

impl Ids {
    fn of(self, at_ms: i64, number: usize) -> String {
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        let (group, process) = (self.group, u32::from_be_bytes(self.process));
        format!("{:012x}{group:08x}{number:04x}{process:08x}", at_ms.max(0))
    }
}

pub(super) async fn write(tx: &mut Tx, ids: Ids, changes: &Changes) -> Result<(), StoreError> {
    let numbered = changes.txns.iter().enumerate();
    let txns: Vec<(String, &Txn)> = numbered.map(|(number, txn)| (ids.of(txn.at_ms, number), txn)).collect();
    write_txns(tx, &txns).await?;
    write_entries(tx, &txns).await?;
    write_holds(tx, &changes.holds).await?;
    write_heads(tx, &changes.heads).await?;
    write_posted(tx, &changes.posted).await?;
    write_refunds(tx, ids, &changes.refunded).await
}

async fn write_txns(tx: &mut Tx, rows: &[(String, &Txn)]) -> Result<(), StoreError> {
    for (sql, part) in TXNS.of(tx, rows) {
        on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query(sql);
            for (id, txn) in part {
                let Payer {
                    project,
                    key,
                    session,
                    subject,
                    ..
                } = &txn.payer;
                let Purpose { kind, name } = &txn.purpose;
                query = query
                    .bind(txn.payer.tenant.as_str())
                    .bind(id)
                    .bind(txn.at_ms)
                    .bind(txn.kind.as_str())
                    .bind(txn.hold.as_ref().map(HoldId::as_str))
                    .bind(project.as_ref().map(ProjectId::as_str))
                    .bind(key.as_ref().map(KeyId::as_str))
                    .bind(session.as_ref().map(SessionId::as_str))
                    .bind(subject.as_ref().map(SubjectId::as_str))
                    .bind(kind.as_str())
                    .bind(name)
                    .bind(txn.trace.to_string())
                    .bind(txn.held.micros())
                    .bind(txn.posted.micros())
                    .bind(txn.rate.nanos_per_hour())
                    .bind(txn.estimated)
                    .bind(txn.above_hold)
                    .bind(txn.lapsed)
                    .bind(&txn.key);
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
    }
    Ok(())
}

async fn write_entries(tx: &mut Tx, txns: &[(String, &Txn)]) -> Result<(), StoreError> {
    let mut rows = Vec::with_capacity(2 * txns.len());
    for (id, txn) in txns {
        for (line, entry) in (0_i64..).zip(&txn.entries) {
            rows.push((id, line, entry.account.as_str(), entry.amount.micros()));
        }
    }
    for (sql, part) in ENTRIES.of(tx, &rows) {
        on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query(sql);
            for (id, line, account, amount) in part {
                query = query.bind(*id).bind(line).bind(*account).bind(amount);
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
    }
    Ok(())
}

async fn write_holds(tx: &mut Tx, rows: &[HoldRecord]) -> Result<(), StoreError> {
    for (sql, part) in HOLDS.of(tx, rows) {
        on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query(sql);
            for hold in part {
                let Payer {
                    project,
                    key,
                    session,
                    subject,
                    ..
                } = &hold.payer;
                query = query
                    .bind(hold.id.as_str())
                    .bind(hold.state.as_str())
                    .bind(hold.payer.tenant.as_str())
                    .bind(project.as_ref().map(ProjectId::as_str))
                    .bind(key.as_ref().map(KeyId::as_str))
                    .bind(session.as_ref().map(SessionId::as_str))
                    .bind(subject.as_ref().map(SubjectId::as_str))
                    .bind(hold.purpose.kind.as_str())
                    .bind(&hold.purpose.name)
                    .bind(hold.trace.to_string())
                    .bind(hold.amount.micros())
                    .bind(hold.rate.nanos_per_hour())
                    .bind(hold.posted.micros())
                    .bind(hold.started_at_ms)
                    .bind(hold.lapses_at_ms);
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
    }
    Ok(())
}

async fn write_heads(tx: &mut Tx, rows: &[(Purse, Head)]) -> Result<(), StoreError> {
    for (sql, part) in HEADS.of(tx, rows) {
        on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query(sql);
            for (purse, head) in part {
                query = query
                    .bind(purse_name(purse))
                    .bind(head.held.micros())
                    .bind(head.burn.nanos_per_hour())
                    .bind(head.posted.micros())
                    .bind(head.last_at_ms);
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
    }
    Ok(())
}

async fn write_posted(tx: &mut Tx, rows: &[(Purse, Head)]) -> Result<(), StoreError> {
    for (sql, part) in POSTED.of(tx, rows) {
        on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query(sql);
            for (purse, head) in part {
                query = query
                    .bind(purse_name(purse))
                    .bind(head.last_at_ms)
                    .bind(head.posted.micros());
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
    }
    Ok(())
}

async fn write_refunds(tx: &mut Tx, ids: Ids, refunds: &[Refunded]) -> Result<(), StoreError> {
    let numbered = refunds.iter().enumerate();
    let rows: Vec<(String, &Refunded)> = numbered
        .map(|(number, refund)| (ids.of(refund.original_at_ms, number), refund))
        .collect();
    for (sql, part) in REFUNDS.of(tx, &rows) {
        on_both!(&mut *tx, |tx| {
            let mut query = sqlx::query(sql);
            for (id, refund) in part {
                query = query
                    .bind(purse_name(&refund.purse))
                    .bind(refund.original_at_ms)
                    .bind(id)
                    .bind(refund.hold.as_str())
                    .bind(refund.amount.micros());
            }
            query.execute(&mut **tx).await.map(drop)
        })?;
    }
    Ok(())
}
