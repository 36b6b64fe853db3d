//! API keys: looked up by id, compared in constant time, remembered for a short while.
//!
//! What is remembered is forgotten when a key is revoked here, and within a second when it is revoked by another
//! replica (see `loops::revocations`).

use crate::door::per_minute;
use forebay_domain::{Code, Failure, Principal, id::KeyId, key::ApiKey};
use forebay_runtime::{Clock, rate::RateLimiter};
use forebay_store::{Store, keys::StoredKey};
use std::{sync::Arc, time::Duration};
use subtle::ConstantTimeEq;

const REMEMBERED_KEYS_MAX: u64 = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_mins(1);

/// Look-ups a minute of keys that are not remembered: above what any real use needs, and below what would load the
/// database when somebody guesses.
const LOOK_UPS_PER_MINUTE: u32 = 6_000;

/// Turns presented keys into principals.
pub struct KeyRing {
    store: Store,
    clock: Clock,
    remembered: moka::sync::Cache<KeyId, Arc<StoredKey>>,
    look_ups: RateLimiter,
}

impl KeyRing {
    pub fn new(store: Store, clock: Clock) -> Self {
        let remembered = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED_KEYS_MAX)
            .time_to_live(REMEMBERED_FOR)
            .build();
        let look_ups = RateLimiter::new(per_minute(LOOK_UPS_PER_MINUTE), &clock);
        Self {
            store,
            clock,
            remembered,
            look_ups,
        }
    }

    pub async fn principal(&self, presented: &ApiKey) -> Result<Principal, Failure> {
        let stored = match self.remembered.get(presented.id()) {
            Some(stored) => stored,
            None => Box::pin(self.look_up(presented)).await?,
        };
        if !same_secret(&stored, presented) {
            return Err(unknown());
        }
        stored.usable(self.clock.now())?;
        Ok(stored.principal())
    }

    pub fn forget(&self, id: &KeyId) {
        self.remembered.invalidate(id);
    }

    /// Only a key whose secret is right is remembered: guesses must not push real keys out.
    async fn look_up(&self, presented: &ApiKey) -> Result<Arc<StoredKey>, Failure> {
        let verdict = self.look_ups.check("");
        if !verdict.is_allowed() {
            return Err(Failure::new(Code::Overloaded, "Too many unknown keys are being tried.")
                .hint("Try again shortly.")
                .retry_after(verdict.retry_after.unwrap_or(Duration::from_secs(1))));
        }
        let stored = Arc::new(self.store.keys().find(presented.id()).await?.ok_or_else(unknown)?);
        if same_secret(&stored, presented) {
            self.remembered.insert(presented.id().clone(), stored.clone());
        }
        Ok(stored)
    }
}

fn same_secret(stored: &StoredKey, presented: &ApiKey) -> bool {
    bool::from(stored.hash.0.ct_eq(&presented.hash().0))
}

/// The same words for a wrong id and a wrong secret.
fn unknown() -> Failure {
    Failure::new(Code::InvalidKey, "The API key is not known here.")
        .hint("Check that it was copied whole and belongs to this gateway.")
}
