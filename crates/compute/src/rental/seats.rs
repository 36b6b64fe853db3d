//! Who looks after the machines of a provider, and what becomes of those whose process is gone.

use super::{Rentals, holder, record::after, sight::readable, state, types::Done};
use forebay_domain::market::Provider;
use jiff::Timestamp;
use std::time::Duration;

/// For how long a seat is taken: longer than a look takes.
const SEAT: Duration = Duration::from_mins(2);
/// Quotes and seats are kept for so long after they are past.
const KEPT: Duration = Duration::from_hours(24);

impl Rentals {
    /// Who looks after the machines of a provider: whoever holds the provider's seat, or the process that they run in.
    pub(super) fn seat(&self, provider: Provider) -> String {
        match provider {
            Provider::Local => format!("{provider}@{}", self.0.holder),
            Provider::Vast | Provider::IoNet | Provider::RunPod => provider.to_string(),
        }
    }

    /// Takes a seat or keeps it, also that of a process of which it is certain that it is no more.
    pub(super) async fn sit(&self, seat: &str, now: Timestamp) -> Done<bool> {
        let until = after(now, SEAT);
        let take = || self.0.store.take_seat(seat, &self.0.holder, now, until);
        if take().await? {
            return Ok(true);
        }
        let held = self.0.store.seats(now).await?;
        let is_dead = |one: &&forebay_store::rentals::Seat| one.seat == seat && holder::is_dead(&one.holder);
        let Some(dead) = held.iter().find(is_dead) else {
            return Ok(false);
        };
        self.0.store.leave_seat(seat, &dead.holder).await?;
        Ok(take().await?)
    }

    /// Machines that ran in processes that are gone are gone with them.
    pub(super) async fn bury_the_dead(&self, now: Timestamp) -> Done<()> {
        let seats = self.0.store.seats(now).await?;
        let is_held = |seat: &str| {
            seats
                .iter()
                .any(|one| one.seat == seat && !holder::is_dead(&one.holder))
        };
        for row in self.0.store.open().await? {
            let is_dead = row.provider == Provider::Local && !is_held(&row.seat);
            for record in readable(is_dead.then_some(row)) {
                let buried = self.change(record, |record| state::gateway_ended(record, now)).await?;
                self.work_on(buried).await?;
            }
        }
        self.0
            .store
            .sweep(now.saturating_sub(KEPT).unwrap_or(Timestamp::MIN))
            .await?;
        Ok(())
    }

    /// Somebody else need not wait for the seats of a process that ends.
    pub(super) async fn leave_seats(&self) {
        for provider in Provider::ALL {
            // Whoever waits for it waits a little longer.
            self.0.store.leave_seat(&self.seat(provider), &self.0.holder).await.ok();
        }
    }
}
