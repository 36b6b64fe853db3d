//! Which resources a session listens to.

use super::Session;
use forebay_domain::{Code, Failure};
use std::{collections::BTreeSet, sync::MutexGuard};

/// Resources to whose changes one session may listen, and bytes of their addresses.
const SUBSCRIPTIONS_MAX: usize = 1000;
const SUBSCRIPTION_BYTES_MAX: usize = 48 << 10;

impl Session {
    /// Its client wants to hear of changes of a resource.
    pub(crate) fn subscribe(&self, uri: &str) -> Result<(), Failure> {
        let mut subscriptions = self.subscriptions();
        let bytes: usize = subscriptions.iter().map(|uri| uri.len() + 3).sum();
        let full = subscriptions.len() >= SUBSCRIPTIONS_MAX || bytes + uri.len() > SUBSCRIPTION_BYTES_MAX;
        if full && !subscriptions.contains(uri) {
            let message = format!(
                "A session listens to {SUBSCRIPTIONS_MAX} resources at most, whose addresses have \
                 {SUBSCRIPTION_BYTES_MAX} bytes together."
            );
            return Err(Failure::new(Code::Overloaded, message).hint("Unsubscribe from some."));
        }
        subscriptions.insert(uri.to_owned());
        Ok(())
    }

    /// True where it listened to that resource.
    pub(crate) fn unsubscribe(&self, uri: &str) -> bool {
        self.subscriptions().remove(uri)
    }

    pub(crate) fn is_subscribed(&self, uri: &str) -> bool {
        self.subscriptions().contains(uri)
    }

    /// Everything whose changes its client wants to hear of.
    pub(crate) fn subscribed(&self) -> BTreeSet<String> {
        self.subscriptions().clone()
    }

    pub(super) fn subscriptions(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.subscriptions
            .lock()
            .expect("nobody panics while holding the subscriptions")
    }
}
