//! Who looks after the machines of a provider, so that replicas do not ask it all at once. Nothing depends on a seat being
//! held by one alone.

use super::Rentals;
use crate::{StoreError, sql::on_both};
use jiff::Timestamp;

/// A seat that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    pub seat: String,
    pub holder: String,
}

const TAKE: &str = "INSERT INTO rental_seat (seat, holder, until_ms) VALUES ($1, $2, $3) \
     ON CONFLICT (seat) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms \
     WHERE rental_seat.holder = excluded.holder OR rental_seat.until_ms <= $4";
const LEAVE: &str = "UPDATE rental_seat SET until_ms = 0 WHERE seat = $1 AND holder = $2";
const TAKEN: &str = "SELECT seat, holder FROM rental_seat WHERE until_ms > $1";
pub(super) const FORGET: &str = "DELETE FROM rental_seat WHERE until_ms <= $1";

impl Rentals {
    /// Takes or keeps a seat until then; whether it is this holder's now.
    pub async fn take_seat(
        &self,
        seat: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let input = (
            seat.to_owned(),
            holder.to_owned(),
            now.as_millisecond(),
            until.as_millisecond(),
        );
        self.0
            .write(input, |tx, (seat, holder, now_ms, until_ms)| {
                Box::pin(async move {
                    let taken = on_both!(tx, |tx| sqlx::query(TAKE)
                        .bind(seat)
                        .bind(holder)
                        .bind(*until_ms)
                        .bind(*now_ms)
                        .execute(&mut **tx)
                        .await
                        .map(|done| done.rows_affected()))?;
                    Ok(taken == 1)
                })
            })
            .await
    }

    /// Gives a seat back, so that somebody else need not wait.
    pub async fn leave_seat(&self, seat: &str, holder: &str) -> Result<(), StoreError> {
        let input = (seat.to_owned(), holder.to_owned());
        self.0
            .write(input, |tx, (seat, holder)| {
                Box::pin(async move {
                    on_both!(tx, |tx| sqlx::query(LEAVE)
                        .bind(seat)
                        .bind(holder)
                        .execute(&mut **tx)
                        .await
                        .map(drop))?;
                    Ok(())
                })
            })
            .await
    }

    /// The seats that somebody holds.
    pub async fn seats(&self, now: Timestamp) -> Result<Vec<Seat>, StoreError> {
        let rows: Vec<(String, String)> = self
            .0
            .read(async {
                on_both!(self.0.pools(), |pool| sqlx::query_as(TAKEN)
                    .bind(now.as_millisecond())
                    .fetch_all(pool)
                    .await)
            })
            .await?;
        let seats = rows.into_iter().map(|(seat, holder)| Seat { seat, holder });
        Ok(seats.collect())
    }
}
