//! Offers as they were promised to somebody.

use forebay_domain::Principal;
use jiff::Timestamp;
use serde_json::value::RawValue;
use sqlx::Row;

use super::{BODY_BYTES_MAX, Rentals, rows::owner};
use crate::{
    StoreError,
    responses::ResponseOwner,
    row::{document, moment, within},
    sql::{on_both, row_on_both},
};

/// A promise; what exactly was promised only its writer reads.
#[derive(Debug, Clone)]
pub struct StoredQuote {
    pub id: String,
    pub owner: ResponseOwner,
    pub expires_at: Timestamp,
    pub body: Box<RawValue>,
}

const PUT: &str = "INSERT INTO rental_quote (id, tenant, project, kind, subject, expires_at_ms, body) \
     VALUES ($1, $2, $3, $4, $5, $6, $7)";
const FIND: &str = "SELECT id, tenant, project, kind, subject, expires_at_ms, body FROM rental_quote \
     WHERE id = $1 AND tenant = $2 AND project = $3 AND kind = $4 AND subject = $5 AND expires_at_ms > $6";
pub(super) const FORGET: &str = "DELETE FROM rental_quote WHERE expires_at_ms <= $1";

impl Rentals {
    pub async fn put_quote(&self, quote: &StoredQuote) -> Result<(), StoreError> {
        within("a quote", quote.body.get().len(), BODY_BYTES_MAX)?;
        self.0
            .write(quote.clone(), |tx, quote| {
                Box::pin(async move {
                    on_both!(tx, |tx| sqlx::query(PUT)
                        .bind(&quote.id)
                        .bind(quote.owner.tenant.as_str())
                        .bind(quote.owner.project_text())
                        .bind(quote.owner.kind.as_str())
                        .bind(quote.owner.subject.as_str())
                        .bind(quote.expires_at.as_millisecond())
                        .bind(quote.body.get())
                        .execute(&mut **tx)
                        .await
                        .map(drop))?;
                    Ok(())
                })
            })
            .await
    }

    /// The caller's own, while it is good.
    pub async fn quote(
        &self,
        id: &str,
        principal: &Principal,
        now: Timestamp,
    ) -> Result<Option<StoredQuote>, StoreError> {
        let owner = ResponseOwner::from(principal);
        let row: Option<QuoteRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(FIND)
                    .bind(id)
                    .bind(owner.tenant.as_str())
                    .bind(owner.project_text())
                    .bind(owner.kind.as_str())
                    .bind(owner.subject.as_str())
                    .bind(now.as_millisecond())
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        row.map(StoredQuote::try_from).transpose()
    }
}

struct QuoteRow {
    id: String,
    tenant: String,
    project: String,
    kind: String,
    subject: String,
    expires_at_ms: i64,
    body: String,
}

row_on_both!(QuoteRow, |row| Ok(Self {
    id: row.try_get("id")?,
    tenant: row.try_get("tenant")?,
    project: row.try_get("project")?,
    kind: row.try_get("kind")?,
    subject: row.try_get("subject")?,
    expires_at_ms: row.try_get("expires_at_ms")?,
    body: row.try_get("body")?,
}));

impl TryFrom<QuoteRow> for StoredQuote {
    type Error = StoreError;

    fn try_from(row: QuoteRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            owner: owner(row.tenant, &row.project, &row.kind, row.subject)?,
            expires_at: moment(row.expires_at_ms)?,
            body: document("a quote", row.body)?,
        })
    }
}
