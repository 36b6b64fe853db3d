//! What was spent, newest first.

use forebay_domain::{
    id::{HoldId, KeyId, ProjectId, SubjectId, TenantId, TraceId},
    ledger::{Payer, Purpose, PurposeKind, TxnKind},
    money::Usd,
};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row};

use super::{
    Ledger,
    rows::{self, PayerRow},
};
use crate::{
    StoreError,
    row::{known, moment},
    sql::{on_both, row_on_both},
};

/// Transactions of a page at most.
pub const TRANSACTIONS_PAGE_MAX: u32 = 1_000;

const COLUMNS: &str = "SELECT tenant, id, at_ms, kind, hold_id, project, key_id, session, subject, purpose_kind, purpose, \
     trace, held, posted, estimated, above_hold, lapsed FROM ledger_txn WHERE tenant = ";

/// What somebody wants to see.
#[derive(Debug, Clone)]
pub struct TransactionQuery {
    pub tenant: TenantId,
    pub project: Option<ProjectId>,
    pub key: Option<KeyId>,
    pub subject: Option<SubjectId>,
    pub purpose: Option<PurposeKind>,
    /// Only what changed what is posted: holds and their ends without cost are left out.
    pub posted_only: bool,
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// The last of the page before.
    pub before: Option<String>,
    pub limit: u32,
}

impl TransactionQuery {
    pub fn of(tenant: TenantId) -> Self {
        Self {
            tenant,
            project: None,
            key: None,
            subject: None,
            purpose: None,
            posted_only: false,
            since: None,
            until: None,
            before: None,
            limit: 100,
        }
    }
}

/// One movement of money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    pub id: String,
    pub at: Timestamp,
    pub kind: TxnKind,
    pub hold: Option<HoldId>,
    pub payer: Payer,
    pub purpose: Purpose,
    pub trace: TraceId,
    /// By how much what is set aside changed.
    pub held: Usd,
    /// By how much what is posted changed.
    pub posted: Usd,
    pub estimated: bool,
    pub above_hold: bool,
    pub lapsed: bool,
}

/// Newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub transactions: Vec<Transaction>,
    /// What to ask for the next page with; the last page has none.
    pub next: Option<String>,
}

impl Ledger {
    /// One page of a tenant's movements.
    pub async fn transactions(&self, query: &TransactionQuery) -> Result<Page, StoreError> {
        if let Some(text) = &query.before
            && (text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            let text = text.chars().take(64).collect();
            return Err(StoreError::Cursor { text });
        }
        let limit = query.limit.clamp(1, TRANSACTIONS_PAGE_MAX);
        let statement = Statement::of(query);
        let rows: Vec<TransactionRow> = self
            .db
            .read(async {
                on_both!(self.db.pools(), |pool| {
                    let mut sql = sqlx::query_as(AssertSqlSafe(statement.sql.clone()));
                    for text in &statement.texts {
                        sql = sql.bind(text);
                    }
                    sql.bind(i64::from(limit) + 1).fetch_all(pool).await
                })
            })
            .await?;
        let mut transactions = Vec::with_capacity(rows.len());
        for row in rows {
            transactions.push(Transaction::try_from(row)?);
        }
        let kept = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_more = transactions.len() > kept;
        transactions.truncate(kept);
        let next = transactions.last().filter(|_| is_more).map(|last| last.id.clone());
        Ok(Page { transactions, next })
    }
}

/// A text, and what stands for its placeholders but the last.
struct Statement {
    sql: String,
    texts: Vec<String>,
}

impl Statement {
    /// Ids begin with their time, so that the times are found by the same index.
    fn of(query: &TransactionQuery) -> Self {
        let first_of = |time: Timestamp| format!("{:012x}", time.as_millisecond().max(0));
        let owned = |text: &str| text.to_owned();
        let conditions = [
            (" AND project = ", query.project.as_ref().map(|id| owned(id.as_str()))),
            (" AND key_id = ", query.key.as_ref().map(|id| owned(id.as_str()))),
            (" AND subject = ", query.subject.as_ref().map(|id| owned(id.as_str()))),
            (" AND purpose_kind = ", query.purpose.map(|kind| owned(kind.as_str()))),
            (" AND id >= ", query.since.map(first_of)),
            (" AND id < ", query.until.map(first_of)),
            (" AND id < ", query.before.clone()),
        ];
        let mut statement = Self {
            sql: format!("{COLUMNS}$1"),
            texts: vec![owned(query.tenant.as_str())],
        };
        for (condition, text) in conditions {
            if let Some(text) = text {
                statement.texts.push(text);
                let number = statement.texts.len().to_string();
                statement.sql.extend([condition, "$", &number]);
            }
        }
        if query.posted_only {
            statement.sql.push_str(" AND posted <> 0");
        }
        let last = (statement.texts.len() + 1).to_string();
        statement.sql.extend([" ORDER BY id DESC LIMIT $", &last]);
        statement
    }
}

/// A row of `ledger_txn`, not yet believed.
struct TransactionRow {
    id: String,
    at_ms: i64,
    kind: String,
    hold_id: Option<String>,
    payer: PayerRow,
    purpose_kind: String,
    purpose: String,
    trace: String,
    held: i64,
    posted: i64,
    estimated: bool,
    above_hold: bool,
    lapsed: bool,
}

row_on_both!(TransactionRow, |row| Ok(Self {
    id: row.try_get("id")?,
    at_ms: row.try_get("at_ms")?,
    kind: row.try_get("kind")?,
    hold_id: row.try_get("hold_id")?,
    payer: sqlx::FromRow::from_row(row)?,
    purpose_kind: row.try_get("purpose_kind")?,
    purpose: row.try_get("purpose")?,
    trace: row.try_get("trace")?,
    held: row.try_get("held")?,
    posted: row.try_get("posted")?,
    estimated: row.try_get("estimated")?,
    above_hold: row.try_get("above_hold")?,
    lapsed: row.try_get("lapsed")?,
}));

impl TryFrom<TransactionRow> for Transaction {
    type Error = StoreError;

    fn try_from(row: TransactionRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            at: moment(row.at_ms)?,
            kind: TxnKind::parse(&row.kind).ok_or_else(|| StoreError::corrupt("the kind of a transaction"))?,
            hold: known("hold", row.hold_id.map(HoldId::try_from).transpose())?,
            payer: row.payer.try_into()?,
            purpose: rows::purpose(&row.purpose_kind, row.purpose)?,
            trace: rows::trace(&row.trace)?,
            held: Usd::from_micros(row.held),
            posted: Usd::from_micros(row.posted),
            estimated: row.estimated,
            above_hold: row.above_hold,
            lapsed: row.lapsed,
        })
    }
}
