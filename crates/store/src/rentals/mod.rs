//! Machines that were rented: each a row that is there before anybody asks a provider, until all of its money is
//! accounted for.
//!
//! Several may see to one machine at once: the request that rents it, the loop that looks after it, on whichever replica.
//! So a row is only ever written over the [version](StoredRental::version) that was read; whoever is late reads again.
//! A [seat](Rentals::take_seat) keeps replicas from asking one provider all at once; nothing depends on it being held by one
//! alone.

mod quotes;
mod rows;
mod seats;
mod words;

pub use quotes::StoredQuote;
pub use seats::Seat;
pub use words::{Desired, RentalState};

use forebay_domain::{id::TenantId, market::Provider};
use jiff::Timestamp;
use serde_json::value::RawValue;
use std::sync::Arc;

use crate::{
    StoreError,
    db::Db,
    responses::ResponseOwner,
    row::within,
    sql::{Tx, on_both},
};
use rows::RentalRow;

/// Largest body of a row, in bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// Longest word of a row, in bytes.
pub const WORD_BYTES_MAX: usize = 400;
/// Most rentals that one list has.
pub const LIST_MAX: u32 = 1_000;

/// One machine. Times have milliseconds.
#[derive(Debug, Clone)]
pub struct StoredRental {
    pub id: String,
    pub owner: ResponseOwner,
    pub provider: Provider,
    /// Who looks after it: see [`Rentals::take_seat`].
    pub seat: String,
    /// What its provider knows it by, whatever became of its answer.
    pub label: String,
    /// The provider's own id of the offer.
    pub offer: String,
    /// The provider's own id of the machine, once it is known.
    pub machine: Option<String>,
    pub state: RentalState,
    pub desired: Desired,
    /// Whether something is left to be done: to find out, to end, to account for.
    pub open: bool,
    /// Of the token that the machine reports itself with; nothing where it has none, or is gone.
    pub token_hash: Option<[u8; 32]>,
    pub idempotency_key: Option<String>,
    /// What was agreed to before: each is rented once, under whatever key.
    pub quote: Option<String>,
    pub created_at: Timestamp,
    /// How often the row was written.
    pub version: i64,
    /// What nobody searches by; its writer alone reads it.
    pub body: Box<RawValue>,
}

/// Which rentals a list has, newest first.
#[derive(Debug, Clone, Default)]
pub struct RentalQuery {
    /// Of this owner alone.
    pub owner: Option<ResponseOwner>,
    /// Of this tenant alone.
    pub tenant: Option<TenantId>,
    /// Those that are there or may be, and no others.
    pub live: bool,
}

/// What became of a new row.
#[derive(Debug, Clone)]
pub enum Inserted {
    New,
    /// The owner has used this idempotency key, or this quote: what it made then.
    Repeat(Box<StoredRental>),
}

/// The rentals of a store. Cheap to clone.
#[derive(Clone)]
pub struct Rentals(Db);

const INSERT: &str = concat!(
    "INSERT INTO rental (",
    rows::columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) ",
    "ON CONFLICT DO NOTHING"
);
const OF_KEY: &str = concat!(
    "SELECT ",
    rows::columns!(),
    " FROM rental WHERE tenant = $1 AND project = $2 AND kind = $3 AND subject = $4 AND idempotency_key = $5"
);
const OF_QUOTE: &str = concat!("SELECT ", rows::columns!(), " FROM rental WHERE quote = $1");
const SAVE: &str = "UPDATE rental SET machine = $3, state = $4, desired = $5, open = $6, token_hash = $7, body = $8, \
     version = version + 1 WHERE id = $1 AND version = $2";
const GET: &str = concat!("SELECT ", rows::columns!(), " FROM rental WHERE id = $1");
const OF_TOKEN: &str = concat!("SELECT ", rows::columns!(), " FROM rental WHERE token_hash = $1");
const OF_LABEL: &str = concat!("SELECT ", rows::columns!(), " FROM rental WHERE label = $1");
const OPEN: &str = concat!(
    "SELECT ",
    rows::columns!(),
    " FROM rental WHERE open AND seat = $1 ORDER BY id"
);
const ALL_OPEN: &str = concat!("SELECT ", rows::columns!(), " FROM rental WHERE open ORDER BY id");
/// No tenant and no kind of owner is empty: an empty text is for all of them.
const LIST: &str = concat!(
    "SELECT ",
    rows::columns!(),
    " FROM rental WHERE (CAST($1 AS TEXT) = '' OR tenant = $1) \
     AND (CAST($2 AS TEXT) = '' OR (kind = $2 AND project = $3 AND subject = $4)) \
     AND (NOT CAST($5 AS BOOLEAN) OR state NOT IN ('refused', 'gone')) \
     ORDER BY created_at_ms DESC, id DESC LIMIT $6"
);
const MARK: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(version), 0) AS BIGINT) FROM rental WHERE open";
const DRAW_TAG: &str = "INSERT INTO installation (one, tag) VALUES (1, $1) ON CONFLICT (one) DO NOTHING";
const TAG: &str = "SELECT tag FROM installation WHERE one = 1";

impl Rentals {
    pub(crate) fn new(db: Db) -> Self {
        Self(db)
    }

    /// The number that the labels of this installation carry; drawn when it is first asked for.
    pub async fn installation(&self) -> Result<u32, StoreError> {
        let drawn = i64::from(u32::from_le_bytes(self.0.entropy().bytes()));
        let tag = self.0.write(drawn, |tx, drawn| Box::pin(tag(tx, *drawn))).await?;
        u32::try_from(tag).map_err(|_| StoreError::corrupt("the tag of the installation"))
    }

    /// Writes a new row, before anything is asked of anybody.
    pub async fn insert(&self, rental: &StoredRental) -> Result<Inserted, StoreError> {
        check(rental)?;
        self.0
            .write(rental.clone(), |tx, rental| Box::pin(insert(tx, rental)))
            .await
    }

    /// Writes what has changed, unless somebody else has meanwhile: then it is not written, and this says false. What is
    /// written counts one up.
    pub async fn save(&self, rental: &mut StoredRental) -> Result<bool, StoreError> {
        check(rental)?;
        let saved = self
            .0
            .write(rental.clone(), |tx, rental| Box::pin(save(tx, rental)))
            .await?;
        if saved {
            rental.version += 1;
        }
        Ok(saved)
    }

    pub async fn get(&self, id: &str) -> Result<Option<StoredRental>, StoreError> {
        self.one(GET, id).await
    }

    /// What an owner has made under an idempotency key.
    pub async fn of_key(&self, owner: &ResponseOwner, key: &str) -> Result<Option<StoredRental>, StoreError> {
        let row: Option<RentalRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(OF_KEY)
                    .bind(owner.tenant.as_str())
                    .bind(owner.project_text())
                    .bind(owner.kind.as_str())
                    .bind(owner.subject.as_str())
                    .bind(key)
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        row.map(StoredRental::try_from).transpose()
    }

    /// What was rented of a quote.
    pub async fn of_quote(&self, quote: &str) -> Result<Option<StoredRental>, StoreError> {
        self.one(OF_QUOTE, quote).await
    }

    pub async fn of_label(&self, label: &str) -> Result<Option<StoredRental>, StoreError> {
        self.one(OF_LABEL, label).await
    }

    /// The one whose machine reports itself with this token.
    pub async fn of_token(&self, hash: [u8; 32]) -> Result<Option<StoredRental>, StoreError> {
        let row: Option<RentalRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(OF_TOKEN)
                    .bind(hash.to_vec())
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        row.map(StoredRental::try_from).transpose()
    }

    /// All of a seat that something is left to be done for.
    pub async fn open_of(&self, seat: &str) -> Result<Vec<StoredRental>, StoreError> {
        let rows: Vec<RentalRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(OPEN)
                    .bind(seat)
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        rows.into_iter().map(StoredRental::try_from).collect()
    }

    /// All that something is left to be done for, on every seat.
    pub async fn open(&self) -> Result<Vec<StoredRental>, StoreError> {
        let rows: Vec<RentalRow> = self
            .0
            .read(async { on_both!(self.0.pools(), |pool| sqlx::query_as(ALL_OPEN).fetch_all(pool).await) })
            .await?;
        rows.into_iter().map(StoredRental::try_from).collect()
    }

    /// A value that changes with every change of a row that is open, on whichever replica.
    pub async fn mark(&self) -> Result<(i64, i64), StoreError> {
        self.0
            .read(async { on_both!(self.0.pools(), |pool| sqlx::query_as(MARK).fetch_one(pool).await) })
            .await
    }

    /// The newest that fit, at most [`LIST_MAX`].
    pub async fn list(&self, query: &RentalQuery) -> Result<Vec<StoredRental>, StoreError> {
        let owner = query.owner.as_ref();
        let tenant = owner.map(|owner| &owner.tenant).or(query.tenant.as_ref());
        let tenant = tenant.map(TenantId::as_str).unwrap_or_default();
        let rows: Vec<RentalRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(LIST)
                    .bind(tenant)
                    .bind(owner.map(|owner| owner.kind.as_str()).unwrap_or_default())
                    .bind(owner.map(ResponseOwner::project_text).unwrap_or_default())
                    .bind(owner.map(|owner| owner.subject.as_str()).unwrap_or_default())
                    .bind(query.live)
                    .bind(i64::from(LIST_MAX))
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        rows.into_iter().map(StoredRental::try_from).collect()
    }

    /// Forgets quotes that are past, and seats that nobody has held since.
    pub async fn sweep(&self, before: Timestamp) -> Result<(), StoreError> {
        self.0
            .write(before.as_millisecond(), |tx, before_ms| Box::pin(sweep(tx, *before_ms)))
            .await
    }

    async fn one(&self, statement: &'static str, value: &str) -> Result<Option<StoredRental>, StoreError> {
        let row: Option<RentalRow> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(statement)
                    .bind(value)
                    .fetch_optional(pool)
                    .await)
            })
            .await?;
        row.map(StoredRental::try_from).transpose()
    }
}

fn check(rental: &StoredRental) -> Result<(), StoreError> {
    let machine = rental.machine.as_deref().unwrap_or_default();
    let key = rental.idempotency_key.as_deref().unwrap_or_default();
    let quote = rental.quote.as_deref().unwrap_or_default();
    for word in [
        &rental.id,
        &rental.seat,
        &rental.label,
        &rental.offer,
        machine,
        key,
        quote,
    ] {
        within("a word of a rental", word.len(), WORD_BYTES_MAX)?;
    }
    within("what is known of a rental", rental.body.get().len(), BODY_BYTES_MAX)
}

async fn tag(tx: &mut Tx, drawn: i64) -> Result<i64, StoreError> {
    on_both!(&mut *tx, |tx| sqlx::query(DRAW_TAG)
        .bind(drawn)
        .execute(&mut **tx)
        .await
        .map(drop))?;
    let (tag,): (i64,) = on_both!(tx, |tx| sqlx::query_as(TAG).fetch_one(&mut **tx).await)?;
    Ok(tag)
}

async fn insert(tx: &mut Tx, rental: &StoredRental) -> Result<Inserted, StoreError> {
    let new = on_both!(&mut *tx, |tx| sqlx::query(INSERT)
        .bind(&rental.id)
        .bind(rental.owner.tenant.as_str())
        .bind(rental.owner.project_text())
        .bind(rental.owner.kind.as_str())
        .bind(rental.owner.subject.as_str())
        .bind(rental.provider.as_str())
        .bind(&rental.seat)
        .bind(&rental.label)
        .bind(&rental.offer)
        .bind(&rental.machine)
        .bind(rental.state.as_str())
        .bind(rental.desired.as_str())
        .bind(rental.open)
        .bind(rental.token_hash.map(|hash| hash.to_vec()))
        .bind(&rental.idempotency_key)
        .bind(&rental.quote)
        .bind(rental.created_at.as_millisecond())
        .bind(rental.version)
        .bind(rental.body.get())
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected()))?;
    if new == 1 {
        return Ok(Inserted::New);
    }
    let of_key: Option<RentalRow> = on_both!(&mut *tx, |tx| sqlx::query_as(OF_KEY)
        .bind(rental.owner.tenant.as_str())
        .bind(rental.owner.project_text())
        .bind(rental.owner.kind.as_str())
        .bind(rental.owner.subject.as_str())
        .bind(&rental.idempotency_key)
        .fetch_optional(&mut **tx)
        .await)?;
    let earlier = match of_key {
        Some(row) => Some(row),
        None => on_both!(tx, |tx| sqlx::query_as(OF_QUOTE)
            .bind(&rental.quote)
            .fetch_optional(&mut **tx)
            .await)?,
    };
    // Else its id, its label or its token is another's, which nobody draws twice.
    let earlier: RentalRow = earlier.ok_or_else(|| StoreError::Conflict(Arc::new(sqlx::Error::RowNotFound)))?;
    Ok(Inserted::Repeat(Box::new(earlier.try_into()?)))
}

async fn save(tx: &mut Tx, rental: &StoredRental) -> Result<bool, StoreError> {
    let saved = on_both!(tx, |tx| sqlx::query(SAVE)
        .bind(&rental.id)
        .bind(rental.version)
        .bind(&rental.machine)
        .bind(rental.state.as_str())
        .bind(rental.desired.as_str())
        .bind(rental.open)
        .bind(rental.token_hash.map(|hash| hash.to_vec()))
        .bind(rental.body.get())
        .execute(&mut **tx)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(saved == 1)
}

async fn sweep(tx: &mut Tx, before_ms: i64) -> Result<(), StoreError> {
    for statement in [quotes::FORGET, seats::FORGET] {
        on_both!(&mut *tx, |tx| sqlx::query(statement)
            .bind(before_ms)
            .execute(&mut **tx)
            .await
            .map(drop))?;
    }
    Ok(())
}
